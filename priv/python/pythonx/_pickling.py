"""How an object is serialised to be copied to another node."""

import importlib


def pickler() -> str:
    """Return the name of the module to pickle with.

    That is cloudpickle, which knows more types than pickle does, where it can be imported.
    """
    try:
        import cloudpickle  # noqa: F401
    except Exception:
        return "pickle"
    return "cloudpickle"


def dump(module: bytes, subject: object) -> bytes:
    """Pickle an object with the module of this name.

    That looks up classes of `__main__` by their names, which are found among what Python code holds: as `subject` is
    held here.
    """
    return importlib.import_module(module.decode()).dumps(subject)
