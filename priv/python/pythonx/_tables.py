"""What tables need of the libraries whose data they are.

Streams of Arrow's IPC format, for which there is pyarrow, or else polars; what polars cannot give; and what pyarrow
knows of the size of its buffers.
"""

from __future__ import annotations

import importlib
import io
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
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


def checked(data: Any) -> object:
    """Return what to read Arrow data from in place of an object, or raise for what must not be read.

    Arrays of pyarrow may be the bytes of a file or a connection as they came, and Arrow's C interface does not tell how
    long their buffers are. pyarrow knows: `validate` compares that with what the arrays say, without a look at their
    values, which c_src/bridge/tables/check.hpp takes.
    """
    # Another thread may be importing any of these.
    if (polars := sys.modules.get("polars")) is not None:
        _refuse_objects(polars, data)
    if (pandas := sys.modules.get("pandas")) is not None:
        _refuse_periods(pandas, data)
    if (pyarrow := sys.modules.get("pyarrow")) is None:
        return data
    if isinstance(data, _classes(pyarrow, "RecordBatchReader")):
        return _read_batches(pyarrow, data)
    if isinstance(data, _classes(pyarrow, "Table", "RecordBatch", "StructArray")):
        _validate_columns(pyarrow, data)
    elif isinstance(data, _classes(pyarrow, "Array", "ChunkedArray")):
        _validate(pyarrow, "", data)
    elif (pandas := sys.modules.get("pandas")) is not None:
        for name, array in _arrow_columns(pandas, data):
            _validate(pyarrow, name, pyarrow.array(array))
    return data


def _classes(module: Any, *names: str) -> tuple[Any, ...]:
    return tuple(getattr(module, name) for name in names if hasattr(module, name))


def _read_batches(pyarrow: Any, reader: Any) -> object:
    batches = []
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return pyarrow.Table.from_batches(batches, reader.schema)
        except Exception as error:
            raise RuntimeError(f"the Arrow stream failed: {error}") from error
        _validate_columns(pyarrow, batch)
        batches.append(batch)


def _validate_columns(pyarrow: Any, data: Any) -> None:
    structs = isinstance(data, pyarrow.StructArray)
    fields = data.type if structs else data.schema
    for index, field in enumerate(fields):
        try:
            _ = field.name
        except UnicodeDecodeError:
            raise ValueError(f"column {index} of an Arrow batch has a name that is not UTF-8") from None
    try:
        data.validate()
        failure = None
        if "_view" not in str(fields):
            return
    except pyarrow.ArrowException as error:
        failure = error
    for index, field in enumerate(fields):
        _validate(pyarrow, field.name, data.field(index) if structs else data.column(index))
    # A table that is damaged as a whole.
    if failure is not None:
        raise failure


def _validate(pyarrow: Any, name: str, array: Any) -> None:
    try:
        array.validate()
    except pyarrow.ArrowException as error:
        raise ValueError(f"column {name!r} of an Arrow table is damaged: {error}") from None
    if "_view" in str(array.type):
        for chunk in getattr(array, "chunks", [array]):
            _refuse_absent_buffers(name, chunk)


def _refuse_absent_buffers(name: str, array: Any) -> None:
    """Raise ValueError for views of text that lack a buffer, as casts of short texts make them.

    pyarrow ends the process when it shows such an array to others.
    """
    if str(array.type) in ("string_view", "binary_view") and any(
        part is None for part in array.buffers()[2:]
    ):
        text = "a buffer of its views is missing; cast it to another type, such as pyarrow.large_string()"
        raise ValueError(f"column {name!r} of an Arrow table cannot be taken: {text}")
    for attribute in ("storage", "dictionary", "values", "keys", "items"):
        if (part := getattr(array, attribute, None)) is not None:
            _refuse_absent_buffers(name, part)
    if hasattr(array, "field"):
        for index in range(array.type.num_fields):
            _refuse_absent_buffers(name, array.field(index))


def _arrow_columns(pandas: Any, data: Any) -> Iterator[tuple[str, Any]]:
    """Yield the columns of a data frame or series of pandas that are arrays of pyarrow, with their names."""
    if isinstance(data, _classes(pandas, "DataFrame")):
        parts = [
            (data.columns[i], data.iloc[:, i])
            for i, dtype in enumerate(data.dtypes)
            if _is_arrow(pandas, dtype)
        ]
    elif isinstance(data, _classes(pandas, "Series")):
        parts = [(data.name, data)]
    else:
        return
    levels = data.index.levels if isinstance(data.index, pandas.MultiIndex) else [data.index]
    for name, part in parts + [(level.name, level) for level in levels]:
        if _is_arrow(pandas, part.dtype):
            yield str(name), part.array


def _is_arrow(pandas: Any, dtype: Any) -> bool:
    return isinstance(dtype, _classes(pandas, "ArrowDtype")) or getattr(dtype, "storage", None) == "pyarrow"


def _refuse_periods(pandas: Any, data: Any) -> None:
    """Raise TypeError when a data frame of pandas holds periods, of which Arrow's types keep numbers only."""
    if not isinstance(data, _classes(pandas, "DataFrame")):
        return
    index = data.index
    levels = index.levels if isinstance(index, pandas.MultiIndex) else [index]
    named = [*zip(data.columns, data.dtypes, strict=True), *((level.name, level.dtype) for level in levels)]
    for name, dtype in named:
        if isinstance(dtype, pandas.PeriodDtype):
            text = "which Arrow does not have; convert it with .dt.to_timestamp() or .astype(str)"
            raise TypeError(f"column {name!r} holds periods of pandas ({dtype}), {text}")


def _refuse_objects(polars: Any, data: Any) -> None:
    """Raise TypeError when a column of a data frame or series of polars holds Python objects."""
    if isinstance(data, _classes(polars, "DataFrame")):
        columns = data.schema
    elif isinstance(data, _classes(polars, "Series")):
        columns = {data.name: data.dtype}
    else:
        return
    for name, dtype in columns.items():
        if dtype == polars.Object:
            raise TypeError(f"column {name!r} has the type Object of polars, for which Arrow has none")
