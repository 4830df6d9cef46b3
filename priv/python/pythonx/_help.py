"""What an object is, in words."""

import pydoc


def type_name(value: object) -> str:
    """Return the name of the object's class, with its module unless that is builtins."""
    cls = type(value)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def document(value: object) -> str:
    """Return what `help(value)` would show, with bold letters struck twice."""
    return pydoc.render_doc(value, "%s").rstrip("\n")
