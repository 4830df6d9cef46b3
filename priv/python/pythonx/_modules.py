"""The modules behind `Pythonx.Module`: made of texts, and called in the workers of pools."""

from __future__ import annotations

import base64
import importlib
import os
import sys
import threading
import types

from pythonx import _files, _reload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from typing import Any

_lock = threading.RLock()


class _TextLoader:
    """Stands for what a module was made of, for tracebacks and `inspect`."""

    def __init__(self, source: str, owner: str, version: str) -> None:
        self.source, self.owner, self.version = source, owner, version

    def get_source(self, name: str) -> str:
        return self.source

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        exec(_compile(self.source, module.__file__), vars(module))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _compile(source: str, file: str | None) -> types.CodeType:
    return compile(source, file or "<string>", "exec", dont_inherit=True)


def define(name: Any, file: Any, line: int, source: Any, owner: Any, version: Any) -> types.ModuleType:
    """Return the module of a text; make it, or give the one that there is its new version.

    Args:
        name: The module's name.
        file: The file that the text stands in.
        line: The line of its beginning.
        source: The text.
        owner: The module of Elixir's whose it is.
        version: Tells texts apart.
    """
    from importlib.machinery import ModuleSpec

    name, file, owner, version = _text(name), _text(file), _text(owner), _text(version)
    with _lock:
        module = sys.modules.get(name)
        loader = getattr(module, "__loader__", None)
        if module is not None and getattr(loader, "version", None) == version:
            return module
        if module is not None and getattr(loader, "owner", None) != owner:
            raise ImportError(
                f"there is a Python module {name} already, which is {_description(module)}: "
                f"{owner} needs another name for its own, see the option :as of Pythonx.Module",
                name=name,
            )
        text = "\n" * (line - 1) + _text(source)
        code = _compile(text, file)
        if module is None:
            module = types.ModuleType(name)
            module.__file__ = file
            _fill(module, name, _TextLoader(text, owner, version), ModuleSpec)
            sys.modules[name] = module
            try:
                exec(code, vars(module))
            except BaseException:
                del sys.modules[name]
                raise
        else:
            _reload.replace(module, code)
            _fill(module, name, _TextLoader(text, owner, version), ModuleSpec)
        return module


def _fill(module: types.ModuleType, name: str, loader: _TextLoader, spec: Any) -> None:
    module.__loader__ = loader
    module.__spec__ = spec(name, loader, origin=module.__file__)
    module.__spec__.has_location = True


def _description(module: types.ModuleType) -> str:
    owner = getattr(getattr(module, "__loader__", None), "owner", None)
    return f"that of {owner}" if owner else str(getattr(module, "__file__", None) or "a part of Python")


def file_of(module: types.ModuleType) -> str | None:
    """Return the file of a module."""
    file = getattr(module, "__file__", None)
    return os.path.abspath(file) if file else None


def _module(source: list[Any]) -> types.ModuleType:
    if source[0] == "text":
        return define(*source[1:])
    if source[0] == "folder" and source[2] not in _files._folders:
        _files.add([os.fsencode(source[2])], os.fsencode(_files._cache))
    return importlib.import_module(source[1])


def find(source: list[Any], path: str) -> Any:
    """Return a function, class or method of a module, in a worker of a pool."""
    found: Any = _module(source)
    for name in path.split("."):
        found = getattr(found, name)
    return found


def call(source: list[Any], path: str, args: list[Any], kwargs: dict[str, Any], encoded: list[Any]) -> Any:
    """Call a function of a module, in a worker of a pool. `encoded` are the arguments that are `bytes`, as Base64."""
    for place in encoded:
        where = args if isinstance(place, int) else kwargs
        where[place] = base64.b64decode(where[place])
    return find(source, path)(*args, **kwargs)


def call_method(target: Any, name: str, args: list[Any], kwargs: dict[str, Any], encoded: list[Any]) -> Any:
    """Call a method of an object, in a worker of a pool."""
    for place in encoded:
        where = args if isinstance(place, int) else kwargs
        where[place] = base64.b64decode(where[place])
    return getattr(target, name)(*args, **kwargs)


def take(iterator: Any, count: int) -> tuple[list[Any], bool]:
    """Return the next elements, and whether there may be more."""
    found = []
    for _ in range(count):
        try:
            found.append(next(iterator))
        except StopIteration:
            return found, False
    return found, True


def described(how: Any, name: Any, file: Any = b"", source: Any = b"") -> dict[str, Any]:
    """Describe a module, as `_describe.py` does."""
    from pythonx import _signatures

    if _text(how) == "text":
        return _signatures.describe_text(_text(source), _text(file), _text(name))
    return _signatures.describe_module(_text(name))
