"""The functions of the module `signal`, for a process whose signals are the VM's.

Handlers that Python code sets are kept by the native side (`c_src/bridge/threads/signals.hpp` has the rules), not by
CPython, which would take signals from the VM and lets its main thread set handlers only.
"""

from __future__ import annotations

import _signal
import _thread
import functools
import sys

import _pythonx

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context
    from types import ModuleType
    from typing import Any

_NAMES = (
    "signal",
    "getsignal",
    "set_wakeup_fd",
    "raise_signal",
    "pthread_sigmask",
    "siginterrupt",
    "alarm",
    "setitimer",
)

_natives = {name: getattr(_signal, name) for name in _NAMES if hasattr(_signal, name)}
_natives["interrupt_main"] = _thread.interrupt_main
_functions: dict[str, Any] = {}


def install(interrupt_signal: int) -> None:
    """Replace the functions, and take over the handlers that were set before. Called once."""
    global _interrupt_signal
    _interrupt_signal = interrupt_signal
    _functions.update(_pythonx.make_signal_functions(_natives))
    before = {number: _natives["getsignal"](number) for number in range(1, _signal.NSIG)}
    # `signal` took functions along, if it has been imported by now; what wraps them looks for them in `_signal`.
    modules = [module for module in (_signal, sys.modules.get("signal"), _thread) if module is not None]
    for name, native in _natives.items():
        for module in modules:
            if vars(module).get(name) is native:
                setattr(module, name, _functions[name])
    for number, handler in before.items():
        if callable(handler) and number != interrupt_signal:
            _functions["signal"](number, handler)
    if "faulthandler" in sys.modules:
        guard_faulthandler(sys.modules["faulthandler"])


def guard_faulthandler(module: ModuleType) -> None:
    """Have faulthandler.register, which takes signals as C code does, leave those of the VM to it as well."""
    register = module.register

    @functools.wraps(register)
    def guarded(signum: int, file: Any = None, all_threads: bool = True, chain: bool = False) -> None:
        if signum == _interrupt_signal:
            raise RuntimeError(f"signal {signum} cannot be registered: Python code is interrupted by it")
        file = sys.stderr if file is None else file
        return register(
            signum, file, all_threads, chain or _functions["getsignal"](signum) != _signal.SIG_DFL
        )

    module.register = guarded


def run_alone(context: Context, handler: Callable[[int, None], object], number: int) -> None:
    """Run a handler in its own context, where no evaluation waits for it that an exception could end."""
    try:
        context.copy().run(handler, number, None)
    except (SystemExit, KeyboardInterrupt):
        pass  # Meant for what runs; nothing does.
    except BaseException as error:
        context.copy().run(_pythonx.write_unraisable, error, handler)
