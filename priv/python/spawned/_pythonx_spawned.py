"""Takes functions and classes of evaluations to the processes that `multiprocessing` starts, and back.

A process that is started anew cannot import what an evaluation has defined, so it is sent: by cloudpickle where that is
installed; else functions as their code, and classes as the statement that has made them, which is run once more. What
they use of their namespace goes with them. This module is imported by the processes that were started, too, and there
is nothing else of ours in them: it may use the standard library only.

The namespace of an evaluation is a *space* with a token of its own. A process makes for each token a namespace, and in
that by name what it is sent. Sent back, a class is that of its token and name again: in the process that it came from
the very class, elsewhere what was made of it there.
"""

from __future__ import annotations

import builtins
import collections
import dis
import functools
import importlib
import inspect
import io
import marshal
import pickle
import sys
import threading
import typing
import uuid
import weakref
from multiprocessing import reduction
from types import CellType, CodeType, FunctionType, ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    _Item = tuple[str, Any]
    _Payload = dict[str, dict[str, _Item]]
    _Reference = tuple[str, Any, Any]

_MAIN = "__main__"
_GLOBAL_LOADS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_GLOBALS"}

# Objects of this type are pickled by the name of what they wrap.
_Cached = type(functools.lru_cache(len))

# How the process that runs the evaluations finds the namespace of a class, and the statement that has made it. Others
# have what they were sent.
runs_evaluations = False
namespace_of: Callable[[Any], dict[str, Any] | None] | None = None
statement_of: Callable[[Any, str], CodeType | None] | None = None


def reduce(subject: Any) -> Any:
    """Do for a pickler what its `reducer_override` does: say how something of an evaluation is made elsewhere."""
    if not isinstance(subject, (FunctionType, type, _Cached, typing.NewType)):
        return NotImplemented
    if getattr(subject, "__module__", "") != _MAIN:
        return NotImplemented
    if not isinstance(subject, (FunctionType, type)):
        return _reduce_wrapper(subject)
    cloudpickle = _import_cloudpickle() if runs_evaluations or not _is_made_here(subject) else None
    if cloudpickle is not None:
        return _load_pickled, (_pickled_by(cloudpickle, subject),)
    return _dump(subject)


def _reduce_wrapper(subject: Any) -> Any:
    if isinstance(subject, _Cached):
        return _make_cached, (subject.cache_parameters(), subject.__wrapped__)
    return _make_new_type, (subject.__name__, subject.__supertype__)


def _make_cached(parameters: dict[str, Any], wrapped: Any) -> Any:
    return functools.lru_cache(**parameters)(wrapped)


def _make_new_type(name: str, supertype: Any) -> Any:
    made = typing.NewType(name, supertype)
    made.__module__ = _MAIN
    return made


def _pickled_by(cloudpickle: ModuleType, subject: Any) -> bytes:
    class Pickler(cloudpickle.CloudPickler):
        # With what `multiprocessing` knows how to send while it starts a process: queues, locks.
        dispatch_table: typing.ClassVar[Any] = collections.ChainMap(
            reduction.ForkingPickler._extra_reducers, cloudpickle.CloudPickler.dispatch_table
        )

        def reducer_override(self, value: Any) -> Any:
            wrapper = isinstance(value, (_Cached, typing.NewType)) and value.__module__ == _MAIN
            return _reduce_wrapper(value) if wrapper else super().reducer_override(value)

    file = io.BytesIO()
    Pickler(file).dump(subject)
    return file.getvalue()


def _import_cloudpickle() -> ModuleType | None:
    try:
        import cloudpickle
    except Exception:
        return None
    return cloudpickle


def _load_pickled(data: bytes) -> Any:
    return _publish(pickle.loads(data))


def _publish(made: Any) -> Any:
    """Let what is made in a process that was started be found in its `__main__`, as plain pickling there wants it."""
    if not runs_evaluations and "." not in made.__qualname__:
        vars(sys.modules[_MAIN]).setdefault(made.__qualname__, made)
    return made


reduction.ForkingPickler.reducer_override = staticmethod(reduce)


def _pickled(value: object) -> bytes:
    file = io.BytesIO()
    reduction.ForkingPickler(file, pickle.HIGHEST_PROTOCOL).dump(value)
    return file.getvalue()


class _Space:
    """The namespace of an evaluation, or what another process has made of one."""

    def __init__(self, token: str, names: dict[str, Any] | None = None) -> None:
        self.token = token
        self.names = names  # those made here; those of an evaluation are not kept alive by this
        self.items: dict[str, _Item] = {}
        self._making: set[str] = set()
        self.originals: dict[str, Callable[[], Any]] = {}
        self.witnesses: list[Callable[[], Any]] = []

    def get(self, name: str) -> Any:
        """Return what has the name, which is made now if it was not before."""
        original = self.originals.get(name, _nothing)()
        if original is not None:
            return original
        if self.names is None:
            raise pickle.UnpicklingError(f"{name!r} of an earlier evaluation is gone")
        if name not in self.names:
            self._making.add(name)
            try:
                self.names[name] = self._make(*self.items[name])
            finally:
                self._making.discard(name)
            if self.items[name][0] == "function":
                self._get_all(_global_names(self.names[name].__code__))
        return self.names[name]

    def _get_all(self, names: Iterator[str]) -> None:
        """Make what is not made yet, but for what waits for this itself, which will not need it before it is made."""
        for name in names:
            if name in self.items and name not in self.names and name not in self._making:
                self.get(name)

    def _make(self, kind: str, data: Any) -> Any:
        if kind == "module":
            return importlib.import_module(data)
        if kind == "function":
            return _make_function(self, *data)
        if kind == "value":
            return pickle.loads(data)
        name, code = data[0], marshal.loads(data[1])
        self._get_all(_global_names(code, now=True))
        made: dict[str, Any] = {}
        exec(code, self.names, made)
        return _publish(made[name])


def _nothing() -> None:
    return None


_spaces: dict[str, _Space] = {}
_tokens: dict[int, str] = {}  # of namespaces, by their number
_lock = threading.RLock()
_local = threading.local()


def _space_of(names: dict[str, Any], witness: Any) -> _Space:
    """Return the space of a namespace, which is known as long as anything is alive that was sent from there."""
    with _lock:
        for number, token in list(_tokens.items()):
            space = _spaces[token]
            if space.names is None and all(reference() is None for reference in space.witnesses):
                del _tokens[number], _spaces[token]
        token = _tokens.setdefault(id(names), uuid.uuid4().hex)
        space = _spaces.setdefault(token, _Space(token))
        space.witnesses.append(weakref.ref(witness))
        return space


# --- Sending --------------------------------------------------------------------------------------------------------


def _dump(subject: Any) -> Any:
    """Return how to make something of an evaluation elsewhere: a function and its arguments."""
    outermost = getattr(_local, "payload", None) is None
    if not outermost:
        return _resolve, (_refer(subject),)
    _local.payload, _local.open = {}, set()
    try:
        reference = _refer(subject)
        return _load, (_local.payload, reference)
    finally:
        _local.payload = None


def _refer(subject: Any) -> _Reference:
    """Return how a process that has the payload finds the object, and add to the payload what that takes."""
    names = subject.__globals__ if isinstance(subject, FunctionType) else _namespace_of(subject)
    path = subject.__qualname__.split(".")
    if names is None:
        raise _failure(subject)
    space = _space_of(names, subject)
    if _follow(names, path) is subject:
        _need(space, names, path[0], subject)
        return space.token, path[0], path[1:]
    if isinstance(subject, FunctionType):
        return space.token, None, _pack(space, names, subject)
    raise _failure(subject)


def _namespace_of(subject: Any) -> dict[str, Any] | None:
    if namespace_of is not None:
        return namespace_of(subject)
    path = subject.__qualname__.split(".")
    return next((names for names in _names_made_here() if _follow(names, path) is subject), None)


def _names_made_here() -> list[dict[str, Any]]:
    return [space.names for space in list(_spaces.values()) if space.names is not None]


def _is_made_here(subject: Any) -> bool:
    """Tell whether it was sent without cloudpickle, which may not be where it came from."""
    if isinstance(subject, FunctionType):
        return any(subject.__globals__ is names for names in _names_made_here())
    return _namespace_of(subject) is not None


def _follow(names: dict[str, Any], path: list[str]) -> Any:
    found = names.get(path[0])
    for name in path[1:]:
        found = getattr(found, name, None)
    return found


def _need(space: _Space, names: dict[str, Any], name: str, user: Any) -> None:
    items = _local.payload.setdefault(space.token, {})
    if name in items:
        return
    value = names[name]
    items[name] = ("module", "builtins")  # what refers to it on the way finds it there already
    try:
        items[name] = _item(space, names, name, value)
    except Exception as error:
        del items[name]
        if value is user or isinstance(error, _Explained):
            raise
        raise _Explained(
            f"cannot send {_described(user)} to another process: it uses the global {name!r}, and of that "
            f"{type(error).__name__}: {error}"
        ) from error


class _Explained(pickle.PicklingError):
    """Says which global it is that cannot be sent."""


def _item(space: _Space, names: dict[str, Any], name: str, value: Any) -> _Item:
    if isinstance(value, ModuleType):
        if value.__name__.partition(".")[0] == "pythonx":
            raise pickle.PicklingError("the package pythonx is in the process of the VM only")
        return "module", value.__name__
    if isinstance(value, FunctionType) and value.__globals__ is names:
        space.originals[name] = weakref.ref(value)
        return "function", _pack(space, names, value)
    if isinstance(value, type) and value.__module__ == _MAIN:
        space.originals[name] = weakref.ref(value)
        statement = _statement_of(space, value, name)
        _need_all(space, names, statement, value)
        return "statement", (name, marshal.dumps(statement))
    return "value", _pickled(value)


def _statement_of(space: _Space, value: Any, name: str) -> CodeType:
    if space.items.get(name, ("",))[0] == "statement":
        return marshal.loads(space.items[name][1][1])
    statement = None if statement_of is None else statement_of(value, name)
    if statement is None:
        raise _failure(value)
    return statement


def _need_all(space: _Space, names: dict[str, Any], code: CodeType, user: Any) -> None:
    for name in _global_names(code):
        if name in names and names[name] is not user and not name.startswith("__"):
            _need(space, names, name, user)


def _global_names(code: CodeType, *, now: bool = False) -> Iterator[str]:
    """Yield the names of globals that code loads; with `now`, without those of functions that it defines."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in _GLOBAL_LOADS:
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType) and not (now and constant.co_flags & inspect.CO_OPTIMIZED):
            yield from _global_names(constant, now=now)


def _pack(space: _Space, names: dict[str, Any], function: FunctionType) -> tuple[bytes, str, str, bytes]:
    if id(function) in _local.open:
        raise pickle.PicklingError(
            f"{function.__qualname__} is in its own closure: install cloudpickle to send it"
        )
    _local.open.add(id(function))
    try:
        _need_all(space, names, function.__code__, function)
        cells = [_content(cell) for cell in function.__closure__ or ()]
        state = function.__defaults__, function.__kwdefaults__, cells, function.__doc__
        return marshal.dumps(function.__code__), function.__name__, function.__qualname__, _pickled(state)
    finally:
        _local.open.discard(id(function))


def _content(cell: CellType) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:
        return []


def _described(subject: Any) -> str:
    return (
        f"{'class' if isinstance(subject, type) else 'function'} {getattr(subject, '__qualname__', subject)}"
    )


def _failure(subject: Any) -> pickle.PicklingError:
    return _Explained(
        f"cannot send {_described(subject)} to another process: no statement of its evaluation defines it under that "
        "name. Define it at the top of the code, or add cloudpickle to the dependencies, with which it can be sent"
    )


# --- Receiving ------------------------------------------------------------------------------------------------------


def _load(payload: _Payload, reference: _Reference) -> Any:
    with _lock:
        for token, items in payload.items():
            if token in _spaces and _spaces[token].names is None:
                continue  # from here
            space = _spaces.setdefault(token, _Space(token, {"__name__": _MAIN, "__builtins__": builtins}))
            for name, item in items.items():
                # A class stays the one that it was; other values are as of now.
                if item != space.items.get(name) and not (item[0] == "statement" and name in space.names):
                    space.items[name] = item
                    space.names.pop(name, None)
            _tokens[id(space.names)] = token
        for token, items in payload.items():
            if _spaces[token].names is not None:
                for name in items:
                    _spaces[token].get(name)
        return _resolve(reference)


def _resolve(reference: _Reference) -> Any:
    token, name, rest = reference
    space = _spaces[token]
    if name is None:
        return _make_function(space, *rest)
    return functools.reduce(getattr, rest, space.get(name))


def _make_function(space: _Space, code: bytes, name: str, qualname: str, state: bytes) -> FunctionType:
    defaults, keyword_defaults, cells, doc = pickle.loads(state)
    names = space.names
    if names is None:
        sent = [witness() for witness in space.witnesses]
        names = next(
            (each.__globals__ for each in sent if isinstance(each, FunctionType)), {"__builtins__": builtins}
        )
    closure = tuple(CellType(*content) for content in cells)
    function = FunctionType(marshal.loads(code), names, name, defaults, closure or None)
    function.__kwdefaults__, function.__qualname__, function.__doc__ = keyword_defaults, qualname, doc
    function.__module__ = _MAIN
    return function
