"""How the modules of this package are loaded: once, and so that code cannot take them away.

Code that is evaluated may remove modules from `sys.modules` (reloaders and tests do), empty `sys.meta_path`, or replace
functions in `builtins`. What runs evaluations goes on all the same: its modules are kept here, the native side asks for
them here, and they have builtins of their own, as they were when Python started. An import finds the kept module, and
`importlib.reload` leaves it as it is.

The native side runs this file before anything of the package is imported, as `__builtins__` has to be given to each
module.
"""

from __future__ import annotations

import _frozen_importlib
import _frozen_importlib_external
import _imp
import _thread
import builtins
import sys

TYPE_CHECKING = False  # these take longer to import than everything else here
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

_PACKAGE = "pythonx"

_folder = ""
_kept: dict[str, ModuleType] = {}
_initial: dict[str, Any] = {}
_lock = _thread.RLock()


def install(folder: str, this: ModuleType) -> None:
    """Find the package in its folder, which is not on `sys.path`, from here on. `this` is what this file makes."""
    global _folder
    import _pythonx

    _folder = folder
    keep(sys, builtins, _imp, _frozen_importlib, _frozen_importlib_external, _pythonx, this)
    _initial.update(
        builtins=dict(vars(builtins)),
        meta_path=list(sys.meta_path),
        path_hooks=list(sys.path_hooks),
        path=list(sys.path),
        modules=sys.modules,
        recursion_limit=sys.getrecursionlimit(),
        switch_interval=sys.getswitchinterval(),
    )
    sys.meta_path.insert(0, Finder)


def keep(*modules: ModuleType) -> None:
    """Find these modules as they are, should they be imported again: made anew, they would not work as they do."""
    _kept.update({module.__name__: module for module in modules})


def load(name: str) -> ModuleType:
    """Return a module of the package, or another that the native side uses, whatever has become of `sys.modules`."""
    module = _kept.get(name)
    if module is None:
        with _lock:
            undo()
            if sys.modules.get(name) is None:
                sys.modules.pop(name, None)  # None there forbids the import
            call_unharmed(_frozen_importlib._gcd_import, name)
            module = _kept[name] = sys.modules[name]
    return module


class Finder:
    """Finds what is kept, and the modules of the package."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return how to find a module; None for one that is none of ours."""
        if name == _PACKAGE or name.startswith(_PACKAGE + "."):
            return _spec(name)
        if name in _kept:
            return _frozen_importlib.ModuleSpec(name, _KeptLoader, origin=_origin(_kept[name]))
        return None


def _origin(module: ModuleType) -> str | None:
    return getattr(getattr(module, "__spec__", None), "origin", None)


def _spec(name: str) -> ModuleSpec | None:
    inner = name.split(".")[1:]
    if len(inner) > 1:
        return None
    file = "/".join([_folder, _PACKAGE, *(inner or ["__init__"])]) + ".py"
    try:
        _frozen_importlib_external._path_stat(file)
    except OSError:
        return None
    locations = None if inner else [f"{_folder}/{_PACKAGE}"]
    return _frozen_importlib_external.spec_from_file_location(
        name, file, loader=_Loader(name, file), submodule_search_locations=locations
    )


class _Loader(_frozen_importlib_external.SourceFileLoader):
    """Loads a module of the package, once."""

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return _kept.get(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ not in _kept:
            module.__dict__["__builtins__"] = _initial["builtins"]
            super().exec_module(module)
            _kept[module.__name__] = module


class _KeptLoader:
    """Gives a module as it is."""

    @staticmethod
    def create_module(spec: ModuleSpec) -> ModuleType:
        return _kept[spec.name]

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        """Do nothing."""


# --- What code may leave behind ---------------------------------------------------------------------------------------


def undo() -> None:
    """Put back what no code can do without, where something of it is missing.

    The native side calls this when an evaluation has ended that has left it so; see leftovers.hpp.
    """
    if getattr(sys, "modules", None) is not _initial["modules"]:
        sys.modules = _initial["modules"]
    for name in ("meta_path", "path_hooks", "path"):
        if type(getattr(sys, name, None)) is not list:
            setattr(sys, name, [])
    sys.meta_path.extend(finder for finder in _initial["meta_path"] if finder not in sys.meta_path)
    if Finder not in sys.meta_path:
        sys.meta_path.insert(0, Finder)
    if not sys.path_hooks:
        sys.path_hooks.extend(_initial["path_hooks"])
        # What was looked at without them counts as a folder that holds no modules.
        sys.path_importer_cache = {}
    if not sys.path:
        sys.path.extend(_initial["path"])
    for name, value in _initial["builtins"].items():
        vars(builtins).setdefault(name, value)
    if sys.getrecursionlimit() < _initial["recursion_limit"]:
        sys.setrecursionlimit(_initial["recursion_limit"])
    if sys.getswitchinterval() != _initial["switch_interval"]:
        sys.setswitchinterval(_initial["switch_interval"])


def call_unharmed(function: Any, *args: Any) -> Any:
    """Call a function with Python's own builtins, should code have replaced some."""
    names = vars(builtins)
    initial = _initial["builtins"]
    replaced = {
        name: names.get(name, initial[name]) for name in initial if names.get(name) is not initial[name]
    }
    names.update((name, initial[name]) for name in replaced)
    try:
        return function(*args)
    finally:
        names.update(replaced)


def add_finders(*finders: Any) -> None:
    """Put finders before all others, now and when they are put back."""
    sys.meta_path[:0] = finders
    _initial["meta_path"][:0] = finders


def remember_path() -> None:
    """Take `sys.path` as it is now for what it is at first."""
    _initial["path"] = list(sys.path)


def extend_path(folder: str) -> None:
    """Add a folder to `sys.path`, now and when it is put back."""
    for path in (sys.path, _initial["path"]):
        if folder not in path:
            path.append(folder)


def add_hook(hook: Any) -> None:
    """Put a hook before all others, now and when it is put back."""
    sys.path_hooks.insert(0, hook)
    _initial["path_hooks"].insert(0, hook)
