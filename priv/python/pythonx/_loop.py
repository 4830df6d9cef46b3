"""The event loop: one for the whole interpreter, on a thread of its own, started when first needed."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import contextvars
import threading
from typing import Any

import _pythonx

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Iterator

_STACK_SIZE = 16 << 20

# Between two looks whether this thread was interrupted: only Python's main thread can be while it waits.
_POLL_SECONDS = 0.05

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def get_loop() -> asyncio.AbstractEventLoop:
    """Return the loop, running."""
    global _loop
    with _lock:
        if _loop is None:
            loop = asyncio.new_event_loop()
            previous = threading.stack_size(_STACK_SIZE)
            try:
                # Not by `threading`: the thread belongs to no evaluation.
                _thread.start_new_thread(_run, (loop,))
            finally:
                threading.stack_size(previous)
            _loop = loop
        return _loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    threading.current_thread().name = "pythonx_asyncio"
    asyncio.set_event_loop(loop)
    loop.run_forever()


class Outcome:
    """What became of an awaitable: a value, or an exception."""

    __slots__ = ("error", "value")

    def __init__(self, value: object = None, error: BaseException | None = None) -> None:
        self.value = value
        self.error = error


class Pending:
    """An awaitable on its way: a task on the loop whose outcome somebody waits for."""

    def __init__(self, awaitable: Awaitable[Any], finish: Any) -> None:
        self._finish = finish
        self._awaitable = awaitable
        self._task: asyncio.Future[Any] | None = None
        self._cancelled = False
        self._settled = False
        self._lock = threading.Lock()

    def schedule(self) -> None:
        """Begin, in a copy of the caller's context."""
        get_loop().call_soon_threadsafe(self._start, context=contextvars.copy_context())

    def _start(self) -> None:
        try:
            self._task = asyncio.ensure_future(self._awaitable)
        except BaseException as error:
            self._settle(Outcome(error=error))
            return
        finally:
            del self._awaitable
        self._task.add_done_callback(self._done)
        if self._cancelled:
            self._task.cancel()

    def _done(self, task: asyncio.Future[Any]) -> None:
        if task.cancelled():
            self._settle(Outcome(error=asyncio.CancelledError()))
        elif (error := task.exception()) is not None:
            self._settle(Outcome(error=error))
        else:
            self._settle(Outcome(task.result()))

    def _settle(self, outcome: Outcome) -> None:
        with self._lock:
            if self._settled:
                return
            self._settled = True
            # Under the lock: once `forget` has returned, nothing is told that had not been told before.
            self._finish(outcome)

    def forget(self) -> None:
        """Cancel the task; its outcome is of no interest any more."""
        with self._lock:
            self._settled = True
        self._cancel()

    def interrupt(self) -> None:
        """Cancel the task, whose outcome is that it was interrupted."""
        self._settle(Outcome(error=KeyboardInterrupt()))
        self._cancel()

    def _cancel(self) -> None:
        get_loop().call_soon_threadsafe(self._cancel_task)

    def _cancel_task(self) -> None:
        self._cancelled = True
        if self._task is not None:
            self._task.cancel()


def check_awaitable(value: object) -> None:
    """Raise what `await value` would raise for something that cannot be awaited."""
    if not (asyncio.isfuture(value) or asyncio.iscoroutine(value) or hasattr(type(value), "__await__")):
        raise TypeError(f"object {type(value).__name__} can't be used in 'await' expression")


_pending: dict[int, Pending] = {}


def start(awaitable: Awaitable[Any], process: object, key: int) -> None:
    """Await on the loop; the process receives `{:pythonx_await, key, outcome}`."""
    check_awaitable(awaitable)
    tag = _pythonx.Atom("pythonx_await")

    def finish(outcome: Outcome) -> None:
        _pending.pop(key, None)
        _pythonx.send(process, (tag, key, outcome))

    # Known by its key before it runs: whoever awaits may be gone, or be interrupted, at any time.
    _pending[key] = Pending(awaitable, finish)
    _pending[key].schedule()


def forget(key: int) -> bool:
    """Cancel what was started under this key; False when it is done."""
    pending = _pending.pop(key, None)
    if pending is not None:
        pending.forget()
    return pending is not None


def interrupt(key: int) -> bool:
    """Cancel what was started under this key, whose outcome is a KeyboardInterrupt; False when it is done."""
    pending = _pending.get(key)
    if pending is not None:
        pending.interrupt()
    return pending is not None


def wait(awaitable: Awaitable[Any]) -> Outcome:
    """Await on the loop, and wait on this thread for the outcome."""
    if threading.get_ident() == getattr(get_loop(), "_thread_id", None):
        if asyncio.iscoroutine(awaitable):
            awaitable.close()
        return Outcome(error=RuntimeError("the event loop cannot wait for itself"))
    done = threading.Event()
    outcomes: list[Outcome] = []

    def finish(outcome: Outcome) -> None:
        outcomes.append(outcome)
        done.set()

    pending = Pending(awaitable, finish)
    try:
        pending.schedule()
        while not done.wait(_POLL_SECONDS):
            pass
    except BaseException:
        pending.forget()
        raise
    return outcomes[0]


def iterate(iterable: AsyncIterable[Any]) -> Iterator[Any]:
    """Return an ordinary iterator over an asynchronous one, for a thread that may wait."""
    iterator = iterable.__aiter__()
    try:
        while True:
            outcome = wait(iterator.__anext__())
            if isinstance(outcome.error, StopAsyncIteration):
                return
            if outcome.error is not None:
                raise outcome.error
            yield outcome.value
    finally:
        if hasattr(iterator, "aclose"):
            wait(iterator.aclose())


def call(function: object, args: tuple[Any, ...]) -> asyncio.Future[Any]:
    """Call an Elixir function from a coroutine: a future of the running loop."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def resolve(error: BaseException | None, value: object) -> None:
        # When the loop has been closed, nobody awaits the future.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, error, value)

    def settle(error: BaseException | None, value: object) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

    number = _pythonx.start_call(function, args, resolve)
    future.add_done_callback(lambda done: _pythonx.cancel_call(number) if done.cancelled() else None)
    return future
