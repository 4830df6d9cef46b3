"""sys.stdout, sys.stderr and sys.stdin, and how threads find the evaluation that they print for.

There is one set of streams for all evaluations; one that puts others in their place does so for itself. The native side
knows which evaluation a thread belongs to, and with it the Elixir device that its text goes to; here threads are made
to inherit that.
"""

from __future__ import annotations

import _thread
import codecs
import functools
import io
import os
import sys

import _pythonx

TYPE_CHECKING = False  # typing itself takes longer to import than all of this module
if TYPE_CHECKING:
    from typing import Any, NoReturn

_write = _pythonx.write
_flush = _pythonx.flush


class TextOutput(io.TextIOBase):
    r"""A text stream to a device of the evaluation.

    A device takes text, so lone surrogates, which have no form in UTF-8, arrive as escapes such as `\udcff`.
    """

    encoding = "utf-8"
    errors = "backslashreplace"
    line_buffering = True
    write_through = False
    mode = "w"

    def __init__(self, fd: int, name: str) -> None:
        self.__dict__.update(_fd=fd, name=name, buffer=BytesOutput(fd, name), _shared=True)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute, such as `write`, for the evaluation that does, which gets a stream of its own by that."""
        if not self._shared:
            super().__setattr__(name, value)
            return
        own = TextOutput(self._fd, self.name)
        own.__dict__.update(self.__dict__, _shared=False)
        setattr(own, name, value)
        setattr(sys, self.name.strip("<>"), own)

    def write(self, text: str) -> int:
        """Write text and return its length."""
        if self.buffer.used:
            self.buffer.drain()
        return _write(self._fd, text)

    def flush(self) -> None:
        """Send what is buffered to the device."""
        _flush(self._fd)

    def close(self) -> None:
        """Flush only: the stream belongs to the whole interpreter."""
        self.flush()

    def writable(self) -> bool:
        """Return True."""
        return True

    def reconfigure(
        self,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        line_buffering: bool | None = None,
        write_through: bool | None = None,
    ) -> None:
        """Accept what `io.TextIOWrapper` does, without effect: a device takes UTF-8 and nothing else."""

    def __repr__(self) -> str:
        return f"<{__name__}.TextOutput name={self.name!r} mode='w' encoding='utf-8'>"


class BytesOutput(io.BufferedIOBase):
    r"""The bytes behind a text stream: UTF-8. What is not arrives as escapes such as `\xff`.

    A character may be split over several writes, so its beginning is held back, for each thread on its own,
    until the rest of it comes or text is written to the stream.
    """

    mode = "wb"

    def __init__(self, fd: int, name: str) -> None:
        self._fd = fd
        self.name = name
        self.used = False
        self._thread = _thread._local()

    def write(self, data: Any) -> int:
        """Write a bytes-like object and return the number of its bytes."""
        if isinstance(data, str):
            raise TypeError("a bytes-like object is required, not 'str'")
        view = memoryview(data)
        self.used = True
        self._emit(self._decoder().decode(view.tobytes()))
        return view.nbytes

    def drain(self) -> None:
        """Write the beginning of a character that is held back for this thread."""
        self._emit(self._decoder().decode(b"", True))

    def _emit(self, text: str) -> None:
        if text:
            _write(self._fd, text)

    def _decoder(self) -> codecs.IncrementalDecoder:
        if not hasattr(self._thread, "decoder"):
            self._thread.decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        return self._thread.decoder

    def flush(self) -> None:
        """Send what is buffered to the device."""
        _flush(self._fd)

    def close(self) -> None:
        """Flush only: the stream belongs to the whole interpreter."""
        self.flush()

    def writable(self) -> bool:
        """Return True."""
        return True


def _refuse(*_args: object) -> NoReturn:
    raise RuntimeError("stdin not supported")


class BytesInput(io.BufferedIOBase):
    """The bytes behind sys.stdin, of which there are none."""

    name = "<stdin>"
    mode = "rb"
    read = read1 = readinto = readinto1 = readline = readlines = peek = __next__ = _refuse

    def close(self) -> None:
        """Do nothing: the stream belongs to the whole interpreter."""


class TextInput(io.TextIOBase):
    """sys.stdin. The terminal is the BEAM's, so reading is an error."""

    encoding = "utf-8"
    errors = "strict"
    name = "<stdin>"
    mode = "r"
    read = readline = readlines = __next__ = _refuse

    def __init__(self) -> None:
        self.buffer = BytesInput()

    def close(self) -> None:
        """Do nothing: the stream belongs to the whole interpreter."""


class Front:
    """What C code, such as that of print(), finds as sys.stdout: it passes all on to that of the evaluation that calls.

    The native side gives it `write`, `flush` and `stream`; see streams.hpp.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream(), name)


_installed: list[Any] = []


def restore() -> None:
    """Flush and take away what an evaluation has put in place of the streams: where it has them to itself."""
    for name, stream in zip(("stdin", "stdout", "stderr"), _installed, strict=True):
        current = getattr(sys, name, None)
        if current is not stream:
            setattr(sys, name, stream)
            try:
                current.flush()
            except Exception:  # one that is closed, or none at all
                continue


def install() -> None:
    """Make these the interpreter's streams. Called once."""
    streams = TextInput(), TextOutput(1, "<stdout>"), TextOutput(2, "<stderr>")
    if hasattr(_pythonx, "share_streams"):
        _pythonx.share_streams((Front(), Front(), Front()), streams)
    else:
        # An interpreter that has one evaluation at a time.
        _installed.extend(streams)
        sys.stdin, sys.stdout, sys.stderr = streams
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_print_to_process)


def _print_to_process() -> None:
    """Write to the file descriptors: a forked copy of the VM has no schedulers, so no device ever answers."""
    global _write, _flush

    def write(fd: int, text: str) -> int:
        rest = memoryview(str.encode(text, "utf-8", "backslashreplace"))
        while rest:
            rest = rest[os.write(fd, rest) :]
        return len(text)

    _write, _flush = write, lambda _fd: None


_EVALUATION = "_pythonx_evaluation"
_CONTEXT = "_pythonx_context"


def install_thread_hooks() -> None:
    """Make a thread belong to the evaluation that started it, and a pool's task to the one that submitted it.

    Must be called on Python's main thread: before Python 3.13, `threading` takes the thread that imports it
    first for the main thread.
    """
    import threading

    _hook(threading.Thread, "start", _starting)
    _hook(threading.Thread, "_bootstrap", _bootstrapping)


def _hook(owner: type, name: str, make: Any) -> None:
    original = getattr(owner, name, None)
    if original is not None and not hasattr(original, "_pythonx_hook"):
        replacement = functools.wraps(original)(make(original))
        replacement._pythonx_hook = True
        setattr(owner, name, replacement)


# Both run outside of the frames that catch what a thread raises, so its tracebacks do not show them.


def _starting(original: Any) -> Any:
    def start(self: Any) -> None:
        _hook_executor()
        self.__dict__[_EVALUATION] = _pythonx.current_evaluation()
        _prepare_context(self)
        try:
            original(self)
        except Exception:
            # It has not started. After an interrupt it may have, and then takes it away itself.
            self.__dict__.pop(_EVALUATION, None)
            raise

    return start


def _prepare_context(thread: Any) -> None:
    """Tell the context that a thread runs in from Python 3.14 on, empty by default, which evaluation it belongs to."""
    if getattr(thread, "_context", False) is None:
        from contextvars import Context, copy_context

        context = copy_context() if sys.flags.thread_inherit_context else Context()
        context.run(_pythonx.set_evaluation, thread.__dict__[_EVALUATION])
        thread._context = thread.__dict__[_CONTEXT] = context


def _bootstrapping(original: Any) -> Any:
    def bootstrap(self: Any) -> None:
        # Taken away: the Thread object may be kept for long, and would keep the evaluation alive.
        evaluation = self.__dict__.pop(_EVALUATION, None)
        if evaluation is not None:
            _pythonx.set_evaluation(evaluation)
        original(self)
        context = self.__dict__.pop(_CONTEXT, None)
        if context is not None:
            context.run(_pythonx.set_evaluation, None)

    return bootstrap


def _hook_executor() -> None:
    """Hook concurrent.futures.thread, if it has been imported.

    Whoever uses it starts a thread. The task that starts the very first one was made before the hook, and is
    run by that thread, so it needs none.
    """
    module = sys.modules.get("concurrent.futures.thread")
    work_item = getattr(module, "_WorkItem", None)
    if work_item is not None:
        _hook(work_item, "run", _running)
        _hook(work_item, "__init__", _initializing)


def _initializing(original: Any) -> Any:
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it becomes one
        original(self, *args, **kwargs)
        self.__dict__[_EVALUATION] = _pythonx.current_evaluation()

    return __init__


def _running(original: Any) -> Any:
    def run(self: Any, *args: Any) -> None:
        evaluation = self.__dict__.pop(_EVALUATION, None)
        if evaluation is None:
            return original(self, *args)
        previous = _pythonx.current_evaluation()
        _pythonx.set_evaluation(evaluation)
        try:
            return original(self, *args)
        finally:
            _pythonx.set_evaluation(previous)

    return run
