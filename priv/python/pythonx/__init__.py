"""The Elixir side, as seen from Python that runs inside the BEAM.

This package exists only in the interpreter that Elixir's `Pythonx` runs; other Pythons, its subprocesses
included, cannot import it.

An Elixir process that evaluates

    Pythonx.eval("import pythonx; pythonx.send_tagged_object(pid, 'done', [1, 2])", %{"pid" => self()})

receives the message `{:done, #Pythonx.Object<[1, 2]>}`.
"""

import _pythonx

__all__ = ["PID", "send_tagged_object"]

TYPE_CHECKING = False
if TYPE_CHECKING:

    class PID:
        """An Elixir process. Made by encoding an Elixir pid; Python code cannot make one."""

else:
    PID = _pythonx.PID


def send_tagged_object(pid: PID, tag: str, object: object) -> None:
    """Send the message `{tag, object}` to an Elixir process, from any thread.

    The object is not decoded: the process receives it as a `Pythonx.Object`. It may arrive before the
    evaluation that sends it returns. When the process is dead, nothing happens.

    Args:
        pid: The process.
        tag: The first element of the message, which becomes an atom. Atoms are never freed, so tags should be
            few. At most 255 characters.
        object: The second element.

    Raises:
        AttributeError: If `pid` is not a PID or `tag` not a str.
        ValueError: If `tag` is too long for an atom.
    """
    _pythonx.send_tagged_object(pid, tag, object)
