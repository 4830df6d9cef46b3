"""The module that an evaluation runs in."""

from __future__ import annotations

from types import ModuleType

import _pythonx

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_get = ModuleType.__getattribute__


class MainModule(ModuleType):
    """The ``__main__`` of one evaluation.

    ``sys.modules["__main__"]`` is one for the whole interpreter, evaluations are many: each new one puts its own
    module there. Looked at from an evaluation that still runs, that module would be a stranger's, and pickling a class
    defined there would fail. So attributes are those of the module of whoever asks.
    """

    def __getattribute__(self, name: str) -> Any:
        return _get(_pythonx.current_main() or self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        ModuleType.__setattr__(_pythonx.current_main() or self, name, value)

    def __delattr__(self, name: str) -> None:
        ModuleType.__delattr__(_pythonx.current_main() or self, name)

    def __dir__(self) -> list[str]:
        return list(_get(_pythonx.current_main() or self, "__dict__"))
