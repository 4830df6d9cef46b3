# ruff: noqa: N802, N815 - methods are named after the nodes of ast, as in ast.NodeVisitor
"""Which names a piece of code reads from its global scope, and which it leaves there.

The ``~PY`` sigil asks before the code is compiled: it passes the Elixir variables that the code reads, and
binds the names that it leaves. So a name counts as

* *referenced* when it is loaded at a place where nothing earlier in the source and in sight has defined it,
  unless it is a builtin;
* *defined* when the run may change it in the global scope: it is stored, imported or deleted there. A star
  import defines the name ``*``, as the names behind it are known at run time only;
* *kept* when it is defined, but a run can leave it untouched (a branch that was not taken, a loop over
  nothing), so that a caller who has such a name may keep its value. Not kept are names that are always
  assigned, and those that the code deletes or also reads: when one of them is missing after a run, it was
  deleted.

What a place sees is decided by the order of the source, without following the flow of control. That errs
towards passing a name too few, and then Python's own NameError tells.
"""

from __future__ import annotations

import ast
import builtins
import re
import warnings
from collections.abc import Iterable, Iterator

_Nodes = Iterable["ast.AST | None"]

# A file name that is ours alone, for a filter on warnings to know it by.
_FILE = "<pythonx scan>"
_filter: object = None

# At the top level, these leave their names behind whenever the code ran to its end.
_ALWAYS_BINDS = (
    ast.Assign,
    ast.AnnAssign,
    ast.Import,
    ast.ImportFrom,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
)

_MODULE, _FUNCTION, _CLASS, _COMPREHENSION, _TYPE_PARAMETERS = range(5)


def scan_globals(source: bytes) -> tuple[list[str], list[str], list[str], list[str], list[str]]:
    """Return the sorted names (referenced, defined, kept, annotated, deleted) of ``source``.

    Kept are the defined names that a run may leave untouched, annotated those that only annotations of
    parameters and variables read, deleted those that are deleted and may be defined nowhere.

    Raises SyntaxError with the file name ``<unknown>`` when it does not parse.
    """
    scanner = _Scanner()
    scanner.run(_parse(source))
    return scanner.result()


def _parse(source: bytes) -> ast.Module:
    _drop_warnings()
    try:
        return compile(source, _FILE, "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
    except SyntaxError as error:
        error.filename = "<unknown>"
        raise
    except ValueError as error:  # Python 3.10 on a NUL
        raise SyntaxError(*error.args) from None


def _drop_warnings() -> None:
    # The evaluation that follows parses the same text and reports its warnings, with the right file and line.
    # warnings.catch_warnings() is no way to drop them here, as it changes the filters of every thread.
    global _filter
    if warnings.filters[:1] != [_filter]:
        warnings.filterwarnings("ignore", category=Warning, module=re.escape(_FILE))
        _filter = warnings.filters[0]


class _Scope:
    """The names that one scope has defined so far."""

    __slots__ = ("global_names", "kind", "names")

    def __init__(self, kind: int) -> None:
        self.kind = kind
        self.names: set[str] = set()
        self.global_names: set[str] = set()


class _Scanner:
    """Walks a tree in the order of the source, with a stack of scopes.

    A method ``scan_<Node>`` yields the children to walk next and acts between them, as a recursive visitor
    would; ``run`` keeps the started ones on a list, so that the depth of a tree is bounded by memory.
    """

    def __init__(self) -> None:
        self._module = _Scope(_MODULE)
        self._scopes = [self._module]
        self._handler_names: list[str] = []
        self._always_binds = False
        self._referenced: set[str] = set()
        self._certain: set[str] = set()
        self._deleted: set[str] = set()
        self._annotated: set[str] = set()
        self._in_annotation = False

    def run(self, tree: ast.AST) -> None:
        """Walk ``tree``."""
        started = [self._scan(tree)]
        while started:
            for child in started[-1]:
                if child is not None:
                    started.append(self._scan(child))
                    break
            else:
                started.pop()

    def result(self) -> tuple[list[str], list[str], list[str], list[str], list[str]]:
        """Return what ``scan_globals`` promises."""
        defined = self._module.names
        kept = defined - self._certain - self._deleted - self._referenced - self._annotated - {"*"}
        names = (self._referenced, defined, kept, self._annotated - self._referenced, self._deleted)
        return tuple(sorted(group) for group in names)

    def _scan(self, node: ast.AST) -> Iterator[ast.AST | None]:
        method = getattr(self, f"scan_{type(node).__name__}", ast.iter_child_nodes)
        return iter(method(node))

    # Names

    def _define(self, name: str, scope: _Scope, *, always: bool = True) -> None:
        if name in scope.global_names:
            self._module.names.add(name)
            return
        scope.names.add(name)
        if always and self._always_binds and scope is self._module:
            self._certain.add(name)

    def _load(self, name: str) -> None:
        if not self._is_visible(name) and name not in vars(builtins):
            (self._annotated if self._in_annotation else self._referenced).add(name)

    def _annotations(self, nodes: _Nodes) -> _Nodes:
        outer, self._in_annotation = self._in_annotation, True
        yield from nodes
        self._in_annotation = outer

    def _delete(self, name: str) -> None:
        scope = self._scopes[-1]
        if name in self._handler_names:
            return
        if scope is self._module or name in scope.global_names:
            self._load(name)
            self._deleted.add(name)

    def _is_visible(self, name: str) -> bool:
        if name in self._handler_names:
            return True
        in_class_body = True  # the names of a class are not seen by its methods
        for scope in reversed(self._scopes):
            if name in scope.global_names:
                return name in self._module.names
            if name in scope.names and (scope.kind != _CLASS or in_class_body):
                return True
            in_class_body = in_class_body and scope.kind == _TYPE_PARAMETERS
        return False

    def scan_Name(self, node: ast.Name) -> _Nodes:
        if isinstance(node.ctx, ast.Load):
            self._load(node.id)
        elif isinstance(node.ctx, ast.Store):
            self._define(node.id, self._scopes[-1])
        else:
            self._delete(node.id)
        return ()

    def scan_Global(self, node: ast.Global) -> _Nodes:
        if self._scopes[-1] is not self._module:
            self._scopes[-1].global_names.update(node.names)
        return ()

    # Statements

    def scan_Module(self, node: ast.Module) -> _Nodes:
        for statement in node.body:
            self._always_binds = isinstance(statement, _ALWAYS_BINDS)
            yield statement

    def scan_Assign(self, node: ast.Assign) -> _Nodes:
        yield node.value
        yield from node.targets

    def scan_AugAssign(self, node: ast.AugAssign) -> _Nodes:
        yield node.value
        if isinstance(node.target, ast.Name):
            self._load(node.target.id)
        yield node.target

    def scan_AnnAssign(self, node: ast.AnnAssign) -> _Nodes:
        yield node.value
        if self._scopes[-1].kind != _FUNCTION:  # Python evaluates no others
            yield from self._annotations([node.annotation])
        if node.value is None:
            self._always_binds = False
        yield node.target

    def scan_Import(self, node: ast.Import) -> _Nodes:
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            self._define(name, self._scopes[-1])
        return ()

    def scan_ImportFrom(self, node: ast.ImportFrom) -> _Nodes:
        for alias in node.names:
            self._define(alias.asname or alias.name, self._scopes[-1])
        return ()

    def scan_For(self, node: ast.For | ast.AsyncFor) -> _Nodes:
        yield node.iter
        yield node.target
        yield from node.body
        yield from node.orelse

    scan_AsyncFor = scan_For

    def scan_ExceptHandler(self, node: ast.ExceptHandler) -> _Nodes:
        yield node.type
        # Python unbinds the name at the end of the handler, so it is never defined.
        if node.name:
            self._handler_names.append(node.name)
        yield from node.body
        if node.name:
            self._handler_names.pop()

    # Definitions: what Python evaluates outside of the new scope is walked before the name is defined, so
    # that `@f def f(a=f): ...` reads the f that was there before.

    def scan_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> _Nodes:
        scope = self._scopes[-1]
        yield from node.decorator_list
        yield from _defaults(node.args)
        self._push(_TYPE_PARAMETERS)
        yield from self._type_parameters(node)
        yield from self._annotations(argument.annotation for argument in _arguments(node.args))
        yield node.returns
        self._define(node.name, scope)
        yield from self._function_body(node.args, node.body)
        self._scopes.pop()

    scan_AsyncFunctionDef = scan_FunctionDef

    def scan_Lambda(self, node: ast.Lambda) -> _Nodes:
        yield from _defaults(node.args)
        yield from self._function_body(node.args, [node.body])

    def scan_ClassDef(self, node: ast.ClassDef) -> _Nodes:
        scope = self._scopes[-1]
        yield from node.decorator_list
        self._push(_TYPE_PARAMETERS)
        yield from self._type_parameters(node)
        yield from node.bases
        yield from node.keywords
        self._define(node.name, scope)
        self._push(_CLASS)
        yield from node.body
        self._scopes.pop()
        self._scopes.pop()

    def scan_TypeAlias(self, node: ast.TypeAlias) -> _Nodes:
        yield node.name
        self._push(_TYPE_PARAMETERS)
        yield from self._type_parameters(node)
        yield node.value
        self._scopes.pop()

    def _type_parameters(self, node: ast.AST) -> _Nodes:
        parameters = getattr(node, "type_params", [])  # since Python 3.12
        for parameter in parameters:
            self._define(parameter.name, self._scopes[-1])
        return parameters

    def _function_body(self, arguments: ast.arguments, body: Iterable[ast.AST]) -> _Nodes:
        self._push(_FUNCTION)
        for argument in _arguments(arguments):
            self._define(argument.arg, self._scopes[-1])
        yield from body
        self._scopes.pop()

    # Expressions

    def scan_NamedExpr(self, node: ast.NamedExpr) -> _Nodes:
        yield node.value
        scopes = reversed(self._scopes)
        scope = next(scope for scope in scopes if scope.kind != _COMPREHENSION)
        self._define(node.target.id, scope, always=False)

    def scan_ListComp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp) -> _Nodes:
        return self._comprehension(node.generators, node.elt)

    scan_SetComp = scan_ListComp
    scan_GeneratorExp = scan_ListComp

    def scan_DictComp(self, node: ast.DictComp) -> _Nodes:
        return self._comprehension(node.generators, node.key, node.value)

    def _comprehension(self, generators: list[ast.comprehension], *elements: ast.expr) -> _Nodes:
        yield generators[0].iter  # evaluated outside, where a class body sees its names
        self._push(_COMPREHENSION)
        for generator in generators:
            if generator is not generators[0]:
                yield generator.iter
            yield generator.target
            yield from generator.ifs
        yield from elements
        self._scopes.pop()

    # Patterns

    def scan_MatchAs(self, node: ast.MatchAs) -> _Nodes:
        yield node.pattern
        if node.name:
            self._define(node.name, self._scopes[-1])

    def scan_MatchStar(self, node: ast.MatchStar) -> _Nodes:
        if node.name:
            self._define(node.name, self._scopes[-1])
        return ()

    def scan_MatchMapping(self, node: ast.MatchMapping) -> _Nodes:
        yield from node.keys
        yield from node.patterns
        if node.rest:
            self._define(node.rest, self._scopes[-1])

    def _push(self, kind: int) -> None:
        self._scopes.append(_Scope(kind))


def _arguments(arguments: ast.arguments) -> list[ast.arg]:
    found = arguments.posonlyargs + arguments.args + arguments.kwonlyargs
    return found + [arg for arg in (arguments.vararg, arguments.kwarg) if arg]


def _defaults(arguments: ast.arguments) -> _Nodes:
    return [*arguments.defaults, *arguments.kw_defaults]
