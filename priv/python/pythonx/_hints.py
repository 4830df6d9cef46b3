"""Type hints and defaults as data that Elixir understands: lists that begin with the name of what they are.

Hints are read from the source, never evaluated: what a name means is told from its last part, so `np.ndarray` is the
array of numpy, however that was imported. What is not known is `["any"]`.
"""

from __future__ import annotations

import ast

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

ANY = ["any"]

_PLAIN = {
    "int": "int",
    "float": "float",
    "complex": "complex",
    "str": "str",
    "LiteralString": "str",
    "bytes": "bytes",
    "bytearray": "bytes",
    "memoryview": "bytes",
    "bool": "bool",
    "None": "none",
    "NoneType": "none",
    "date": "date",
    "datetime": "datetime",
    "time": "time",
    "timedelta": "timedelta",
    "Decimal": "decimal",
    "UUID": "uuid",
    "Path": "path",
    "PurePath": "path",
    "PathLike": "path",
    "range": "range",
    "ndarray": "array",
    "NDArray": "array",
    "ArrayLike": "array",
    "Tensor": "array",
    "DataFrame": "table",
    "Callable": "callable",
}
_LISTS = frozenset(("list", "List", "MutableSequence", "Sequence"))
# An argument may be any of these; a result that is said to be one may be anything that can be iterated.
_ITERABLES = frozenset(("Iterable", "Collection", "Container", "Reversible"))
_ITERATORS = frozenset(("Iterator", "Generator", "AsyncIterator", "AsyncGenerator", "AsyncIterable"))
_DICTS = frozenset(("dict", "Dict", "Mapping", "MutableMapping", "OrderedDict", "defaultdict", "Counter"))
_SETS = frozenset(("set", "Set", "frozenset", "FrozenSet", "AbstractSet", "MutableSet"))
_TUPLES = frozenset(("tuple", "Tuple"))
_TRANSPARENT = frozenset(("Annotated", "Final", "ClassVar", "Required", "NotRequired", "ReadOnly", "InitVar"))

# Aliases may go round in circles.
_DEEPEST = 20


class Hints:
    """Reads hints in the light of what the names of a module stand for.

    Args:
        classes: The names of the module's classes.
        aliases: What is assigned to global names, which may be types.
        complain: Called with the line and the text of a hint that does not parse.
    """

    def __init__(
        self,
        classes: set[str],
        aliases: dict[str, ast.expr],
        complain: Callable[[int, str], None] = lambda _line, _text: None,
    ) -> None:
        self._classes = classes
        self._aliases = aliases
        self._complain = complain

    def parse(self, text: str) -> list[Any]:
        """Return what the text of a hint says."""
        try:
            return self.read(ast.parse(text.strip(), mode="eval").body)
        except (SyntaxError, ValueError):
            return ANY

    def read(self, node: ast.expr | None, depth: int = 0) -> list[Any]:
        """Return what the expression of a hint says."""
        if node is None or depth > _DEEPEST:
            return ANY
        if isinstance(node, ast.Constant):
            return self._constant(node, depth)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return union([self.read(node.left, depth + 1), self.read(node.right, depth + 1)])
        if isinstance(node, (ast.Name, ast.Attribute)):
            return self._name(_last_name(node), depth)
        if isinstance(node, ast.Subscript):
            return self._subscript(node, depth)
        return ANY

    def _constant(self, node: ast.Constant, depth: int) -> list[Any]:
        if node.value is None:
            return ["none"]
        if isinstance(node.value, str):
            try:
                inner = ast.parse(node.value.strip(), mode="eval").body
            except (SyntaxError, ValueError):
                self._complain(node.lineno, node.value)
                return ANY
            return self.read(inner, depth + 1)
        return ANY

    def _name(self, name: str, depth: int) -> list[Any]:
        if name in self._classes:
            return ["class", name]
        if name in self._aliases:
            return self.read(self._aliases[name], depth + 1)
        if name in _PLAIN:
            return [_PLAIN[name]]
        if name in _LISTS:
            return ["list", ANY]
        if name in _ITERABLES:
            return ["iterable", ANY]
        if name in _ITERATORS:
            return ["iterator", ANY]
        if name in _DICTS:
            return ["dict", ANY, ANY]
        if name in _SETS:
            return ["set", ANY]
        if name in _TUPLES:
            return ["tuple_of", ANY]
        if name == "Self":
            return ["self"]
        return ["awaitable", ANY] if name in ("Awaitable", "Coroutine") else ANY

    def _subscript(self, node: ast.Subscript, depth: int) -> list[Any]:
        name = _last_name(node.value)
        items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]

        def item(index: int) -> list[Any]:
            return self.read(items[index], depth + 1) if index < len(items) else ANY

        if name == "Literal":
            return self._literal(items, depth)
        if name == "Optional":
            return union([item(0), ["none"]])
        if name == "Union":
            return union([item(index) for index in range(len(items))])
        if name in _TRANSPARENT:
            return item(0)
        if name in _TUPLES:
            if len(items) == 2 and isinstance(items[1], ast.Constant) and items[1].value is Ellipsis:
                return ["tuple_of", item(0)]
            return ["tuple", [item(index) for index in range(len(items))]]
        if name in _DICTS:
            return ["dict", item(0), item(1) if name != "Counter" else ["int"]]
        if name in ("Awaitable", "Coroutine"):
            return ["awaitable", item(len(items) - 1)]
        for names, kind in (
            (_LISTS, "list"),
            (_ITERABLES, "iterable"),
            (_ITERATORS, "iterator"),
            (_SETS, "set"),
        ):
            if name in names:
                return [kind, item(0)]
        # Of `NDArray[float]` or a generic class of the module the argument says nothing to Elixir.
        return self._name(name, depth)

    def _literal(self, items: list[ast.expr], depth: int) -> list[Any]:
        values = []
        for node in items:
            try:
                value = ast.literal_eval(node)
            except ValueError:
                return ANY
            values.append(value)
        if all(value is None or isinstance(value, (bool, int, str)) for value in values):
            return ["literal", values]
        return ANY


def union(parts: list[list[Any]]) -> list[Any]:
    """Return one of several hints, flat and without repetitions."""
    found: list[list[Any]] = []
    for part in parts:
        for one in part[1] if part[0] == "union" else [part]:
            if one == ANY:
                return ANY
            if one not in found:
                found.append(one)
    return found[0] if len(found) == 1 else ["union", found]


def read_default(node: ast.expr) -> list[Any]:
    """Return the default of a parameter: its value where it is a simple one, else its text."""
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return ["text", ast.unparse(node)[:200]]
    return default_of(value, ast.unparse(node)[:200])


def default_of(value: object, text: str) -> list[Any]:
    """Return the value if Elixir has it, else its text."""
    if value is None or isinstance(value, (bool, str)):
        return ["value", value, text]
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return ["value", value, text]
    if isinstance(value, float) and value - value == 0:
        return ["value", value, text]
    return ["text", text]


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
