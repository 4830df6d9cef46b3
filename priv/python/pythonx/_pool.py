"""What a worker of a pool has besides: the names that its initial code has defined, and who is found under a path."""

import builtins
import importlib

# What `init:` has defined. Each evaluation begins with these names.
names: dict[str, object] = {}


def define(defined: dict[str, object]) -> None:
    """Keep the names of the initial code."""
    names.update(defined)


def resolve(path: str) -> object:
    """Return what the initial code has defined, a builtin, or a member of a module, by its name."""
    first, *rest = path.split(".")
    if not rest:
        return names[first] if first in names else getattr(builtins, first)
    if first in names:
        return _members(names[first], rest)
    return _members(*_import_longest(path.split(".")))


def _members(value: object, path: list[str]) -> object:
    for name in path:
        value = getattr(value, name)
    return value


# In "datetime.datetime.now" only the first is a module.
def _import_longest(path: list[str]) -> tuple[object, list[str]]:
    modules = path[:-1]
    while True:
        try:
            return importlib.import_module(".".join(modules)), path[len(modules) :]
        except ModuleNotFoundError:
            if len(modules) == 1:
                raise
            modules.pop()
