"""What a Python module offers, as data: functions, classes, hints, documentation. Read from its source, nothing is run.

`Pythonx.Module` asks, in the VM or by way of any Python 3 that is there, which runs this file as a program:
`_describe.py` is that program, and `_inspected.py` describes modules that are imported.
"""

from __future__ import annotations

import ast
import sys

try:
    from pythonx._hints import Hints, read_default
except ImportError:
    from _hints import Hints, read_default

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DEEPEST = 6


class UnreadableError(Exception):
    """A source that cannot be described: its line and what is wrong with it."""


def describe_text(source: str, file: str, name: str) -> dict[str, Any]:
    """Describe a module of this source, which was read from `file`."""
    try:
        module = _Module(source, file, name, True)
        return module.describe()
    except UnreadableError as error:
        return {"error": error.args[1], "line": error.args[0], "file": file}


def describe_module(name: str) -> dict[str, Any]:
    """Describe a module that can be imported, without importing it."""
    file = _find(name)
    if isinstance(file, tuple):
        return {"error": file[0], "line": 0, "file": name}
    try:
        with open(file, encoding="utf-8") as opened:
            source = opened.read()
        described = _Module(source, file, name, False).describe()
    except UnreadableError as error:
        return {"error": error.args[1], "line": error.args[0], "file": file}
    described["file"] = file
    return described


def _find(name: str) -> str | tuple[str]:
    """Return the source of a module: a file. Otherwise a tuple with the reason."""
    import importlib.machinery

    path = None
    spec = None
    for index, part in enumerate(name.split(".")):
        so_far = ".".join(name.split(".")[: index + 1])
        if index == 0 and part in sys.builtin_module_names:
            return (f"the module {name} is a part of Python itself and has no source, see mix pythonx.gen",)
        spec = importlib.machinery.PathFinder.find_spec(so_far, path)
        if spec is None:
            return (f"there is no module {so_far} for the Python at {sys.executable}",)
        path = spec.submodule_search_locations
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return (f"the module {name} has no Python source, see mix pythonx.gen",)
    return spec.origin


class _Module:
    def __init__(self, source: str, file: str, name: str, strict: bool, depth: int = 0) -> None:
        self.file, self.name, self.strict, self.depth = file, name, strict, depth
        try:
            self.tree = ast.parse(source, file)
        except SyntaxError as error:
            raise UnreadableError(error.lineno or 0, f"{type(error).__name__}: {error.msg}") from None
        except (ValueError, RecursionError) as error:
            raise UnreadableError(0, f"{type(error).__name__}: {error}") from None
        self.functions: dict[str, Any] = {}
        self.classes: dict[str, ast.ClassDef] = {}
        self.aliases: dict[str, ast.expr] = {}
        self.imports: dict[str, tuple[str, str]] = {}
        self.stars: list[str] = []
        self.all: list[str] | None = None
        self._collect(self.tree.body)
        self.hints = Hints(set(self.classes), self.aliases, self._complain)
        self._others: dict[str, _Module | None] = {}

    def _complain(self, line: int, text: str) -> None:
        if self.strict:
            raise UnreadableError(line, f"the hint {text!r} does not parse")

    def _collect(self, body: list[ast.stmt]) -> None:
        for node in body:
            if isinstance(node, _FUNCTIONS):
                if not _decorated(node, "overload") or node.name not in self.functions:
                    self.functions[node.name] = node
            elif isinstance(node, ast.ClassDef):
                self.classes[node.name] = node
            elif isinstance(node, ast.ImportFrom):
                self._collect_import(node)
            elif isinstance(node, (ast.If, ast.Try, ast.With)):
                for part in ("body", "orelse", "finalbody"):
                    self._collect(getattr(node, part, []))
                for handler in getattr(node, "handlers", []):
                    self._collect(handler.body)
            else:
                self._collect_assignment(node)

    def _collect_assignment(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            name, value = node.targets[0].id, node.value
        elif (
            isinstance(node, (ast.AnnAssign, ast.AugAssign))
            and isinstance(node.target, ast.Name)
            and node.value
        ):
            name, value = node.target.id, node.value
        elif type(node).__name__ == "TypeAlias":
            self.aliases[node.name.id] = node.value
            return
        else:
            return
        if name == "__all__":
            listed = [item.value for item in getattr(value, "elts", []) if isinstance(item, ast.Constant)]
            self.all = [*(self.all or []), *listed] if isinstance(node, ast.AugAssign) else listed
        elif isinstance(value, (ast.Name, ast.Attribute, ast.Subscript, ast.BinOp)):
            self.aliases[name] = value

    def _collect_import(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            package = self.name.split(".")
            if not self.file.endswith("__init__.py"):
                package = package[:-1]
            package = package[: len(package) - (node.level - 1)]
            base = ".".join([*package, *([base] if base else [])])
        for name in node.names:
            if name.name == "*":
                self.stars.append(base)
            else:
                self.imports[name.asname or name.name] = (base, name.name)

    def describe(self) -> dict[str, Any]:
        public = self.public_names()
        functions, classes, skipped = [], [], []
        for name in public:
            found = self.lookup(name)
            if found is None:
                if self.all is not None:
                    skipped.append([name, "is not defined as a function or class in the source"])
            elif isinstance(found[1], ast.ClassDef):
                described = found[0].describe_class(found[1], name)
                if described["kind"] == "exception":
                    skipped.append([name, "is an exception, which is raised as Pythonx.Error"])
                else:
                    classes.append(described)
            else:
                functions.append({**found[0].describe_function(found[1]), "name": name})
        return {
            "name": self.name,
            "file": self.file,
            "doc": ast.get_docstring(self.tree),
            "version": None,
            "functions": functions,
            "classes": classes,
            "skipped": skipped,
        }

    def public_names(self) -> list[str]:
        names = self.all
        if names is None:
            names = [name for name in [*self.functions, *self.classes] if not name.startswith("_")]
        return list(dict.fromkeys(names))

    def lookup(self, name: str) -> tuple[_Module, Any] | None:
        """Return the definition of a name, and the module that it is in: this one or another of its package."""
        if name in self.functions:
            return self, self.functions[name]
        if name in self.classes:
            return self, self.classes[name]
        alias = self.aliases.get(name)
        if isinstance(alias, ast.Name) and alias.id != name and alias.id not in self.aliases:
            return self.lookup(alias.id)
        if name in self.imports:
            base, original = self.imports[name]
            other = self.other(base)
            return other.lookup(original) if other else None
        for base in self.stars:
            other = self.other(base)
            found = other.lookup(name) if other else None
            if found:
                return found
        return None

    def other(self, name: str) -> _Module | None:
        """Return another module of the same package, None for any else."""
        if self.strict or self.depth >= _DEEPEST or name.split(".")[0] != self.name.split(".")[0]:
            return None
        if name not in self._others:
            self._others[name] = None
            file = _find(name)
            if isinstance(file, str):
                try:
                    with open(file, encoding="utf-8") as opened:
                        self._others[name] = _Module(opened.read(), file, name, False, self.depth + 1)
                except (OSError, UnicodeError, UnreadableError):
                    pass
        return self._others[name]

    # Functions

    def describe_function(self, node: Any, drop_first: bool = False) -> dict[str, Any]:
        yields = any(isinstance(inner, (ast.Yield, ast.YieldFrom)) for inner in _own_nodes(node))
        managed = _decorated(node, "contextmanager", "asynccontextmanager", "fixture")
        kind = "function"
        if isinstance(node, ast.AsyncFunctionDef) and not managed:
            kind = "async_generator" if yields else "coroutine"
        elif yields and not managed:
            kind = "generator"
        return {
            "name": node.name,
            "line": node.lineno,
            "doc": ast.get_docstring(node),
            "kind": kind,
            "params": self.parameters(node.args, drop_first),
            "returns": ["any"] if managed else self.hints.read(node.returns),
        }

    def parameters(self, args: ast.arguments, drop_first: bool) -> list[dict[str, Any]]:
        positional = [(arg, "positional_only") for arg in args.posonlyargs]
        positional += [(arg, "positional") for arg in args.args]
        defaults: list[Any] = [None] * (len(positional) - len(args.defaults)) + list(args.defaults)
        found = [
            self.parameter(arg, kind, default)
            for (arg, kind), default in zip(positional, defaults, strict=True)
        ]
        if drop_first:
            found = found[1:]
        if args.vararg:
            found.append(self.parameter(args.vararg, "var_positional", None))
        for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
            found.append(self.parameter(arg, "keyword_only", default))
        if args.kwarg:
            found.append(self.parameter(args.kwarg, "var_keyword", None))
        return found

    def parameter(self, arg: ast.arg, kind: str, default: ast.expr | None) -> dict[str, Any]:
        return {
            "name": arg.arg,
            "kind": kind,
            "hint": self.hints.read(arg.annotation),
            "default": None if default is None else read_default(default),
        }

    # Classes

    def describe_class(self, node: ast.ClassDef, name: str) -> dict[str, Any]:
        kind = self.kind_of(node)
        methods: dict[str, dict[str, Any]] = {}
        init = None
        fields: dict[str, dict[str, Any]] = {}
        for owner, part in self.lineage(node):
            if kind in ("dataclass", "typed_dict", "named_tuple"):
                fields.update(owner.fields(part))
            for inner in part.body:
                if isinstance(inner, _FUNCTIONS):
                    if inner.name == "__init__" or (inner.name == "__new__" and init is None):
                        init = owner.describe_function(inner, True)["params"]
                    elif not inner.name.startswith("_") and not _decorated(
                        inner, "setter", "deleter", "overload"
                    ):
                        methods[inner.name] = owner.method(inner)
        return {
            "name": name,
            "line": node.lineno,
            "doc": ast.get_docstring(node),
            "kind": kind,
            "fields": list(fields.values()),
            "init": init if init is not None else ([] if kind == "class" and self.is_closed(node) else None),
            "methods": list(methods.values()),
        }

    def method(self, node: Any) -> dict[str, Any]:
        binding = "instance"
        if _decorated(node, "staticmethod"):
            binding = "static"
        elif _decorated(node, "classmethod"):
            binding = "class"
        elif _decorated(node, "property", "cached_property"):
            binding = "property"
        return {**self.describe_function(node, binding != "static"), "binding": binding}

    def lineage(self, node: ast.ClassDef, depth: int = 0) -> Iterator[tuple[_Module, ast.ClassDef]]:
        """Yield the class and those of its bases whose source is known, the furthest first."""
        for base in reversed(node.bases):
            found = self.lookup(base.id) if isinstance(base, ast.Name) and base.id != node.name else None
            if found and isinstance(found[1], ast.ClassDef) and depth < _DEEPEST:
                yield from found[0].lineage(found[1], depth + 1)
        yield self, node

    def is_closed(self, node: ast.ClassDef, depth: int = 0) -> bool:
        """Whether all there is to know of how an instance is made stands in the source."""
        if node.keywords or depth > _DEEPEST:
            return False
        for base in node.bases:
            name = base.id if isinstance(base, ast.Name) else ""
            found = None if name == node.name else self.lookup(name)
            if name not in ("object", "ABC", "Protocol") and not (
                found and isinstance(found[1], ast.ClassDef) and found[0].is_closed(found[1], depth + 1)
            ):
                return False
        return True

    def kind_of(self, node: ast.ClassDef) -> str:
        bases = {_tail(base) for _owner, part in self.lineage(node) for base in part.bases}
        if any(name.endswith(("Error", "Exception", "Warning")) for name in bases):
            return "exception"
        for name, kind in (("TypedDict", "typed_dict"), ("NamedTuple", "named_tuple")):
            if name in bases:
                return kind
        if bases & {"Enum", "IntEnum", "StrEnum", "Flag", "IntFlag"}:
            return "enum"
        if any(_decorated(part, "dataclass") for _owner, part in self.lineage(node)):
            own_init = any(
                isinstance(inner, _FUNCTIONS) and inner.name in ("__init__", "__new__")
                for _owner, part in self.lineage(node)
                for inner in part.body
            )
            init_vars = any("InitVar" in ast.dump(inner.annotation) for inner in _annotated(node))
            return "class" if own_init or init_vars else "dataclass"
        return "class"

    def fields(self, node: ast.ClassDef) -> dict[str, dict[str, Any]]:
        found = {}
        for inner in _annotated(node):
            text = ast.dump(inner.annotation)
            if "ClassVar" in text or "KW_ONLY" in text:
                continue
            call = (
                inner.value
                if isinstance(inner.value, ast.Call) and _tail(inner.value.func) == "field"
                else None
            )
            options = {keyword.arg: keyword.value for keyword in call.keywords} if call else {}
            init = options.get("init")
            found[inner.target.id] = {
                "name": inner.target.id,
                "hint": self.hints.read(inner.annotation),
                "required": inner.value is None
                or bool(call and not options.keys() & {"default", "default_factory"}),
                "init": not (isinstance(init, ast.Constant) and init.value is False),
                "default": read_default(options.get("default", ast.Name("...")) if call else inner.value)
                if inner.value
                else None,
            }
            if "NotRequired" in text:
                found[inner.target.id]["required"] = False
        return found


def _annotated(node: ast.ClassDef) -> list[Any]:
    return [
        inner
        for inner in node.body
        if isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name)
    ]


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    for inner in ast.iter_child_nodes(node):
        if not isinstance(inner, (*_FUNCTIONS, ast.Lambda, ast.ClassDef)):
            yield inner
            yield from _own_nodes(inner)


def _decorated(node: Any, *names: str) -> bool:
    return any(_tail(decorator) in names for decorator in node.decorator_list)


def _tail(node: ast.AST) -> str:
    if isinstance(node, (ast.Call, ast.Subscript)):
        return _tail(node.func if isinstance(node, ast.Call) else node.value)
    return getattr(node, "attr", getattr(node, "id", ""))
