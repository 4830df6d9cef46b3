"""The module that an evaluation runs in.

`sys.modules["__main__"]` is one for the whole interpreter, evaluations are many: each new one puts its own module
there. Looked at from an evaluation that still runs, that module would be a stranger's, and pickling a class defined
there would fail. So attributes are those of the module of whoever asks.

Whoever asks may do so for a class or a function of an earlier evaluation, of which `__module__` is `__main__` too:
`pickle` wants the class by its name, `typing` the names in its annotations. Such names are looked for where the
evaluation itself gets at them, and nowhere else: among the classes and functions of the objects that it holds, and in
the namespaces that these come from. What nobody has passed to an evaluation it cannot find by name.
"""

from __future__ import annotations

import builtins
import gc
import itertools
import sys
from types import FrameType, FunctionType, MethodType, ModuleType

import _pythonx

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

_MAIN = "__main__"
_NOTHING = object()
_get = ModuleType.__getattribute__
_set = ModuleType.__setattr__
_delete = ModuleType.__delattr__

# How far a name is looked for: outwards in frames, of code that is no evaluation's in the nearest ones; and in objects
# that others hold, which takes a tenth of a second.
_MAX_FRAMES = 200
_NEAREST = 3
_MAX_OBJECTS = 200_000

# What objects of these modules hold is everyone's: handlers, tasks, threads.
_SHARED = {"logging", "asyncio", "_asyncio", "threading", "_thread", "_contextvars", "weakref", "_weakref"}
_ATOMS = {int, float, complex, bool, str, bytes, bytearray, range, slice, type(None), FrameType}


class MainModule(ModuleType):
    """The `__main__` of one evaluation."""

    # The text of the evaluation, where the module is the home of classes: see main_module.hpp.
    __slots__ = ("__evaluation_source__",)

    def __getattribute__(self, name: str) -> Any:
        main = _pythonx.current_main()
        if name == "__dict__":
            return _names_for_caller(own_names(main))
        try:
            return _get(main, name) if main is not None else _get_without_module(name)
        except AttributeError:
            # Of these each module has its own, or none; and a lambda has no name by which it could be found again.
            if name.startswith("__") or not name.isidentifier():
                raise
        found = _find(name, main)
        if found is _NOTHING:
            raise AttributeError(f"module '__main__' has no attribute {name!r}")
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        main = _pythonx.current_main()
        if main is not None:
            _set(main, name, value)
        else:
            own_names(None)[name] = value

    def __delattr__(self, name: str) -> None:
        main = _pythonx.current_main()
        if main is not None:
            _delete(main, name)
        elif own_names(None).pop(name, _NOTHING) is _NOTHING:
            raise AttributeError(name)

    def __dir__(self) -> list[str]:
        return list(own_names(_pythonx.current_main()))


def new_session() -> MainModule:
    """Return a module for evaluations that share their names; see main_module.hpp."""
    main = MainModule(_MAIN)
    _get(main, "__dict__")["__builtins__"] = vars(builtins)
    return main


def own_names(main: ModuleType | None) -> dict[str, Any]:
    """Return the namespace of whoever asks: of the evaluation, or else of the innermost code that is one's."""
    if main is not None:
        return _get(main, "__dict__")
    for frame in _frames():
        if is_main(frame.f_globals):
            return frame.f_globals
    return vars(ModuleType(_MAIN))


def is_main(names: dict[str, Any]) -> bool:
    """Tell whether these are the globals of an evaluation."""
    return names.get("__name__") == _MAIN


def _get_without_module(name: str) -> Any:
    """Return an attribute for a thread that no evaluation with a namespace is known of."""
    names = own_names(None)
    return names[name] if name in names else _get(ModuleType(_MAIN), name)


def _frames() -> Iterator[FrameType]:
    """Yield the frames of this thread, the innermost first, without those of this file."""
    frame: FrameType | None = sys._getframe(1)
    for _ in range(_MAX_FRAMES):
        while frame is not None and frame.f_globals is globals():
            frame = frame.f_back
        if frame is None:
            return
        yield frame
        frame = frame.f_back


def _names_for_caller(own: dict[str, Any]) -> dict[str, Any]:
    """Return the namespace that a library wants which asks for that of a class or function of an earlier evaluation.

    It has that object in a variable. Names that the object's own namespace lacks are the asking evaluation's: there
    may be what completes the class.
    """
    for frame in itertools.islice(_frames(), _NEAREST):
        if is_main(frame.f_globals):
            break
        homes = {}
        for variable, value in frame.f_locals.items():
            value = value.__func__ if type(value) is MethodType else value
            if isinstance(value, (type, FunctionType)) and _is_of_main(value):
                names = home_names(value)
                homes[variable] = own if names is None else names
        if homes:
            names = homes[_asked_for(frame, homes)]
            return own if names is own else {**own, **names}
    return own


def _asked_for(frame: FrameType, homes: dict[str, dict[str, Any]]) -> str:
    """Return the variable with the class or function whose `__module__` the code has looked at last."""
    variables = list(homes)
    if len({id(names) for names in homes.values()}) > 1:
        import dis

        instructions = [each for each in dis.get_instructions(frame.f_code) if each.offset <= frame.f_lasti]
        for before, instruction in reversed(list(itertools.pairwise(instructions))):
            if instruction.argval == "__module__":
                loaded = before.argval[-1] if isinstance(before.argval, tuple) else before.argval
                if loaded in homes:
                    return loaded
    return variables[-1]


def home_names(subject: Any) -> dict[str, Any] | None:
    """Return the namespace that a class or function was defined in, None if that is no evaluation's or unknown.

    Of that of a class without methods only what its annotations may name is left when its evaluation has ended.
    """
    if isinstance(subject, FunctionType):
        return subject.__globals__ if is_main(subject.__globals__) else None
    if not _is_of_main(subject):
        return None
    for method in own_functions(subject):
        if is_main(method.__globals__):
            return method.__globals__
    home = _pythonx.home_of(subject)
    return None if home is None else _get(home, "__dict__")


def own_functions(owner: type) -> Iterator[FunctionType]:
    """Yield the functions that the body of a class has defined."""
    prefix = owner.__qualname__ + "."
    for value in list(vars(owner).values()):
        function = _undecorated(value)
        if type(function) is FunctionType and function.__qualname__.startswith(prefix):
            yield function


def _undecorated(value: Any) -> Any:
    """Return the function in a method or property. Asked for an attribute, any other object may run code of its own."""
    if issubclass(type(value), (staticmethod, classmethod)):
        return value.__func__
    return value.fget if issubclass(type(value), property) else value


def _is_of_main(subject: Any) -> bool:
    return getattr(subject, "__module__", None) == _MAIN


def _find(name: str, main: ModuleType | None) -> Any:
    """Look for a name among what the caller holds, the nearest first."""
    roots: list[Any] = []
    for index, frame in enumerate(_frames()):
        if index < _NEAREST or is_main(frame.f_globals):
            roots.extend(frame.f_locals.values())
    roots.extend(own_names(main).values())
    roots.extend(_pythonx.current_operands() or ())
    for subject in _subjects(roots):
        if getattr(subject, "__qualname__", None) == name:
            return subject
        names = home_names(subject) if isinstance(subject, (type, FunctionType)) else None
        if names is not None and name in names:
            return names[name]
    return _NOTHING


def _subjects(roots: list[Any]) -> Iterator[Any]:
    """Yield what says of itself that it is of `__main__`, in the order of distance from the roots."""
    # What is met is kept alive, or its number may become another's.
    met: dict[int, Any] = {}
    level: Iterable[Any] = roots
    while level:
        fresh = []
        for value in level:
            if type(value) in _ATOMS or id(value) in met:
                continue
            met[id(value)] = value
            fresh.append(value)
            if len(met) > _MAX_OBJECTS:
                return
            kind = type(value)
            if (isinstance(value, (type, FunctionType)) or _has_name(value)) and _is_of_main(value):
                yield value
            if id(kind) not in met:
                met[id(kind)] = kind
                fresh.append(kind)
                if _is_of_main(kind):
                    yield kind
        level = [held for value in fresh for held in _held_by(value)]


def _has_name(value: Any) -> bool:
    """Tell whether an object is known by a name as a function is: a wrapper, a type of `typing`."""
    try:
        own = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return False
    return type(own) is dict and "__module__" in own and "__qualname__" in own


def _held_by(value: Any) -> Iterable[Any]:
    """Return what an object holds, but for what is everyone's: modules, and what hangs on those."""
    kind = type(value)
    if isinstance(value, ModuleType):
        return ()
    if kind is FunctionType:
        held = [value.__closure__, value.__defaults__, value.__kwdefaults__, value.__dict__]
        return [*held, *value.__globals__.values()] if is_main(value.__globals__) else held
    if isinstance(value, type):
        return gc.get_referents(value) if _is_of_main(value) else ()
    if kind.__module__.partition(".")[0] in _SHARED:
        return ()
    if kind.__name__ == "ndarray" and kind.__module__ == "numpy":
        return value.ravel()[:_MAX_OBJECTS].tolist() if value.dtype.hasobject else ()
    return gc.get_referents(value)


def source_of(owner: type) -> tuple[str, int] | None:
    """Return the text of the evaluation that has made a class, None if that has not ended."""
    home = _pythonx.home_of(owner)
    try:
        return None if home is None else _get(home, "__evaluation_source__")
    except AttributeError:
        return None
