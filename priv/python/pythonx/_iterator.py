"""Elixir enumerables as Python iterators."""

from __future__ import annotations

import _thread
import sys

import _pythonx

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator as AnyIterator

_MAX_BATCH = 4096

# Once there is a GIL, it stays.
_HAS_GIL = getattr(sys, "_is_gil_enabled", lambda: True)()


class Iterator:
    """An iterator over an Elixir enumerable.

    Elements come in batches, the first of one element, each twice as large as the one before while Elixir is fast
    enough to fill it. Nothing is read from the enumerable before it is asked for.

    Threads may share one. Whoever finds the batch at its end reads the next; the others wait for that.
    """

    __slots__ = ("_count", "_items", "_lock", "_more", "_process", "_pull")

    def __init__(self, pull: Callable[[int], tuple[bool, list]], process: object) -> None:
        self._pull = pull
        self._process = process
        self._items: AnyIterator = iter(())
        self._count = 1
        self._more = True
        self._lock = _thread.allocate_lock()

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> object:
        # The iterator of a list is safe for threads only where they take turns.
        if _HAS_GIL:
            for item in self._items:
                return item
        with self._lock:
            return self._next_read()

    def _next_read(self) -> object:
        for item in self._items:
            return item
        while self._more:
            try:
                self._more, items = self._pull(self._count)
            except BaseException:
                self.close()
                raise
            self._count = (
                min(2 * self._count, _MAX_BATCH) if len(items) == self._count else max(len(items), 1)
            )
            self._items = iter(items)
            for item in self._items:
                return item
        raise StopIteration

    def close(self) -> None:
        """End the enumerable. What has been read of it and not yet been asked for is dropped."""
        if self._more:
            self._more = False
            self._items = iter(())
            _pythonx.send(self._process, _pythonx.Atom("stop"))

    __del__ = close
