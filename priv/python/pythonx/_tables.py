"""Streams of Arrow's IPC format, for which a library is needed: pyarrow, or else polars."""

import importlib
import io
from types import ModuleType


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
