"""What happens in an interpreter with a GIL of its own, other than the main one.

Here `_pythonx` is not the module of that name in the main interpreter, but one that has what output needs and
nothing else; and the package that this file is in is an empty one, see `boot`.
"""

from __future__ import annotations

import _thread
import functools
import importlib.machinery
import sys

import pythonx
from pythonx import _compile, _streams

TYPE_CHECKING = False  # these take longer to import than everything else here
if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.machinery import ModuleSpec
    from types import ModuleType, TracebackType
    from typing import Any

# What the package has in the main interpreter.
_PUBLIC = ("PID", "Atom", "ElixirError", "Function", "Table", "self", "send", "send_tagged_object", "whereis")

# What CPython, and what Cython generates, say of extension modules that refuse an interpreter.
_REFUSALS = ("does not support loading in subinterpreters", "Interpreter change detected")

# The function that every module calls which can be loaded more than once.
_MULTI_PHASE = b"PyModuleDef_Init"

_name = ""

# Compiled code is kept for 512 texts of up to 64 KiB characters, so 32 MiB of them.
_LONGEST_KEPT = 1 << 16
_compile_kept = functools.lru_cache(maxsize=512)(_compile.compile_source)


def compile_evaluation(source: str) -> _compile.Codes:
    """Compile the source of an evaluation. There is no event loop here, so `await` stands in functions only."""
    return _compile_kept(source) if len(source) <= _LONGEST_KEPT else _compile.compile_source(source)


def boot(name: str, sys_paths: list[str]) -> None:
    """Make this interpreter fit to live in the VM. Runs on the thread that will serve it."""
    global _name
    _name = name
    sys.path.extend(path for path in sys_paths if path not in sys.path)
    _streams.install()
    _streams.install_thread_hooks()
    _keep_dummy_threads()
    pythonx.__getattr__ = _missing
    loader = importlib.machinery.ExtensionFileLoader
    loader.create_module = _explaining(loader.create_module, check_first=True)
    loader.exec_module = _explaining(loader.exec_module)


def _missing(attribute: str) -> Any:
    """Say why something of the package is not here."""
    if attribute in _PUBLIC:
        raise ImportError(
            f"pythonx.{attribute} is not available in the interpreter {_quoted(_name)}: only the main interpreter, "
            "which Pythonx.eval uses, can call Elixir and send messages",
            name="pythonx",
        )
    raise AttributeError(f"module 'pythonx' has no attribute {attribute!r}")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _explaining(method: Any, *, check_first: bool = False) -> Any:
    """Wrap a method that loads extension modules: an ImportError for what refuses this interpreter says what to do."""

    @functools.wraps(method)
    def wrapper(self: Any, subject: ModuleSpec | ModuleType) -> Any:
        if check_first and not _can_be_tried(self.path):
            raise _refusal(self.name, self.path)
        try:
            return method(self, subject)
        except ImportError as error:
            if not any(text in str(error) for text in _REFUSALS):
                raise
            raise _refusal(self.name, self.path) from None

    return wrapper


def _can_be_tried(path: str) -> bool:
    """Whether a module may be loaded to learn whether it supports this interpreter.

    CPython finds out by calling the module's init function. One of the old kind does all of its work there, in
    part in the main interpreter, and is refused only then: the main interpreter could never import it any more.
    """
    before = b""
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                if _MULTI_PHASE in before + block:
                    return True
                before = block[-len(_MULTI_PHASE) :]
    except OSError:
        return True  # to load it will say what is wrong
    return False


def _refusal(name: str, path: str) -> ImportError:
    error = ImportError(
        f"the interpreter {_quoted(_name)} has a GIL of its own and cannot load {name}, an extension module that "
        "does not support this. Use Pythonx.eval, or Pythonx.Pool for several processes",
        name=name,
        path=path,
    )
    error._pythonx_refusal = True
    return error


def format_error(type_: type, value: BaseException, traceback: TracebackType | None) -> list[str]:
    """Return the lines of an exception. One that comes of a refused module says so at its end."""
    from traceback import format_exception

    if isinstance(value, BaseException) and not hasattr(value, "_pythonx_refusal"):
        for other in _causes(value):
            note = str(other)
            if hasattr(other, "_pythonx_refusal") and note not in getattr(value, "__notes__", ()):
                value.add_note(note)
    return format_exception(type_, value, traceback)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield what led to an exception, each once."""
    seen = {id(error)}
    open_ = [error]
    while open_:
        error = open_.pop()
        for other in (error.__cause__, error.__context__, *getattr(error, "exceptions", ())):
            if isinstance(other, BaseException) and id(other) not in seen:
                seen.add(id(other))
                open_.append(other)
                yield other


def restore_streams() -> None:
    """Undo what an evaluation has done to the standard streams: the next one may be a stranger's."""
    _streams.restore()


def end_threads() -> int:
    """Have executors end their threads, as `threading` does at exit, and return the number of the thread that does.

    It is a thread of its own, since they wait for theirs, which may go on for ever.
    """
    import threading

    def run() -> None:
        for function in reversed(threading._threading_atexits):
            function()

    return _thread.start_new_thread(run, ())


def farewell() -> None:
    """Do what Python's own exit would, short of finalising: run atexit handlers, flush buffered files."""
    import atexit
    import gc
    import io

    atexit._run_exitfuncs()
    for candidate in gc.get_objects():
        # By type: isinstance() asks for __class__, and with it the code of proxies.
        if not issubclass(type(candidate), (io.BufferedWriter, io.TextIOWrapper)):
            continue
        try:
            if not candidate.closed:
                candidate.flush()
        except Exception:  # a detached or broken stream
            continue


def drop_main() -> None:
    """Free the namespace of the last evaluation."""
    import gc

    sys.modules.pop("__main__", None)
    gc.collect()


def _keep_dummy_threads() -> None:
    """Have `threading` keep its objects for threads that it did not start, such as the one that serves us.

    It drops each with the thread's locals. At the end of an interpreter that is too late, and it complains.
    """
    import threading

    if hasattr(threading, "_DeleteDummyThreadOnDel"):
        threading._DeleteDummyThreadOnDel = lambda _dummy: None
