"""Awaiting on the event loop, from other threads; and the Elixir functions that coroutines call. See _event_loop.py."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import sys
from typing import Any

import _pythonx

from pythonx import _event_loop
from pythonx._boot import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Iterator

# Between two looks whether this thread was interrupted: only Python's main thread can be while it waits.
_POLL_SECONDS = 0.05

# What others do to asyncio concerns them.
_Task = asyncio.Task
_CancelledError = asyncio.CancelledError
_isfuture = asyncio.isfuture
_iscoroutine = asyncio.iscoroutine
_get_running_loop = asyncio.get_running_loop


def get_loop() -> asyncio.AbstractEventLoop:
    """Return the loop, running."""
    known = allocate_lock()
    known.acquire()
    while not _event_loop.running().post(known.release):
        pass
    known.acquire()
    return _event_loop.running().loop


class Outcome:
    """What became of an awaitable: a value, or an exception."""

    __slots__ = ("error", "value")

    def __init__(self, value: object = None, error: BaseException | None = None) -> None:
        self.value = value
        self.error = error


async def _run_awaitable(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


class Pending:
    """An awaitable on its way: a task on the loop whose outcome somebody waits for."""

    def __init__(
        self, awaitable: Awaitable[Any], finish: Any, context: contextvars.Context | None = None
    ) -> None:
        """Prepare.

        Args:
            awaitable: What to await.
            finish: Called with the Outcome, on any thread; more than once only where an exception has hit it.
            context: What it runs in (from Python 3.11 on), which no other thread may be in meanwhile. By default a copy
                of the caller's.
        """
        self._finish = finish
        self._awaitable = awaitable
        self._context = context
        # A copy in any case: nobody may be in the context itself any more when it is told that the task is done.
        self._callback_context = contextvars.copy_context() if context is None else context.copy()
        self._running: _event_loop.Running | None = None
        self._task: asyncio.Future[Any] | None = None
        self._cancelled = False
        self.evaluation = self._callback_context.run(_pythonx.current_evaluation)
        self.begun = False
        self.failed = False
        self._settled = False
        self._lock = allocate_lock()

    def schedule(self) -> None:
        """Begin."""
        while True:
            self._running = running = _event_loop.running()
            running.pending.add(self)
            if self._settled:
                running.pending.discard(self)
            elif not running.post(self._start, context=self._callback_context):
                running.pending.discard(self)
                continue
            return

    def begin_again(self) -> None:
        """Begin on the loop that there is by now, if it is not known whether this has begun."""
        try:
            self.schedule()
        except BaseException as error:
            self._settle(Outcome(error=error))

    def _start(self) -> None:
        if self.begun:
            return
        self.begun = True
        try:
            self._running.begin_beating()
            self._task = self._make_task(self._running.loop)
        except BaseException as error:
            self._settle(Outcome(error=error))
            return
        finally:
            del self._awaitable, self._context
        self._task.add_done_callback(self._done)
        if self._cancelled:
            self._task.cancel()

    def _make_task(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[Any]:
        awaitable = self._awaitable
        if _isfuture(awaitable) and awaitable.get_loop() is loop:
            return awaitable
        coroutine = awaitable if _iscoroutine(awaitable) else _run_awaitable(awaitable)
        if self._context is not None and sys.version_info >= (3, 11):
            return _Task(coroutine, loop=loop, context=self._context)
        return _Task(coroutine, loop=loop)

    def _done(self, task: asyncio.Future[Any]) -> None:
        if task.cancelled():
            self._settle(Outcome(error=_CancelledError()))
        elif (error := task.exception()) is not None:
            self._settle(Outcome(error=error))
        else:
            self._settle(Outcome(task.result()))

    def _settle(self, outcome: Outcome) -> None:
        with self._lock:
            # Under the lock: once `forget` has returned, nothing is told that had not been told before.
            if not self._settled:
                self._finish(outcome)
                self._settled = True
        self._leave()

    def forget(self) -> None:
        """Cancel the task; its outcome is of no interest any more."""
        with self._lock:
            self._settled = True
        self._leave()
        self._cancel()

    def fail(self, error: BaseException) -> None:
        """Cancel the task, whose outcome is this error."""
        self.failed = True
        self._settle(Outcome(error=error))
        self._cancel()

    def _leave(self) -> None:
        if self._running is not None:
            self._running.pending.discard(self)

    def _cancel(self) -> None:
        if self._running is not None:
            self._running.post(self._cancel_task)

    def _cancel_task(self) -> None:
        self._cancelled = True
        if self._task is not None:
            self._task.cancel()


def check_awaitable(value: object) -> None:
    """Raise what `await value` would raise for something that cannot be awaited."""
    if not (_isfuture(value) or _iscoroutine(value) or hasattr(type(value), "__await__")):
        raise TypeError(f"object {type(value).__name__} can't be used in 'await' expression")


_pending: dict[int, Pending] = {}
_outcomes: dict[int, Outcome] = {}


def start(awaitable: Awaitable[Any], server: object, key: int) -> None:
    """Await on the loop; the server is told, by `{:pythonx_await, "started", key}` and another with "done"."""
    check_awaitable(awaitable)
    tag = _pythonx.Atom("pythonx_await")

    def finish(outcome: Outcome) -> None:
        # Nobody takes the outcome where the server has ended, and with it the wait.
        if _pythonx.whereis("Pythonx.Calls.Awaits") == server:
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


def forget_all(keys: list[int]) -> None:
    """Do that with all of these."""
    for key in keys:
        forget(key)


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
    if _pythonx.is_loop_thread():
        if _iscoroutine(awaitable):
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
    # Not an Event of `threading`, nor with one of its locks: gevent makes these wait by running others on this thread.
    done = allocate_lock()
    done.acquire()
    outcomes: list[Outcome] = []

    def finish(outcome: Outcome) -> None:
        outcomes.append(outcome)
        if done.locked():
            done.release()

    pending = Pending(awaitable, finish, context)
    try:
        pending.schedule()
        _ask_whether_stuck(pending, process)
        while not done.acquire(timeout=_POLL_SECONDS):
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


_STOPPED = "the :pythonx application was stopped while Python called Elixir"


class _Answer:
    """Takes the answer to a call of a coroutine, and settles the future that the coroutine awaits.

    The native side lets go of it when there will be no answer, since the application was stopped. Then it gives one
    itself.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]) -> None:
        self._loop = loop
        self._future = future
        # Of the coroutine, to which the callback belongs.
        self._context = contextvars.copy_context()
        self._given = False

    def __call__(self, error: BaseException | None, value: object) -> None:
        # When the loop has been closed, nobody awaits the future.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(_settle, self._future, error, value, context=self._context)
        self._given = True

    def __del__(self) -> None:
        if not self._given:
            self(RuntimeError(_STOPPED), None)


def _settle(future: asyncio.Future[Any], error: BaseException | None, value: object) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)


def call(function: object, args: tuple[Any, ...]) -> asyncio.Future[Any]:
    """Call an Elixir function from a coroutine: a future of the running loop."""
    _pythonx.check_not_forked("call Elixir")
    loop = _get_running_loop()
    future = loop.create_future()
    answer = _Answer(loop, future)
    try:
        number = _pythonx.start_call(function, args, answer)
    except BaseException:
        answer._given = True
        raise
    running = _event_loop.running_on(loop)
    calls = set() if running is None else running.calls
    calls.add(number)

    def done(future: asyncio.Future[Any]) -> None:
        calls.discard(number)
        if future.cancelled():
            _pythonx.cancel_call(number)

    future.add_done_callback(done)
    return future
