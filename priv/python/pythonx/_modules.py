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
_PACKED = "$pythonx"


class _TextLoader:
    """Stands for what a module was made of, for tracebacks and `inspect`."""

    def __init__(self, source: str, owner: str, version: int) -> None:
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


def define(name: Any, file: Any, line: int, source: Any, owner: Any, version: int) -> types.ModuleType:
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

    name, file, owner = _text(name), _text(file), _text(owner)
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


def call(
    source: list[Any], path: str, args: list[Any], kwargs: dict[str, Any], encoded: list[Any], rich: bool
) -> Any:
    """Call a function of a module, in a worker of a pool.

    `encoded` are the arguments that are `bytes`, as Base64. With `rich` the result is as `types: :rich` has it.
    """
    args, kwargs = _arguments(source, args, kwargs, encoded)
    result = find(source, path)(*args, **kwargs)
    return as_rich(result) if rich else result


def call_method(
    source: list[Any],
    target: Any,
    name: str,
    args: list[Any],
    kwargs: dict[str, Any],
    encoded: list[Any],
    rich: bool,
) -> Any:
    """Call a method of an object, in a worker of a pool."""
    args, kwargs = _arguments(source, args, kwargs, encoded)
    result = getattr(_unpack(source, target), name)(*args, **kwargs)
    return as_rich(result) if rich else result


def get(source: list[Any], target: Any, name: str, rich: bool) -> Any:
    """Read a property of an object, in a worker of a pool."""
    result = getattr(_unpack(source, target), name)
    return as_rich(result) if rich else result


def _arguments(source: list[Any], args: list[Any], kwargs: dict[str, Any], encoded: list[Any]) -> Any:
    for place in encoded:
        where: Any = args if isinstance(place, int) else kwargs
        where[place] = base64.b64decode(where[place])
    return _unpack(source, args), _unpack(source, kwargs)


def _unpack(source: list[Any], value: Any) -> Any:
    """Make the objects that Elixir has structs for, and has described in dicts of this key."""
    if type(value) is list:
        return [_unpack(source, item) for item in value]
    if type(value) is tuple:
        return tuple(_unpack(source, item) for item in value)
    if type(value) is not dict:
        return value
    if len(value) == 1 and _PACKED in value:
        kind, *fields = value[_PACKED]
        if kind == "data":
            return find(source, fields[0])(**_unpack(source, fields[1]))
        from pythonx import _types

        return _types.build([(kind, *fields)])[0]
    return {key: _unpack(source, item) for key, item in value.items()}


def as_rich(value: Any, convert: Any = None) -> Any:
    """Return a value in which the types that Elixir has structs for are those structs."""
    if convert is None:
        from pythonx import _types

        convert = _types.converter(True, True)
    kind = type(value)
    if value is None or kind in (bool, int, float, str, bytes):
        return value
    if kind in (list, tuple, set, frozenset):
        return kind(as_rich(item, convert) for item in value)
    if kind is dict:
        return {as_rich(key, convert): as_rich(item, convert) for key, item in value.items()}
    converted = convert(value)
    return value if converted is NotImplemented else as_rich(converted, convert)


def take(iterator: Any, count: int, rich: bool) -> tuple[list[Any], bool]:
    """Return the next elements, and whether there may be more."""
    found = []
    for _ in range(count):
        try:
            element = next(iterator)
            found.append(as_rich(element) if rich else element)
        except StopIteration:
            return found, False
    return found, True


def described(how: Any, name: Any, file: Any = b"", source: Any = b"") -> dict[str, Any]:
    """Describe a module, as `_describe.py` does."""
    from pythonx import _signatures

    if _text(how) == "text":
        return _signatures.describe_text(_text(source), _text(file), _text(name))
    return _signatures.describe_module(_text(name))
