"""A stand-in for the native module `_pythonx`: with it `pythonx` can be imported outside of the VM."""

import contextvars
import sys
import types
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "priv" / "python"))

written = []
flushed = []
sent = []
_evaluation = contextvars.ContextVar("evaluation", default=None)


class PID:
    """An Elixir process."""


class Atom:
    """An Elixir atom."""


class Function:
    """An Elixir function."""


def write(fd, text):
    """Keep what is written as (evaluation, fd, text)."""
    if not isinstance(text, str):
        raise TypeError(f"write() argument must be str, not {type(text).__name__}")
    written.append((_evaluation.get(), fd, text))
    return len(text)


module = types.ModuleType("_pythonx")
module.Atom = Atom
module.Function = Function
module.PID = PID
module.write = write
module.interrupt_point = lambda *_args: None
module.flush = flushed.append
module.send_tagged_object = lambda pid, tag, object: sent.append((pid, tag, object))
module.current_evaluation = _evaluation.get
module.set_evaluation = lambda evaluation: _evaluation.set(evaluation) and None
sys.modules.setdefault("_pythonx", module)
