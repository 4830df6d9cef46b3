"""How an object is serialised to be copied to another node."""


def pickler() -> str:
    """Return the name of the module to pickle with.

    That is cloudpickle, which knows more types than pickle does, where it can be imported.
    """
    try:
        import cloudpickle  # noqa: F401
    except Exception:
        return "pickle"
    return "cloudpickle"
