"""The event loop: one for the whole interpreter, on a thread of its own, started when first needed."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import contextvars
import itertools
import sys
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
    _pythonx.become_loop_thread()
    asyncio.set_event_loop(loop)
    loop.run_forever()


class Outcome:
    """What became of an awaitable: a value, or an exception."""

    __slots__ = ("error", "value")

    def __init__(self, value: object = None, error: BaseException | None = None) -> None:
        self.value = value
        self.error = error


async def _run_awaitable(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _create_task(loop: Any, coroutine: Any, context: contextvars.Context) -> asyncio.Future[Any]:
    if sys.version_info >= (3, 11):
        return loop.create_task(coroutine, context=context)
    return loop.create_task(coroutine)


class Pending:
    """An awaitable on its way: a task on the loop whose outcome somebody waits for."""

    def __init__(
        self, awaitable: Awaitable[Any], finish: Any, context: contextvars.Context | None = None
    ) -> None:
        """Prepare.

        Args:
            awaitable: What to await.
            finish: Called with the Outcome, on any thread.
            context: What it runs in (from Python 3.11 on), which no other thread may be in meanwhile. By default a copy
                of the caller's.
        """
        self._finish = finish
        self._awaitable = awaitable
        self._context = context
        self._task: asyncio.Future[Any] | None = None
        self._cancelled = False
        self.failed = False
        self._settled = False
        self._lock = threading.Lock()

    def schedule(self) -> None:
        """Begin."""
        # A copy in any case: nobody may be in the context itself any more when it is told that the task is done.
        context = contextvars.copy_context() if self._context is None else self._context.copy()
        get_loop().call_soon_threadsafe(self._start, context=context)

    def _start(self) -> None:
        try:
            self._task = self._make_task(asyncio.get_running_loop())
        except BaseException as error:
            self._settle(Outcome(error=error))
            return
        finally:
            del self._awaitable, self._context
        self._task.add_done_callback(self._done)
        if self._cancelled:
            self._task.cancel()

    def _make_task(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[Any]:
        if asyncio.isfuture(self._awaitable):
            return self._awaitable
        coroutine = (
            self._awaitable if asyncio.iscoroutine(self._awaitable) else _run_awaitable(self._awaitable)
        )
        return (
            loop.create_task(coroutine)
            if self._context is None
            else _create_task(loop, coroutine, self._context)
        )

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

    def fail(self, error: BaseException) -> None:
        """Cancel the task, whose outcome is this error."""
        self.failed = True
        self._settle(Outcome(error=error))
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
_outcomes: dict[int, Outcome] = {}


def start(awaitable: Awaitable[Any], server: object, key: int) -> None:
    """Await on the loop; the server is told, by `{:pythonx_await, "started", key}` and another with "done"."""
    check_awaitable(awaitable)
    tag = _pythonx.Atom("pythonx_await")

    def finish(outcome: Outcome) -> None:
        _outcomes[key] = outcome
        _pending.pop(key, None)
        _pythonx.send(server, (tag, "done", key))

    # Known by its key before that is said and before it runs: whoever awaits may be gone at any time, or interrupted.
    pending = _pending[key] = Pending(awaitable, finish)
    try:
        _pythonx.send(server, (tag, "started", key))
        pending.schedule()
        _ask_whether_stuck(pending, _pythonx.self())
    except BaseException:
        forget(key)
        raise


def take(key: int) -> Outcome:
    """Return what became of what was started under this key, once."""
    return _outcomes.pop(key)


def forget(key: int) -> None:
    """Cancel what was started under this key, and drop its outcome."""
    pending = _pending.pop(key, None)
    if pending is not None:
        pending.forget()
    _outcomes.pop(key, None)


def interrupt(key: int) -> bool:
    """Cancel what was started under this key, whose outcome is a KeyboardInterrupt; False when it is done."""
    pending = _pending.get(key)
    if pending is not None:
        pending.fail(KeyboardInterrupt())
    return pending is not None


# An Elixir function that a coroutine calls by its plain call, `f(x)`, keeps the loop waiting. What awaits in there
# waits for the loop: neither would ever end. Only Elixir knows who works for whom, so it is asked about each awaitable
# that is started while the loop waits, and answers by `decide`.
_suspects: dict[int, Pending] = {}
_suspect_keys = itertools.count(1)


def _ask_whether_stuck(pending: Pending, process: object) -> None:
    call = _pythonx.blocking_call()
    callbacks = _pythonx.whereis("Pythonx.Calls.Callbacks") if call else None
    if callbacks is None:
        return
    key = next(_suspect_keys)
    _suspects[key] = pending
    _pythonx.send(callbacks, (_pythonx.Atom("pythonx_awaits"), call, process, key))


def decide(key: int, stuck: bool) -> None:
    """Fail what was asked about if it would wait for ever."""
    pending = _suspects.pop(key)
    if stuck:
        pending.fail(
            RuntimeError(
                "cannot await here: the event loop waits for the Elixir function that this is part of. "
                "In coroutines call it as `await f.aio(...)`"
            )
        )


def wait(awaitable: Awaitable[Any], context: contextvars.Context | None = None) -> Outcome:
    """Await on the loop, and wait on this thread for the outcome.

    Args:
        awaitable: What to await.
        context: What it runs in, which this thread must not be in. Without one it runs in a copy of the caller's
            context, to which the variables that it changed are then brought back.
    """
    if threading.get_ident() == getattr(get_loop(), "_thread_id", None):
        if asyncio.iscoroutine(awaitable):
            awaitable.close()
        return Outcome(error=RuntimeError("the event loop cannot wait for itself"))
    if context is not None:
        return _wait(awaitable, context, context.run(_pythonx.self))
    contexts: list[contextvars.Context] = []
    outcome = _wait(_recorded(awaitable, contexts), None, _pythonx.self())
    for changed in contexts:
        _bring_back(changed)
    return outcome


async def _recorded(awaitable: Awaitable[Any], contexts: list[contextvars.Context]) -> Any:
    try:
        return await awaitable
    finally:
        contexts.append(contextvars.copy_context())


def _bring_back(context: contextvars.Context) -> None:
    current = contextvars.copy_context()
    for variable, value in context.items():
        if variable not in current or current[variable] is not value:
            variable.set(value)


def _wait(awaitable: Awaitable[Any], context: contextvars.Context | None, process: object) -> Outcome:
    done = threading.Event()
    outcomes: list[Outcome] = []

    def finish(outcome: Outcome) -> None:
        outcomes.append(outcome)
        done.set()

    pending = Pending(awaitable, finish, context)
    try:
        pending.schedule()
        _ask_whether_stuck(pending, process)
        while not done.wait(_POLL_SECONDS):
            pass
    except BaseException:
        pending.forget()
        raise
    # The task may be in the context still, so that is not given back: see ContextLoan in gil.hpp.
    if pending.failed and outcomes[0].error is not None:
        raise outcomes[0].error
    return outcomes[0]


def iterate(iterable: AsyncIterable[Any]) -> Iterator[Any]:
    """Return an ordinary iterator over an asynchronous one, for a thread that may wait."""
    iterator = iterable.__aiter__()
    # All of it runs in one context, as in an `async for`.
    context = contextvars.copy_context()
    try:
        while True:
            outcome = _wait(iterator.__anext__(), context, _pythonx.self())
            if isinstance(outcome.error, StopAsyncIteration):
                return
            if outcome.error is not None:
                raise outcome.error
            yield outcome.value
    finally:
        if hasattr(iterator, "aclose"):
            _wait(iterator.aclose(), context, _pythonx.self())


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
