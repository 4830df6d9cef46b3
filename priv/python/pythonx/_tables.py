"""What tables need of the libraries whose data they are.

Streams of Arrow's IPC format, for which there is pyarrow, or else polars; and what polars cannot give.
"""

from __future__ import annotations

import importlib
import io
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any


def _library() -> tuple[str, ModuleType]:
    for name in ("pyarrow", "polars"):
        try:
            return name, importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
    raise ModuleNotFoundError("streams of Arrow's IPC format need the package pyarrow or polars")


def read_ipc_stream(data: bytes) -> object:
    """Return a table, of pyarrow or polars, of the bytes of a stream."""
    name, library = _library()
    if name == "polars":
        return library.read_ipc_stream(io.BytesIO(data))
    return importlib.import_module("pyarrow.ipc").open_stream(data).read_all()


def write_ipc_stream(table: object) -> bytes:
    """Return the bytes of a stream with what an object offers by `__arrow_c_stream__`."""
    name, library = _library()
    sink = io.BytesIO()
    if name == "polars":
        library.DataFrame(table).write_ipc_stream(sink)
        return sink.getvalue()
    reader = library.RecordBatchReader.from_stream(table)
    with importlib.import_module("pyarrow.ipc").new_stream(sink, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
    return sink.getvalue()


def refuse_objects(data: Any) -> None:
    """Raise TypeError when a column of a data frame or series of polars holds Python objects."""
    # Another thread may be importing it.
    polars: Any = sys.modules.get("polars")
    if isinstance(data, getattr(polars, "DataFrame", ())):
        columns = data.schema
    elif isinstance(data, getattr(polars, "Series", ())):
        columns = {data.name: data.dtype}
    else:
        return
    for name, dtype in columns.items():
        if dtype == polars.Object:
            raise TypeError(f"column {name!r} has the type Object of polars, for which Arrow has none")
