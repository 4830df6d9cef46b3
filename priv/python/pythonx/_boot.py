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


def boot(sys_paths: list[str], interrupt_signal: int) -> None:
    """Make this interpreter fit to live in the VM. Runs on Python's main thread."""
    from pythonx import _streams

    sys.path.extend(sys_paths)
    _streams.install()
    _streams.install_thread_hooks()
    _signal.signal(interrupt_signal, _pythonx.on_interrupt)
    actions = {
        "multiprocessing.context": _spawn_by_default,
        "greenlet._greenlet": _pythonx.use_greenlets,
        "gevent.hub": _pythonx.use_hub,
        "_sqlite3": _pythonx.watch_sqlite,
    }
    sys.meta_path[:0] = [InterruptPoint, _AfterImport(actions)]


def farewell() -> None:
    """Do what Python's own exit would, short of finalising: run atexit handlers, flush buffered files."""
    import atexit
    import gc
    import io

    atexit._run_exitfuncs()
    for candidate in gc.get_objects():
        # By type: isinstance() asks for __class__, and with it the code of proxies, as web frameworks have them.
        if not issubclass(type(candidate), (io.BufferedWriter, io.TextIOWrapper)):
            continue
        try:
            if not candidate.closed:
                candidate.flush()
        except Exception:  # a detached or broken stream
            continue


def end_fork(error: BaseException | None) -> NoReturn:
    """End a copy of this process, made by os.fork(), whose code has run to its end: as Python does with a script."""
    import os

    status = 0
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    elif error is not None:
        status = 1
        sys.excepthook(type(error), error, error.__traceback__)
    try:
        farewell()
    finally:
        os._exit(status & 0xFF)


def _spawn_by_default(context: ModuleType) -> None:
    """A forked copy of this process would hold the VM's memory without its threads, so children are spawned."""
    default = context._default_context
    default._default_context = context._concrete_contexts["spawn"]


class InterruptPoint:
    """Finds no module. Imports are where code on other threads than the main one takes an interrupt, once it is due."""

    find_spec = staticmethod(_pythonx.interrupt_point)


class _AfterImport:
    """Calls a function on a module right after its first import, so that nothing is imported just to be set up."""

    def __init__(self, actions: dict[str, Callable[[ModuleType], None]]) -> None:
        self._actions = actions
        self._lock = _thread.allocate_lock()

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        with self._lock:
            action = self._actions.pop(name, None)
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
