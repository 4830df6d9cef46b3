"""The event loop that all awaits share, and what its thread does.

Who owns it. There is one loop at a time. It runs on a thread that the native side makes (work/event_loop.cpp), which
nothing ends and which monkeypatching does not reach, and belongs to this module: its class has copies of asyncio's
methods and is not to be changed, and what is used of other modules is taken when this one is imported, which is right
after the first import of asyncio. Stopping, closing and running the loop is refused to everybody, where it is tried.

What restarts it. Whatever gets out of `run_forever` all the same goes back to `serve`, which judges it.
  1. Nothing, after somebody has set `_stopping`: the loop runs on.
  2. An exception that came out of a callback or of a task's step, as SystemExit and KeyboardInterrupt do. The loop is
     whole and runs on; `_tell` sees to it that the outcome gets to who awaits.
  3. Any other has struck the loop itself: an asynchronous exception, a selector that was closed. A callback may have
     been lost, so all that had begun on the loop fails with a RuntimeError that says what happened. The loop runs on.
  4. One that is struck again before it has got to its first callback is broken. It is closed, and a new one made.

Who tells whom. A `Pending` (_loop.py) is what somebody waits for on the loop. It is told by `fail`, and tells who
waits. One that has not begun when the loop is struck or replaced is begun again. An exception of case 2 belongs to the
task that raised it, and to who awaits that. Nobody awaits a background task or a callback: then it ends the awaits of
the same evaluation, as asyncio.run() would end with it. Other evaluations never hear of it.

In a copy of the process that os.fork() made there is no such thread, and awaiting is refused. One that was made on
this thread, by a coroutine, ends when that coroutine has to wait or is done.

Locks. `_lock` is a leaf: nothing waits, and no code of others runs, while it is held.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import contextvars
import os
import selectors
import threading
import types
from asyncio import events

import _pythonx

from pythonx._boot import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

# While somebody waits, the loop comes by this often whatever happens: an asynchronous exception for a thread that
# sleeps is raised when it wakes.
_HEARTBEAT_SECONDS = 1.0

_Handle = events.Handle
_set_running_loop = events._set_running_loop
_current_task = asyncio.current_task
_SELECTORS = [
    getattr(selectors, name)
    for name in ("DefaultSelector", "EpollSelector", "KqueueSelector", "PollSelector", "SelectSelector")
    if hasattr(selectors, name)
]


# --- The loop ---------------------------------------------------------------------------------------------------------


class _Fixed(type):
    """A class that is not to be changed, as nest_asyncio changes the classes of loops."""

    def __setattr__(cls, name: str, value: object) -> None:
        _refuse_change(name)

    def __delattr__(cls, name: str) -> None:
        _refuse_change(name)


def _refuse_change(name: str) -> NoReturn:
    raise AttributeError(f"cannot change {name!r} of the event loop: all evaluations share it")


def _functions_of(cls: type) -> dict[str, Any]:
    functions: dict[str, Any] = {}
    for base in reversed(cls.__mro__[:-1]):
        functions.update(
            (name, value) for name, value in vars(base).items() if isinstance(value, types.FunctionType)
        )
    return functions


# With functions of its own: to change those of asyncio's classes changes nothing here.
_Original = _Fixed("_Original", (asyncio.SelectorEventLoop,), _functions_of(asyncio.SelectorEventLoop))

_task_factory: contextvars.ContextVar[Any] = contextvars.ContextVar(
    "pythonx_task_factory", default=(None, None)
)


class EventLoop(_Original, metaclass=_Fixed):
    """The loop that all evaluations share: nobody may stop, close, run or replace parts of it."""

    # nest_asyncio leaves a loop alone that has been patched. A loop that runs within itself would have one evaluation
    # wait for another.
    _nest_patched = True

    def __setattr__(self, name: str, value: object) -> None:
        if name in _METHODS:
            _refuse_change(name)
        super().__setattr__(name, value)

    # Of the evaluation that sets it, for the tasks that come of the one in which it is set.
    @property
    def _task_factory(self) -> Any:
        evaluation, factory = _task_factory.get()
        return factory if factory is not None and evaluation is _pythonx.current_evaluation() else None

    @_task_factory.setter
    def _task_factory(self, factory: Any) -> None:
        _task_factory.set((_pythonx.current_evaluation(), factory))

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        """Run a function on another thread. A default executor that somebody has shut down is replaced."""
        if executor is None and getattr(self._default_executor, "_shutdown", False):
            self._default_executor = None
        return super().run_in_executor(executor, func, *args)

    def stop(self) -> None:
        """Refuse."""
        raise RuntimeError(
            "cannot stop the event loop: all evaluations share it. To end an await, end its coroutine"
        )

    def close(self) -> None:
        """Refuse."""
        raise RuntimeError("cannot close the event loop: all evaluations share it")

    def run_forever(self) -> None:
        """Refuse."""
        raise RuntimeError("cannot run the event loop: it runs already, for all evaluations. Use `await`")

    def run_until_complete(self, future: object) -> NoReturn:
        """Refuse."""
        raise RuntimeError("cannot run the event loop: it runs already, for all evaluations. Use `await`")

    async def shutdown_asyncgens(self) -> None:
        """Refuse."""
        raise RuntimeError(
            "cannot shut down the asynchronous generators of the event loop: all evaluations share it"
        )

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Refuse."""
        raise RuntimeError("cannot shut down the executor of the event loop: all evaluations share it")

    def __del__(self) -> None:
        with contextlib.suppress(BaseException):
            _close(self)

    def _make_self_pipe(self) -> None:
        # Not of the module `socket`, whose functions gevent replaces.
        import _socket

        self._ssock, self._csock = _socket.socketpair()
        self._ssock.setblocking(False)
        self._csock.setblocking(False)
        self._internal_fds += 1
        self._add_reader(self._ssock.fileno(), self._read_from_self)


_METHODS = frozenset(_functions_of(EventLoop))
_run_forever = _functions_of(_Original)["run_forever"]
_close = _functions_of(_Original)["close"]


def _make_loop(replaces: bool) -> EventLoop:
    # gevent's selector serves its greenlets, on which it runs what would be threads. What is broken is replaced by a
    # loop that does without.
    kinds = [] if replaces else [getattr(selectors, "DefaultSelector", None)]
    for kind in [*kinds, *_SELECTORS]:
        with contextlib.suppress(Exception):
            return EventLoop(kind())
    return EventLoop()


# --- Running it -------------------------------------------------------------------------------------------------------


class Running:
    """A loop, from the moment when somebody wants one, and all that hangs on it."""

    def __init__(self, replaces: bool = False) -> None:
        """Prepare; the loop itself is made on its thread."""
        self.loop: EventLoop | None = None
        self.pending: set[Any] = set()
        self.calls: set[int] = set()  # of Elixir functions, by number, for which coroutines wait
        self._replaces = replaces
        self._early: collections.deque[tuple[Any, ...]] = collections.deque()
        self._ended = False
        self._proved = False
        self._beats = False

    def post(
        self, callback: Callable[..., object], *args: object, context: contextvars.Context | None = None
    ) -> bool:
        """Have the loop call back, from any thread; False when it has ended."""
        with _lock:
            if self._ended:
                return False
            if self.loop is None:
                self._early.append((callback, *args, context))
                return True
        try:
            self.loop.call_soon_threadsafe(callback, *args, context=context)
        except RuntimeError:  # It was closed, and is about to be replaced.
            return False
        return True

    # The rest is for the loop's thread.

    def begin(self) -> None:
        """Make the loop."""
        with contextlib.suppress(Exception):  # Who knows what `threading` is by now.
            threading.current_thread().name = "pythonx_asyncio"
        loop = _make_loop(self._replaces)
        with _lock:
            self.loop = loop
        self.go_on()

    def go_on(self) -> None:
        """Prepare for the next run."""
        while self._early:
            callback, *args, context = self._early[0]
            self.loop.call_soon(callback, *args, context=context)
            self._early.popleft()
        # What is left of a run that did not come to its end.
        self.loop._thread_id = None
        _set_running_loop(None)
        if not self._proved:
            self.loop.call_soon(self._prove)

    def _prove(self) -> None:
        self._proved = True

    def begin_beating(self) -> None:
        """Come by from time to time from now on, for as long as anything is pending."""
        if not self._beats:
            self._beats = True
            self.loop.call_later(_HEARTBEAT_SECONDS, self._beat)

    def _beat(self) -> None:
        self._beats = False
        if self.pending:
            self.begin_beating()

    def recover(self, error: BaseException) -> None:
        """Fail what hangs on a loop that was struck, and prepare to go on, or end it."""
        text = (
            f"the event loop was struck by {_text_of(error)}, which ended everything that was awaited on it"
        )
        if not self._proved:
            self.end(text)
            return
        self._proved = False
        self._beats = False
        for pending in list(self.pending):
            if pending.begun:
                pending.fail(RuntimeError(text))
            else:
                pending.begin_again()
        self.begin_beating()

    def end(self, text: str) -> None:
        """Replace this one, if anybody wants another."""
        global _running
        with _lock:
            self._ended = True
            if _running is self:
                _running = None
        for number in self.calls:
            _pythonx.cancel_call(number)
        for pending in list(self.pending):
            if pending.begun or self.loop is None:
                pending.fail(RuntimeError(text))
            else:
                pending.begin_again()
        if self.loop is not None:
            self.loop._thread_id = None
            with contextlib.suppress(BaseException):
                _close(self.loop)


_lock = allocate_lock()
_wanted = allocate_lock()  # locked while there is nothing for the thread to do
_wanted.acquire()
_running: Running | None = None
_ended_one = False
_started = False
_left = False  # this is a forked copy, made on this thread
_forking_task: Any = None


def running() -> Running:
    """Return the one to await on; a new one if need be."""
    global _running, _started
    _pythonx.check_not_forked("await")
    with _lock:
        if _running is not None:
            return _running
        if not _started:
            _pythonx.start_loop_thread(serve)
            _started = True
        _running = Running(replaces=_ended_one)
        if _wanted.locked():
            _wanted.release()
        return _running


def running_on(loop: object) -> Running | None:
    """Return the one whose loop this is."""
    current = _running
    return current if current is not None and current.loop is loop else None


def serve(error: BaseException | None) -> None:
    """Run the loop until something gets out of it. An exception may leave this anywhere: it is called again with it."""
    global _ended_one
    current = _running
    if current is None:
        _wanted.acquire()
        return
    if error is not None and current.loop is not None:
        _judge(current, error)
        if current is not _running:
            _ended_one = True
            return
    if current.loop is None:
        try:
            current.begin()
        except Exception as failure:
            current.end(f"the event loop cannot be started: {_text_of(failure)}")
            return
    else:
        current.go_on()
    try:
        _run_forever(current.loop)
    except BaseException:
        if not _left:
            raise
    if _left:
        _end_forked_copy()


def _judge(current: Running, error: BaseException) -> None:
    traceback = error.__traceback__
    while traceback is not None:
        handle = traceback.tb_frame.f_locals.get("self")
        if issubclass(type(handle), _Handle):
            # Its frames are no business of who gets to see it.
            error.__traceback__ = traceback.tb_next
            current.loop.call_soon(_tell, current, handle, error)
            return
        traceback = traceback.tb_next
    current.recover(error)


def _tell(current: Running, handle: Any, error: BaseException) -> None:
    """Give an exception that came out of a callback to who awaits; called when all that it has led to is done."""
    task = getattr(handle._callback, "__self__", None)
    is_task = asyncio.isfuture(task)
    if is_task and task.done() and not task._log_traceback:
        return  # Whoever awaits it has been told.
    told = False
    # A generator that is collected is closed by whoever happens to be there.
    if not (is_task and type(task.get_coro()).__name__ == "async_generator_athrow"):
        # A copy: the context itself may be in use by now.
        evaluation = handle._context.copy().run(_pythonx.current_evaluation)
        for pending in list(current.pending):
            if evaluation is not None and pending.evaluation is evaluation:
                pending.fail(error)
                told = True
    if told and is_task and task.done() and not task.cancelled():
        task.exception()  # It need not be complained of.
    if not told and not is_task:
        message = f"{type(error).__name__} in callback {handle!r}"
        current.loop.call_exception_handler({"message": message, "exception": error, "handle": handle})


def _text_of(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException:
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


# --- Forked copies ----------------------------------------------------------------------------------------------------


class _Nothing(collections.deque):
    """Takes the place of the callbacks that were about to be called, and of those that would be added."""

    def popleft(self) -> NoReturn:
        raise SystemExit

    def append(self, _callback: object) -> None:
        pass


def _note_forking_task() -> None:
    """Before a fork, as asyncio forgets in the copy which loop runs, and with it, from Python 3.15 on, the task."""
    global _forking_task
    if _pythonx.is_loop_thread() and _running is not None and _running.loop is not None:
        _forking_task = _current_task(_running.loop)


def _forget_forking_task() -> None:
    global _forking_task
    if _pythonx.is_loop_thread():
        _forking_task = None


def _leave_loop() -> None:
    """In a copy of the process that a coroutine has made, leave the loop when the coroutine lets it go."""
    global _left
    current = _running
    if _pythonx.is_loop_thread() and current is not None and current.loop is not None:
        _left = True
        current.loop._ready = _Nothing()
        current.loop._stopping = True
        # From Python 3.15 on the end of the step is an error too, as its loop is not the running one any more.
        current.loop.set_exception_handler(lambda _loop, _context: None)


def _end_forked_copy() -> None:
    if _forking_task is None or _forking_task.cancelled():
        return
    if not _forking_task.done():
        _pythonx.check_not_forked("await")  # The coroutine awaits.
    if (error := _forking_task.exception()) is not None:
        raise error


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_note_forking_task, after_in_parent=_forget_forking_task, after_in_child=_leave_loop
    )
