"""What happens once when Python starts in the VM, and once when the VM halts."""

from __future__ import annotations

import _signal
import _thread
import sys
import threading

import _pythonx

TYPE_CHECKING = False  # these take longer to import than everything else here, importlib.abc above all
if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any, NoReturn

# As it is before gevent replaces it with one that runs greenlets while it waits.
allocate_lock = _thread.allocate_lock


def boot(sys_paths: list[str], interrupt_signal: int) -> None:
    """Make this interpreter fit to live in the VM. Runs on Python's main thread."""
    from pythonx import _exit, _package, _signals, _streams

    sys.path.extend(sys_paths)
    _package.remember_path()
    # CPython would forget the interrupt's handler, and take another thread for the main one.
    _package.keep(_signal, threading)
    _streams.install()
    _streams.install_thread_hooks()
    _signal.signal(interrupt_signal, _pythonx.on_interrupt)
    _signals.install(interrupt_signal)
    hooks = _AfterImport(
        {
            "_sqlite3": _pythonx.watch_sqlite,
            "asyncio": _keep_asyncio,
            "atexit": _exit.replace,
            "faulthandler": _signals.guard_faulthandler,
            "gevent.hub": _pythonx.use_hub,
            "greenlet._greenlet": _pythonx.use_greenlets,
            "inspect": lambda module: _sources().hook_inspect(module),
            "linecache": lambda module: _sources().hook_linecache(module),
            "multiprocessing.context": _spawn_by_default,
            "multiprocessing.reduction": lambda module: _spawning().hook_reduction(module),
            "multiprocessing.spawn": lambda module: _spawning().hook_spawn(module),
            "multiprocessing.pool": lambda module: _spawning().hook_pool(module),
        }
    )
    _package.add_finders(InterruptPoint, hooks)
    hooks.act_on_imported()


def call_after_loading(function: Callable[[], None]) -> None:
    """Call a function now, and whenever an extension module may have brought libraries along."""
    import _imp

    def then(load: Callable[..., Any]) -> Callable[..., Any]:
        def load_and_call(*args: Any) -> Any:
            try:
                return load(*args)
            finally:
                function()

        return load_and_call

    function()
    _imp.create_dynamic, _imp.exec_dynamic = then(_imp.create_dynamic), then(_imp.exec_dynamic)


def end_fork(error: BaseException | None) -> NoReturn:
    """End a copy of this process, made by os.fork(), whose code has run to its end: as Python does with a script."""
    import os

    from pythonx import _exit

    status = 0
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    elif error is not None:
        status = 1
        sys.excepthook(type(error), error, error.__traceback__)
    try:
        _exit.farewell()
    finally:
        os._exit(status & 0xFF)


def _sources() -> Any:
    from pythonx import _sources

    return _sources


def _spawning() -> Any:
    from pythonx import _spawning

    return _spawning


def _spawn_by_default(context: ModuleType) -> None:
    """A forked copy of this process would hold the VM's memory without its threads, so children are spawned."""
    default = context._default_context
    default._default_context = context._concrete_contexts["spawn"]


def _keep_asyncio(_asyncio: ModuleType) -> None:
    """Let the event loop be made of asyncio as it is now, before anybody replaces parts of it.

    Imported anew without its submodules, it would fail.
    """
    from pythonx import _event_loop, _package  # noqa: F401

    _package.keep(
        *[module for name, module in list(sys.modules.items()) if (name + ".").startswith("asyncio.")]
    )


class InterruptPoint:
    """Finds no module. Imports are where code on other threads than the main one takes an interrupt, once it is due."""

    find_spec = staticmethod(_pythonx.interrupt_point)


class _AfterImport:
    """Calls a function on a module right after each of its imports, so that nothing is imported just to be set up."""

    def __init__(self, actions: dict[str, Callable[[ModuleType], None]]) -> None:
        self._actions = actions

    def act_on_imported(self) -> None:
        """Act on what has been imported already."""
        for name, action in self._actions.items():
            if name in sys.modules:
                action(sys.modules[name])

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        action = self._actions.get(name)
        if action is None:
            return None
        for finder in sys.meta_path:
            spec = None if finder in (self, InterruptPoint) else finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _ActingLoader(spec.loader, action)
                return spec
        return None


class _ActingLoader:
    def __init__(self, loader: Any, action: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._action = action

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._action(module)


assert threading.main_thread() is threading.current_thread(), "Python must be booted on its main thread"
