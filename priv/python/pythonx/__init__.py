"""The Elixir side, as seen from Python that runs inside the BEAM.

This package exists only in the interpreter that Elixir's `Pythonx` runs; other Pythons, its subprocesses
included, cannot import it.

An Elixir process that evaluates

    Pythonx.eval("import pythonx; pythonx.send_tagged_object(pid, 'done', [1, 2])", %{"pid" => self()})

receives the message `{:done, #Pythonx.Object<[1, 2]>}`.
"""

import _pythonx

from pythonx._errors import ElixirError

__all__ = ["PID", "Atom", "ElixirError", "Function", "Table", "self", "send", "send_tagged_object", "whereis"]

TYPE_CHECKING = False
if TYPE_CHECKING:

    class PID:
        """An Elixir process. Made by encoding an Elixir pid; Python code cannot make one."""

    class Function:
        """An Elixir function. Made by encoding one; Python code cannot make one."""

        def __call__(self, *args: object) -> object:
            """Call it with decoded arguments, and return its encoded result."""

        def aio(self, *args: object) -> object:
            """Call it from a coroutine: `await function.aio(...)`."""

    class Atom:
        """An Elixir atom, for what goes to Elixir. Never made of data: atoms are not freed."""

        def __init__(self, name: str) -> None: ...

    class Table:
        """A table of Elixir's, which what reads Arrow data takes: `pyarrow.table(t)`, `polars.DataFrame(t)`."""

        column_names: list[str]

        def __arrow_c_stream__(self, requested_schema: object = None) -> object:
            """Return the table as a stream of record batches, in a capsule."""

else:
    Atom = _pythonx.Atom
    PID = _pythonx.PID
    Function = _pythonx.Function
    Table = _pythonx.Table


def send(pid: PID, term: object) -> None:
    """Send a message to an Elixir process, from any thread.

    Args:
        pid: The process. When it is dead, nothing happens.
        term: The message, decoded as results are; what has no counterpart in Elixir arrives as a handle.

    Raises:
        TypeError: If `pid` is not a PID.
        ValueError: If `term` cannot be decoded, as a list that holds itself.
    """
    _pythonx.send(pid, term)


def self() -> PID:
    """Return the Elixir process that this thread works for: the one that evaluates.

    Raises:
        RuntimeError: If there has been no evaluation that this thread could belong to.
    """
    return _pythonx.self()


def whereis(name: str | Atom) -> PID | None:
    """Return the Elixir process that is registered under a name, or None.

    Args:
        name: The name; that of a module may be given as it is written in Elixir, `"MyApp.Server"`.
    """
    return _pythonx.whereis(name)


def send_tagged_object(pid: PID, tag: str, object: object) -> None:
    """Send the message `{tag, object}` to an Elixir process, from any thread.

    The object is not decoded: the process receives it as a `Pythonx.Object`. It may arrive before the
    evaluation that sends it returns. When the process is dead, nothing happens.

    Args:
        pid: The process.
        tag: The first element of the message, which becomes an atom of at most 255 characters. New ones count
            among those that `Atom` may make.
        object: The second element.

    Raises:
        AttributeError: If `pid` is not a PID or `tag` not a str.
        ValueError: If `tag` is too long for an atom, or one new atom too many.
    """
    _pythonx.send_tagged_object(pid, tag, object)
