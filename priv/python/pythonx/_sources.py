"""The text of what evaluations define, for `inspect` and what is built on it.

All evaluations have the file name `<string>`, of which no text is kept, so that tracebacks show no lines of it. Code
objects know what they were compiled from all the same, and from there `inspect.getsource` takes it: the text of that
very code, whatever else was compiled under its file's name since.
"""

from __future__ import annotations

import functools
from types import CodeType, FrameType, FunctionType, MethodType, TracebackType

import _pythonx

from pythonx import _main

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ast
    from collections.abc import Iterator
    from types import ModuleType
    from typing import Any

    _Source = tuple[str, int]


def hook_inspect(inspect: ModuleType) -> None:
    """Let `inspect` find the text of what evaluations define."""
    _wrap(inspect, "findsource", _finding)
    _wrap(inspect, "getfile", _getting_file)


def hook_linecache(linecache: ModuleType) -> None:
    """Let `linecache` find the text of an evaluation that it is given the globals of."""
    _wrap(linecache, "getlines", _getting_lines)


def _wrap(module: ModuleType, name: str, make: Any) -> None:
    original = getattr(module, name, None)
    if original is not None and not hasattr(original, "_pythonx_hook"):
        replacement = functools.wraps(original)(make(original))
        replacement._pythonx_hook = True
        setattr(module, name, replacement)


def _finding(original: Any) -> Any:
    def findsource(object: Any) -> tuple[list[str], int]:
        found = _find(object)
        return original(object) if found is None else found

    return findsource


def _getting_file(original: Any) -> Any:
    def getfile(object: Any) -> str:
        try:
            return original(object)
        except (OSError, TypeError):
            if isinstance(object, type) and _find_class(object) is not None:
                return "<string>"
            raise

    return getfile


def _getting_lines(original: Any) -> Any:
    def getlines(filename: str, module_globals: Any = None) -> list[str]:
        if filename == "<string>" and type(module_globals) is dict and _main.is_main(module_globals):
            source = _source_of_names(module_globals)
            if source is not None:
                return _lines(source)
        return original(filename, module_globals)

    return getlines


def _find(object: Any) -> tuple[list[str], int] | None:
    """Return all lines of what an object is defined in, and the index of its first; None if no evaluation did it."""
    if isinstance(object, type):
        return _find_class(object)
    code = _code_of(object)
    if code is None:
        return None
    source = _pythonx.source_of(code)
    if source is not None:
        return _lines(source), max(code.co_firstlineno - 1, 0)
    if code.co_filename == "<string>":
        # Made by exec(): its text is not that of the evaluation around it.
        raise OSError("could not get source code")
    return None


def _code_of(object: Any) -> CodeType | None:
    if isinstance(object, MethodType):
        object = object.__func__
    if isinstance(object, FunctionType):
        object = object.__code__
    if isinstance(object, TracebackType):
        object = object.tb_frame
    if isinstance(object, FrameType):
        object = object.f_code
    return object if isinstance(object, CodeType) else None


def _lines(source: _Source) -> list[str]:
    text, first = source
    lines = [line + "\n" for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    if lines[-1] == "\n":
        del lines[-1]
    return ["\n"] * (first - 1) + lines


def _find_class(owner: type) -> tuple[list[str], int] | None:
    if getattr(owner, "__module__", None) != "__main__":
        return None
    for source, lines_of_methods in sources_of(owner):
        lines = _lines(source)
        found = _place_of(owner, "".join(lines), lines_of_methods)
        if found is not None:
            return lines, found
    return None


def sources_of(owner: type) -> Iterator[tuple[_Source, list[int]]]:
    """Yield the texts that may define a class, with lines that are in its definition."""
    for function in _main.own_functions(owner):
        source = _pythonx.source_of(function.__code__)
        if source is not None:
            yield source, [function.__code__.co_firstlineno]
            return
    source = _main.source_of(owner)
    own = _main.own_names(_pythonx.current_main())
    root = owner.__qualname__.partition(".")[0]
    if source is None and _is_within(owner, own.get(root)):
        source = _pythonx.current_source()
    if source is not None:
        line = vars(owner).get("__firstlineno__")  # since Python 3.13
        yield source, [] if line is None else [line]


def _is_within(owner: type, outer: Any) -> bool:
    for name in owner.__qualname__.split(".")[1:]:
        outer = getattr(outer, name, None)
    return outer is owner


def _source_of_names(names: dict[str, Any]) -> _Source | None:
    """Return the text of the evaluation whose namespace this is."""
    main = _pythonx.current_main()
    if main is not None and names is _main.own_names(main):
        return _pythonx.current_source()
    for value in list(names.values()):
        if isinstance(value, FunctionType) and value.__globals__ is names:
            source = _pythonx.source_of(value.__code__)
            if source is not None:
                return source
    return None


def _place_of(owner: type, text: str, inside: list[int]) -> int | None:
    """Return the index of the first line of a class's definition: the last that has its name and the lines `inside`."""
    import ast

    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return None
    found = None
    for node in _definitions(tree, owner.__qualname__.split(".")):
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        if all(first <= line <= (node.end_lineno or line) for line in inside):
            found = first - 1
    return found


def _definitions(tree: ast.AST, path: list[str]) -> Iterator[ast.ClassDef]:
    """Yield the classes that a path such as `f.<locals>.A.B` may mean, in the order of the text."""
    import ast

    for node in ast.iter_child_nodes(tree):
        scope = isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        if not scope:
            yield from _definitions(node, path)
        elif node.name == path[0]:
            if len(path) > 1:
                yield from _definitions(node, path[2:] if path[1] == "<locals>" else path[1:])
            elif isinstance(node, ast.ClassDef):
                yield node
