"""Compiles the code of an evaluation: the statements, and the expression at the end that is its result.

Only `_ast`, the native part of `ast`, is used: the first evaluation need not wait for that module.
"""

from __future__ import annotations
import __future__

import _ast
import _thread
from types import CodeType

_UNNAMED = "<string>"

# Code said to be further down than this is in no file that anyone reads. Lines are counted by that many
# newlines in front of the code, which must stay cheap.
_MAX_LINE = 200_000

# What is kept of the sources for tracebacks, so that a session that goes on for weeks stays small.
_MAX_FILES = 64
_MAX_FILE_SIZE = 4 << 20

_FUTURE_FLAGS = __future__.annotations.compiler_flag | __future__.barry_as_FLUFL.compiler_flag

Codes = tuple[CodeType | None, CodeType | None]


def compile_source(
    source: str, filename: str = _UNNAMED, line: int = 1, *, allow_top_level_await: bool = False
) -> Codes:
    """Compile an evaluation's source.

    Args:
        source: The code. Neither an indentation nor an encoding is guessed.
        filename: The file that the code stands in; tracebacks then show its lines. `<string>` is code without
            a file, of which no lines are kept.
        line: The line of that file that the first line of the code is.
        allow_top_level_await: Whether `await` may stand outside of functions; a code may then be a coroutine.

    Returns:
        The code of the statements and the code of the last expression, either None when there is none.

    Raises:
        SyntaxError: With the file's line numbers.
    """
    if not 1 <= line <= _MAX_LINE:
        filename, line = _UNNAMED, 1
    flags = _ast.PyCF_ALLOW_TOP_LEVEL_AWAIT if allow_top_level_await else 0
    if filename != _UNNAMED:
        return _compile_located(source, filename, line, flags)
    return _compile(source, filename, flags)


def compile_evaluation(source: str, filename: str, line: int) -> Codes:
    """Compile the source of an evaluation, in which `await` may stand anywhere."""
    return compile_source(source, filename, line, allow_top_level_await=True)


def _compile(source: str, filename: str, flags: int) -> Codes:
    try:
        tree = compile(source, filename, "exec", flags | _ast.PyCF_ONLY_AST, dont_inherit=True)
    except UnicodeError:
        raise
    except ValueError as error:  # Python 3.10 on a NUL
        raise SyntaxError(*error.args) from None
    if not tree.body or not isinstance(tree.body[-1], _ast.Expr):
        return _compile_tree(tree, filename, "exec", flags), None
    expression = _ast.Expression(tree.body.pop().value)
    body = _compile_tree(tree, filename, "exec", flags)
    if body is not None:
        flags |= body.co_flags & _FUTURE_FLAGS  # `from __future__ import ...` holds to the end
    return body, _compile_tree(expression, filename, "eval", flags)


def _compile_tree(
    tree: _ast.Module | _ast.Expression, filename: str, mode: str, flags: int
) -> CodeType | None:
    if tree.body == []:
        return None
    return compile(tree, filename, mode, flags, dont_inherit=True)


def _compile_located(source: str, filename: str, line: int, flags: int) -> Codes:
    lines = [text + "\n" for text in source.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    _keep_source(filename, line, lines)
    try:
        return _compile("\n" * (line - 1) + source, filename, flags)
    except SyntaxError as error:
        # Python took the text from the file on disk, where the code is indented or has moved since.
        if error.lineno is not None and 0 <= error.lineno - line < len(lines):
            error.text = lines[error.lineno - line]
        raise


# The lines of each file that code came from, the least recently compiled first.
_sources: dict[str, list[str]] = {}
_sizes: dict[str, int] = {}
_lock = _thread.allocate_lock()


def _keep_source(filename: str, line: int, lines: list[str]) -> None:
    """Make `lines` the text of `filename` from `line` on, beside what is known of other lines."""
    import linecache

    size = sum(map(len, lines))
    with _lock:
        known = _sources.pop(filename, [])
        total = _sizes.pop(filename, 0) + size
        if total > _MAX_FILE_SIZE:
            known, total = [], size
        if size > _MAX_FILE_SIZE:
            linecache.cache.pop(filename, None)
            return
        known.extend(["\n"] * (line - 1 - len(known)))
        known[line - 1 : line - 1 + len(lines)] = lines
        _sources[filename], _sizes[filename] = known, total
        # Without a time of modification the entry is believed, whatever there is on disk.
        linecache.cache[filename] = (total, None, known, filename)
        while len(_sources) > _MAX_FILES:
            oldest = next(iter(_sources))
            del _sources[oldest], _sizes[oldest]
            linecache.cache.pop(oldest, None)
