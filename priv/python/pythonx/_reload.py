"""Loading changed files again, into the modules that live.

A new version of a module runs in a namespace of its own, which begins as a copy of the last one. If that fails, nothing
has happened. Otherwise the module is given the new namespace in one step. Functions of earlier versions keep theirs:
a call that runs goes on with the code it began with, helpers included.

Classes keep their identity: what the new version of one defines is put into the old one, so that instances have the new
methods and `isinstance` goes on to be true. Where Python does not allow that (other slots, an enum, bases of another
layout) the new class takes the place of the old one, whose instances stay as they are.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import os
import sys
import threading
import traceback
import types

from pythonx import _files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_SPACE = "__pythonx_namespace__"
_lock = threading.Lock()
# How long a call waits for a reload that another one does. That may itself be waiting for Elixir code, and this call be
# what that waits for.
_patience = 1
# What the files were like whose last version could not be loaded, so that it is told once.
_failed: dict[str, Any] = {}

# Of a class, what belongs to the very object.
_SLOTS = (types.MemberDescriptorType, types.GetSetDescriptorType)
_OWN = frozenset(
    ("__dict__", "__weakref__", "__module__", "__qualname__", "__name__", "_abc_impl", "__slots__")
)


class LiveModule(types.ModuleType):
    """A module whose namespace can be exchanged."""

    def __getattribute__(self, name: str) -> Any:
        names = _own_dict(self).get(_SPACE)
        if names is None:
            return super().__getattribute__(name)
        if name == "__dict__":
            return names
        if name in names:
            return names[name]
        if name == "__class__":
            return LiveModule
        # What is here is what was there at first, and may be gone. What is missing is asked of `__getattr__` below.
        if name in _own_dict(self):
            raise AttributeError(name)
        return object.__getattribute__(self, name)

    def __getattr__(self, name: str) -> Any:
        getter = vars(self).get("__getattr__")
        if getter is None:
            raise AttributeError(
                f"module {vars(self).get('__name__')!r} has no attribute {name!r}", name=name, obj=self
            )
        return getter(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "__class__":
            super().__setattr__(name, value)
        else:
            vars(self)[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del vars(self)[name]
        except KeyError:
            raise AttributeError(name) from None

    def __dir__(self) -> list[str]:
        return sorted(vars(self))


def _own_dict(module: types.ModuleType) -> dict[str, Any]:
    return types.ModuleType.__getattribute__(module, "__dict__")


def check() -> list[tuple[str, str | None]]:
    """Load again what has changed. Return the names of these modules, each with None or the text of what it raised."""
    changed = [name for name, module in list(_files.loaded.items()) if _is_changed(name, module)]
    if not changed:
        return []
    if not _lock.acquire(timeout=_patience):
        return []
    try:
        # Somebody else may have done it meanwhile.
        return [
            (name, reload(module)) for name in changed if _is_changed(name, module := _files.loaded[name])
        ]
    finally:
        _lock.release()


def watch(paths: list[bytes]) -> None:
    """Take what was imported from these folders before for loaded as it is now."""
    folders = [os.fsdecode(path) for path in paths]
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if (
            isinstance(file, str)
            and file.endswith(".py")
            and name not in _files.loaded
            and any(file.startswith(folder + "/") for folder in folders)
        ):
            loader = _files.Loader(name, file)
            loader.path_stats(file)
            module.__loader__ = module.__spec__.loader = loader
            _files.loaded[name] = module


def _is_changed(name: str, module: types.ModuleType) -> bool:
    if sys.modules.get(name) is not module:
        _files.loaded.pop(name, None)
        return False
    loader = module.__loader__
    before = getattr(loader, "stats", None)
    try:
        now = _files.Loader.__base__.path_stats(loader, loader.path)
    except OSError:
        # Editors move the new file to its place: between the two there is none. One that is gone stays loaded.
        return False
    return before is not None and now != before and _failed.get(name) != now


def reload(module: types.ModuleType) -> str | None:
    """Load a module's file again. Return None, or the text of what its new version raised."""
    loader = module.__loader__
    name = module.__name__
    now = None
    try:
        now = _files.Loader.__base__.path_stats(loader, loader.path)
        code = compile(loader.get_data(loader.path), loader.path, "exec", dont_inherit=True)
        replace(module, code)
    except Exception as error:
        _failed[name] = now
        return _describe(error)
    _failed.pop(name, None)
    loader.stats = now
    return None


def _describe(error: BaseException) -> str:
    # The frames of this file say nothing to whoever has to mend theirs.
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames)).rstrip("\n")


def replace(module: types.ModuleType, code: types.CodeType) -> None:
    """Give a module the namespace that its new code makes. Raises what the code raises, and has done nothing then."""
    before = vars(module)
    names = dict(before)
    names.pop(_SPACE, None)
    exec(code, names)
    _forget(before, names, code)
    for name, old in list(before.items()):
        new = names.get(name)
        if isinstance(old, type) and isinstance(new, type) and new is not old and _merge(old, new, before):
            names[name] = old
            _adopt(names, old, new)
    if type(module) is not LiveModule:
        module.__class__ = LiveModule
    _own_dict(module)[_SPACE] = names
    _tell_others(module, before, names)


def _forget(before: dict[str, Any], names: dict[str, Any], code: types.CodeType) -> None:
    """Drop functions and classes that the new code does not mention any more."""
    own = before.get("__name__")
    for name, value in before.items():
        if (
            isinstance(value, (types.FunctionType, type))
            and value.__module__ == own
            and name not in code.co_names
            and names.get(name) is value
        ):
            del names[name]


def _adopt(names: dict[str, Any], old: type, new: type) -> None:
    """Make what the new code has made of the new class one of the old: what it holds in its global names."""
    for value in names.values():
        if type(value) is new:
            with contextlib.suppress(TypeError):
                value.__class__ = old


def _tell_others(module: types.ModuleType, before: dict[str, Any], names: dict[str, Any]) -> None:
    """Replace in the other modules what they have by `from ... import`."""
    replaced = {
        id(value): names[name]
        for name, value in before.items()
        if isinstance(value, (types.FunctionType, type))
        and name in names
        and names[name] is not value
        and getattr(value, "__module__", None) == before.get("__name__")
    }
    if not replaced:
        return
    for other in list(_files.loaded.values()):
        if other is not module:
            space = vars(other)
            for name, value in list(space.items()):
                if id(value) in replaced:
                    space[name] = replaced[id(value)]


def _merge(old: type, new: type, before: dict[str, Any]) -> bool:
    """Put what a new version of a class defines into the old one, if that can be done."""
    if (
        type(old) is not type(new)
        or old.__module__ != new.__module__
        or isinstance(old, enum.EnumMeta)
        or old.__dict__.get("__slots__") != new.__dict__.get("__slots__")
        or old.__module__ != before.get("__name__")
        or new.__qualname__ != old.__qualname__
    ):
        return False
    bases = tuple(_living(base, before) for base in new.__bases__)
    if bases != old.__bases__:
        try:
            old.__bases__ = bases
        except TypeError:
            return False
    saved = dict(vars(old))
    try:
        for key in [key for key in saved if key not in vars(new) and key not in _OWN]:
            _change(delattr, old, key)
        for key, value in list(vars(new).items()):
            if key not in _OWN and not isinstance(value, _SLOTS):
                for function in _functions(value):
                    _rebind(function, old, new)
                _change(setattr, old, key, value)
    except (AttributeError, TypeError):
        for key, value in saved.items():
            if key not in _OWN and vars(old).get(key) is not value:
                setattr(old, key, value)
        return False
    return True


def _living(base: type, before: dict[str, Any]) -> type:
    """Return the class that lives, for one that the new code has made or a stranger."""
    found = before.get(base.__name__)
    if (
        isinstance(found, type)
        and found.__module__ == base.__module__
        and found.__qualname__ == base.__qualname__
    ):
        return found
    return base


def _change(function: Any, *args: Any) -> None:
    try:
        function(*args)
    except (AttributeError, TypeError):
        # Of what is Python's own, some cannot be set.
        if not args[1].startswith("__"):
            raise


def _functions(value: Any) -> Iterator[types.FunctionType]:
    if isinstance(value, types.FunctionType):
        yield value
        inner = getattr(value, "__wrapped__", None)
        if inner is not None:
            yield from _functions(inner)
    elif isinstance(value, (staticmethod, classmethod)):
        yield from _functions(value.__func__)
    elif isinstance(value, property):
        for part in (value.fget, value.fset, value.fdel):
            yield from _functions(part)
    elif isinstance(value, functools.cached_property):
        yield from _functions(value.func)


def _rebind(function: types.FunctionType, old: type, new: type) -> None:
    """Have `super()` in a method of the new class mean the old one, which it is a method of now."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if name == "__class__" and cell.cell_contents is new:
            cell.cell_contents = old
