"""Damaged Arrow data for bench/fuzz.exs."""

import ctypes
import datetime
import decimal
import random
import struct

import pyarrow as pa

ROWS = 40


def text(r):
    return "".join(r.choices("abcä€", k=r.choice((0, 1, 3, 12, 13, 40))))


leaves = {
    "int8": (pa.int8(), lambda r: r.randrange(-128, 128)),
    "int64": (pa.int64(), lambda r: r.randrange(-(2**63), 2**63)),
    "float": (pa.float64(), lambda r: r.random()),
    "bool": (pa.bool_(), lambda r: r.random() < 0.5),
    "text": (pa.string(), text),
    "large_text": (pa.large_string(), text),
    "text_view": (pa.string_view(), text),
    "bytes": (pa.binary(), lambda r: r.randbytes(r.randrange(20))),
    "bytes_view": (pa.binary_view(), lambda r: r.randbytes(r.randrange(20))),
    "fixed": (pa.binary(3), lambda r: r.randbytes(3)),
    "date": (pa.date32(), lambda r: datetime.date.fromordinal(r.randrange(1, 3_000_000))),
    "decimal": (pa.decimal128(20, 2), lambda r: decimal.Decimal(r.randrange(10**9)) / 100),
    "time": (pa.timestamp("us", "UTC"), lambda r: r.randrange(10**15)),
}


def type_of(r, depth):
    """A random type, with a function that makes a value of it."""
    if depth == 0 or r.random() < 0.4:
        return leaves[r.choice(sorted(leaves))]
    inner, make = type_of(r, depth - 1)
    size = r.randrange(1, 4)

    def several(r):
        return [make(r) for _ in range(r.randrange(5))]

    return r.choice(
        [
            (pa.list_(inner), several),
            (pa.large_list(inner), several),
            (pa.list_view(inner), several),
            (pa.large_list_view(inner), several),
            (pa.list_(inner, size), lambda r: [make(r) for _ in range(size)]),
            (
                pa.struct({"x": inner, "y": pa.string()}),
                lambda r: {"x": make(r), "y": text(r)} if r.random() < 0.9 else None,
            ),
            (
                pa.map_(pa.string(), inner),
                lambda r: [(f"{n}{text(r)}", make(r)) for n in range(r.randrange(4))],
            ),
        ]
    )


def column(r):
    kind = r.randrange(8)
    rows = r.randrange(1, ROWS)
    if kind == 0:
        words = pa.array([text(r) + str(n) for n in range(9)])
        indices = pa.array(
            [r.randrange(9) if r.random() < 0.9 else None for _ in range(rows)],
            r.choice((pa.int8(), pa.uint16(), pa.int32(), pa.uint64())),
        )
        return pa.DictionaryArray.from_arrays(indices, words)
    if kind == 1:
        ends = sorted(r.sample(range(1, 3 * rows), rows))
        values = pa.array([text(r) for _ in ends])
        return pa.RunEndEncodedArray.from_arrays(pa.array(ends, pa.int32()), values)
    if kind == 2:
        ids = [r.randrange(2) for _ in range(rows)]
        fields = [pa.array(range(rows)), pa.array([text(r) for _ in range(rows)])]
        if r.random() < 0.5:
            return pa.UnionArray.from_sparse(pa.array(ids, pa.int8()), fields, ["n", "t"])
        offsets = pa.array([r.randrange(rows) for _ in range(rows)], pa.int32())
        return pa.UnionArray.from_dense(pa.array(ids, pa.int8()), offsets, fields, ["n", "t"])
    kind, make = type_of(r, 3)
    return pa.array([make(r) if r.random() < 0.9 else None for _ in range(rows)], kind)


def parts(array):
    """An array and those in it that refer to something, each with its own buffers."""
    yield array
    for attribute in ("dictionary", "run_ends", "values", "keys", "items"):
        part = getattr(array, attribute, None)
        if isinstance(part, pa.Array):
            yield from parts(part)
    if hasattr(array, "field"):
        for n in range(array.type.num_fields):
            yield from parts(array.field(n))


def references(array):
    """What refers to something else: buffer, bytes of a value, count, and the largest value that is not to be exceeded.

    Arrow's C interface does not tell how long the bytes of texts are, so their offsets stay among these.
    """
    kind, buffers = array.type, array.buffers()
    types = pa.types
    end = array.offset + len(array)
    if types.is_string(kind) or types.is_binary(kind):
        yield buffers[1], 4, end + 1, buffers[2].size if buffers[2] else 0
    elif types.is_large_string(kind):
        yield buffers[1], 8, end + 1, buffers[2].size if buffers[2] else 0
    elif types.is_list(kind) or types.is_map(kind):
        yield buffers[1], 4, end + 1, None
    elif types.is_large_list(kind):
        yield buffers[1], 8, end + 1, None
    elif types.is_list_view(kind) or types.is_large_list_view(kind):
        for buffer in buffers[1:3]:
            yield buffer, 8 if types.is_large_list_view(kind) else 4, end, None
    elif str(kind) in ("string_view", "binary_view"):
        yield buffers[1], 4, 4 * end, None
    elif types.is_dictionary(kind):
        yield buffers[1], kind.index_type.byte_width, end, None
    elif types.is_run_end_encoded(kind):
        yield array.run_ends.buffers()[1], 4, len(array.run_ends), None
    elif types.is_union(kind):
        yield buffers[1], 1, end, None
        if kind.mode == "dense":
            yield buffers[2], 4, end, None


class Offered:
    """Offers an array by Arrow's C interface, so that nobody asks pyarrow about it."""

    def __init__(self, array):
        self.batch = pa.record_batch({"c": array})

    def __arrow_c_array__(self, requested_schema=None):
        return self.batch.__arrow_c_array__()


def damaged_memory(seed, changes):
    """An array in which what refers to something else was changed, in place."""
    array = column(random.Random(seed))
    offered = Offered(array)
    places = [place for part in parts(array) for place in references(part) if place[0] is not None]
    for place, value in changes:
        if not places:
            break
        buffer, width, count, limit = places[place % len(places)]
        if limit is not None and value > limit:
            value %= limit + 1
        kind = {1: ctypes.c_int8, 2: ctypes.c_int16, 4: ctypes.c_int32, 8: ctypes.c_int64}[width]
        if count > 0:
            kind.from_address(buffer.address + width * (place // len(places) % count)).value = value
    return offered


def damaged_file(seed, changes):
    """A table of a stream in which bytes were changed; None where pyarrow does not take it."""
    r = random.Random(seed)
    array = column(r)
    table = pa.table({"a": pa.array(range(len(array))), "c": array})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=r.choice((3, 1000)))
    data = bytearray(sink.getvalue().to_pybytes())
    for place, value in changes:
        if value < 256:
            data[place % len(data)] = value % 256
        else:
            # A whole number, where they mostly are.
            place = place % len(data) // 4 * 4
            data[place : place + 4] = struct.pack("<I", value % 2**32)[: len(data) - place]
    try:
        return pa.ipc.open_stream(bytes(data)).read_all()
    except (pa.ArrowException, OSError, ValueError, MemoryError):
        return None
