"""What an installed module offers, seen from a Python that has imported it: described as `_signatures.py` does.

That also knows modules without a source, and what decorators and imports have made. What Python cannot tell of compiled
functions is taken from the stub beside the module, if there is one.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib
import inspect
import re
import sys
import types

try:
    from pythonx import _signatures
    from pythonx._hints import ANY, Hints, default_of
except ImportError:
    import _signatures
    from _hints import ANY, Hints, default_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: "positional_only",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "positional",
    inspect.Parameter.VAR_POSITIONAL: "var_positional",
    inspect.Parameter.KEYWORD_ONLY: "keyword_only",
    inspect.Parameter.VAR_KEYWORD: "var_keyword",
}
# Where an object lives says nothing about it, and is another one each time.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def describe(name: str) -> dict[str, Any]:
    """Import a module and describe it."""
    try:
        module = importlib.import_module(name)
    except Exception as error:
        return {"error": f"it cannot be imported, {type(error).__name__}: {error}", "line": 0, "file": name}
    return _Inspected(module, name).describe()


class _Inspected:
    def __init__(self, module: types.ModuleType, name: str) -> None:
        self.module, self.name = module, name
        self.root = name.split(".")[0]
        self.classes: dict[str, type] = {}
        self.found: dict[str, Any] = {}
        self.skipped: list[list[str]] = []
        for public in self.public_names():
            self.take(public)
        self.hints = Hints(set(self.classes), {})
        self.stub = self.read_stub()

    def public_names(self) -> list[str]:
        listed = getattr(self.module, "__all__", None)
        if listed is not None:
            return list(dict.fromkeys(str(name) for name in listed))
        return [name for name in dir(self.module) if not name.startswith("_")]

    def take(self, name: str) -> None:
        listed = getattr(self.module, "__all__", None) is not None
        try:
            value = getattr(self.module, name)
        except Exception as error:
            self.skipped.append([name, f"cannot be read, {type(error).__name__}: {error}"])
            return
        if isinstance(value, types.ModuleType) or not callable(value):
            return
        home = getattr(value, "__module__", None) or ""
        if not listed and isinstance(home, str) and home.split(".")[0].lstrip("_") != self.root.lstrip("_"):
            return
        if not name.isidentifier():
            self.skipped.append([name, "is not a name in Python's own sense"])
        elif name.startswith("_"):
            self.skipped.append([name, "is private"])
        elif _is_typing(value):
            return
        elif isinstance(value, type):
            if issubclass(value, BaseException):
                self.skipped.append([name, "is an exception, which is raised as Pythonx.Error"])
            else:
                self.classes[name] = value
        else:
            self.found[name] = value

    def read_stub(self) -> Any:
        file = getattr(self.module, "__file__", None) or ""
        stub = re.sub(r"(\.cpython[^/]*|\.abi3)?\.(py|so)$", ".pyi", file)
        if not stub.endswith(".pyi"):
            return None
        try:
            return _signatures._Module(_source_of(stub), stub, self.name, False)
        except (OSError, SyntaxError, _signatures.UnreadableError):
            return None

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "file": None,
            "doc": _documentation(self.module),
            "version": self.version(),
            "functions": [self.function(name, value) for name, value in self.found.items()],
            "classes": [self.class_of(name, cls) for name, cls in self.classes.items()],
            "skipped": self.skipped,
        }

    def version(self) -> str:
        if self.root in sys.stdlib_module_names:
            return f"Python {'.'.join(str(part) for part in sys.version_info[:3])}"
        from importlib import metadata

        try:
            return f"{self.root} {metadata.version(self.root)}"
        except metadata.PackageNotFoundError:
            for distribution in metadata.packages_distributions().get(self.root, []):
                return f"{distribution} {metadata.version(distribution)}"
        return f"{self.root} {getattr(sys.modules[self.root], '__version__', 'of no known version')}"

    def function(self, name: str, value: Any, drop_first: bool = False) -> dict[str, Any]:
        params, returns = self.signature(value, drop_first)
        if params is None and self.stub is not None and not drop_first:
            node = self.stub.functions.get(name)
            if node is not None and not _signatures._decorated(node, "overload"):
                described = self.stub.describe_function(node)
                params, returns = described["params"], described["returns"]
        return {
            "name": name,
            "line": 0,
            "doc": _documentation(value),
            "kind": _kind(value),
            "params": params,
            "returns": returns,
        }

    def signature(self, value: Any, drop_first: bool) -> tuple[list[dict[str, Any]] | None, list[Any]]:
        try:
            signature = inspect.signature(value)
        except (ValueError, TypeError):
            return None, ANY
        except Exception:
            # What a package's own `__signature__` raises.
            return None, ANY
        params = list(signature.parameters.values())
        named = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        if drop_first and params and params[0].kind in named:
            params = params[1:]
        return [self.parameter(param) for param in params], self.hint(signature.return_annotation)

    def parameter(self, param: inspect.Parameter) -> dict[str, Any]:
        default = None
        if param.default is not inspect.Parameter.empty:
            try:
                text = _ADDRESS.sub("", repr(param.default))[:200]
            except Exception:
                text = "..."
            default = default_of(_exact(param.default), text)
        return {
            "name": param.name,
            "kind": _KINDS[param.kind],
            "hint": self.hint(param.annotation),
            "default": default,
        }

    def hint(self, annotation: Any) -> list[Any]:
        if annotation is inspect.Parameter.empty:
            return ANY
        if isinstance(annotation, str):
            return self.hints.parse(annotation)
        if annotation is None:
            return ["none"]
        if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
            return self.hints.parse(annotation.__qualname__)
        try:
            return self.hints.parse(inspect.formatannotation(annotation))
        except Exception:
            return ANY

    def class_of(self, name: str, cls: type) -> dict[str, Any]:
        kind = _class_kind(cls)
        methods = []
        for public in sorted(dir(cls)):
            if public.startswith("_") or hasattr(object, public):
                continue
            described = self.method(public, cls)
            if described is not None:
                methods.append(described)
        return {
            "name": name,
            "line": 0,
            "doc": _documentation(cls),
            "kind": kind,
            "fields": self.fields(cls, kind),
            "init": self.signature(cls, False)[0],
            "methods": methods,
        }

    def method(self, name: str, cls: type) -> dict[str, Any] | None:
        static = inspect.getattr_static(cls, name, None)
        if isinstance(static, (property, types.GetSetDescriptorType, types.MemberDescriptorType)) or (
            type(static).__name__ in ("cached_property", "CachedProperty")
        ):
            getter = getattr(static, "fget", None) or getattr(static, "func", None)
            returns = self.signature(getter, True)[1] if getter else ANY
            described = {"name": name, "line": 0, "kind": "function", "params": [], "returns": returns}
            return {**described, "doc": _documentation(static), "binding": "property"}
        try:
            value = getattr(cls, name)
        except Exception:
            return None
        if isinstance(value, type) or not callable(value):
            return None
        if isinstance(static, staticmethod):
            return {**self.function(name, value), "binding": "static"}
        if isinstance(static, (classmethod, types.ClassMethodDescriptorType, types.BuiltinMethodType)):
            return {**self.function(name, value), "binding": "class"}
        return {**self.function(name, value, True), "binding": "instance"}

    def fields(self, cls: type, kind: str) -> list[dict[str, Any]]:
        if kind == "dataclass":
            return [
                {
                    "name": field.name,
                    "hint": self.hint(field.type),
                    "required": field.default is dataclasses.MISSING
                    and field.default_factory is dataclasses.MISSING,
                    "init": field.init,
                    "default": None
                    if field.default is dataclasses.MISSING
                    else default_of(_exact(field.default), "..."),
                }
                for field in dataclasses.fields(cls)
            ]
        if kind in ("typed_dict", "named_tuple"):
            required = getattr(cls, "__required_keys__", None) or getattr(cls, "_fields", ())
            return [
                {
                    "name": key,
                    "hint": self.hint(hint),
                    "required": key in required,
                    "init": True,
                    "default": None,
                }
                for key, hint in getattr(cls, "__annotations__", {}).items()
            ]
        return []


def _exact(value: object) -> object:
    """Return the value if it is of a plain type itself: members of enums and numbers of numpy are not."""
    return value if value is None or type(value) in (bool, int, float, str) else object()


def _is_typing(value: Any) -> bool:
    return type(value).__module__ in ("typing", "types") and not isinstance(
        value, (types.FunctionType, types.BuiltinFunctionType, types.MethodType)
    )


def _class_kind(cls: type) -> str:
    if isinstance(cls, enum.EnumMeta):
        return "enum"
    if hasattr(cls, "__total__") and hasattr(cls, "__required_keys__"):
        return "typed_dict"
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return "named_tuple"
    if "__dataclass_fields__" in cls.__dict__:
        generated = getattr(cls.__init__, "__qualname__", "").split(".")[0] in (
            "__create_fn__",
            cls.__qualname__,
        )
        variables = any(
            getattr(field, "_field_type", None) is dataclasses._FIELD_INITVAR
            for field in cls.__dataclass_fields__.values()
        )
        return "dataclass" if generated and not variables else "class"
    return "class"


def _kind(value: Any) -> str:
    inner = inspect.unwrap(value) if hasattr(value, "__wrapped__") else value
    if inspect.iscoroutinefunction(value):
        return "coroutine"
    if inspect.isasyncgenfunction(value):
        return "async_generator"
    if inspect.isgeneratorfunction(value) or (
        inspect.isgeneratorfunction(inner) and not hasattr(value, "__contextmanager__") and value is inner
    ):
        return "generator"
    return "function"


def _documentation(value: Any) -> str | None:
    try:
        text = value.__doc__
    except Exception:
        return None
    return inspect.cleandoc(text) if isinstance(text, str) and text.strip() else None


def _source_of(file: str) -> str:
    """Return the text of a file, as Python would read it."""
    import tokenize

    with tokenize.open(file) as opened:
        return opened.read()
