"""What Python does when it exits, short of finalising, in steps that share the time there is.

At the end of the VM the native side (`c_src/bridge/boot/farewell.cpp`) takes one step after the other, and interrupts
one that takes more than its share; where a thread does not come back from a step, another one goes on with the next.
So the functions of `atexit` are kept here: those of CPython's own module can be run all at once only.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    Step = tuple[Callable[..., object], tuple[Any, ...], dict[str, Any]]

_handlers: list[Step] = []
_steps: list[Step] | None = None

# What the steps after a slow one are left with at least, in seconds.
_SHARE = 0.05


def register(func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Callable[..., Any]:
    """Register a function to be executed upon normal program termination: here, when the VM ends.

    Args:
        func: The function. It is returned, which makes this usable as a decorator.
        args: What it is called with.
        kwargs: What it is called with by name.
    """
    if not callable(func):
        raise TypeError("the first argument must be callable")
    _handlers.append((func, args, kwargs))
    return func


def replace(module: ModuleType) -> None:
    """Have the functions of `atexit` kept here. Those that were registered before stay where they are."""
    native = {
        name: getattr(module, name) for name in ("unregister", "_clear", "_run_exitfuncs", "_ncallbacks")
    }
    if native["unregister"].__module__ == __name__:
        return

    def unregister(func: Callable[..., Any], /) -> None:
        """Unregister an exit function which was previously registered."""
        _handlers[:] = [handler for handler in _handlers if not handler[0] == func]  # noqa: SIM201 - as CPython asks
        native["unregister"](func)

    def clear() -> None:
        """Clear the list of previously registered exit functions."""
        _handlers.clear()
        native["_clear"]()

    def run_exitfuncs() -> None:
        """Run all registered exit functions."""
        while _handlers:
            _run(*_handlers.pop())
        native["_run_exitfuncs"]()

    def ncallbacks() -> int:
        """Return the number of registered exit functions."""
        return len(_handlers) + native["_ncallbacks"]()

    module.register = register
    module.unregister, module._clear = unregister, clear
    module._run_exitfuncs, module._ncallbacks = run_exitfuncs, ncallbacks


def _run(func: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    import _pythonx

    try:
        func(*args, **kwargs)
    except BaseException as error:
        _pythonx.write_unraisable(error, func)


def next_step(seconds: float) -> tuple[Callable[..., object], tuple[Any, ...], dict[str, Any], float] | None:
    """Return what is to be done next, as a function, its arguments, and the seconds it may take; None at the end.

    Args:
        seconds: What is left of the time.
    """
    global _steps
    if _steps is None:
        _steps = [(_flush_all, (), {}), (_end_children, (), {}), (_run_native_handlers, (), {})]
        _handlers.extend(_thread_handlers())
    step = _handlers.pop() if _handlers else _steps.pop() if _steps else None
    if step is None:
        return None
    left = len(_handlers) + len(_steps)
    return *step, max(seconds / (left + 1), min(seconds / 2, seconds - left * _SHARE)) if left else seconds


def _thread_handlers() -> list[Step]:
    """Return what `threading` runs before the threads are waited for: executors end their workers."""
    threading = sys.modules.get("threading")
    functions = list(getattr(threading, "_threading_atexits", ()))
    if threading is not None:
        threading._SHUTTING_DOWN = True
    return [(function, (), {}) for function in functions]


def _run_native_handlers() -> None:
    module = sys.modules.get("atexit")
    if module is not None:
        module._run_exitfuncs()


def _end_children() -> None:
    """Kill the processes of `multiprocessing` that have not ended by now: nobody is there for them any more."""
    module = sys.modules.get("multiprocessing.process")
    for child in list(getattr(module, "_children", ())):
        try:
            child.kill()
        except (AttributeError, OSError, ValueError):  # it has ended, or is closed
            continue


def _flush_all() -> None:
    """Have all buffered files flushed, each in a step of its own: a pipe that nobody reads keeps its writer waiting."""
    _steps.extend((_flush, (file,), {}) for file in _buffered_files())


def _buffered_files() -> list[Any]:
    import gc
    import io

    # By type: isinstance() asks for __class__, and with it the code of proxies, as web frameworks have them.
    return [
        candidate
        for candidate in gc.get_objects()
        if issubclass(type(candidate), (io.BufferedWriter, io.TextIOWrapper))
    ]


def _flush(file: Any) -> None:
    try:
        if not file.closed:
            file.flush()
    except Exception:  # a detached or broken stream
        return


def farewell() -> None:
    """Run the functions of `atexit` and flush buffered files, on this thread and for as long as it takes."""
    import atexit

    atexit._run_exitfuncs()
    for file in _buffered_files():
        _flush(file)
