"""What Python raises for what Elixir raised."""

from __future__ import annotations


class ElixirError(Exception):
    """An Elixir function that Python called raised, threw or exited.

    When Python lets it pass, the Elixir code that called Python gets what was raised, as it was.

    Attributes:
        class_name: The Elixir exception's module, such as `ArgumentError`; `exit` or `throw` for these.
        message: The exception's message; the inspected value of an exit or a throw.
        stacktrace: Where it was raised in Elixir, as text.
    """

    def __init__(self, class_name: str, message: str, stacktrace: str = "", original: object = None) -> None:
        super().__init__(f"({class_name}) {message}")
        self.class_name = class_name
        self.message = message
        self.stacktrace = stacktrace
        self._original = original
        if stacktrace and hasattr(self, "add_note"):  # Python 3.11
            self.add_note("Elixir stacktrace:\n" + stacktrace.rstrip("\n"))

    def __reduce__(self) -> tuple[type[ElixirError], tuple[str, str, str]]:
        return ElixirError, (self.class_name, self.message, self.stacktrace)
