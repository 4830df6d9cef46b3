"""What the memory of an array is: behind `Pythonx.buffer/2`."""

from __future__ import annotations

import sys

import _pythonx

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    # (memoryview, kind, bits, format, size of the units to swap or 0, whether nobody can change the memory)
    Export = tuple[memoryview, str, int, str, int, bool]

# Kinds of elements by their code in the module struct, whose sizes the memoryview knows.
_STRUCT_KINDS = {
    **dict.fromkeys("bhilqn", "s"),
    **dict.fromkeys("BHILQNc", "u"),
    **dict.fromkeys("efd", "f"),
    **dict.fromkeys(["Zf", "Zd", "F", "D"], "c"),
    "?": "bool",
}

# By the code in an array interface, with the sizes in bytes that Elixir has a type for.
_INTERFACE_KINDS = {
    "i": ("s", {1, 2, 4, 8}),
    "u": ("u", {1, 2, 4, 8}),
    "f": ("f", {2, 4, 8}),
    "c": ("c", {8, 16}),
    "b": ("bool", {1}),
    "M": ("datetime", {8}),
    "m": ("timedelta", {8}),
}

# By the code in DLPack, with the sizes in bits.
_DLPACK_KINDS = {
    0: ("s", {8, 16, 32, 64}),
    1: ("u", {8, 16, 32, 64}),
    2: ("f", {16, 32, 64}),
    4: ("bf", {16}),
    5: ("c", {64, 128}),
    6: ("bool", {8}),
    10: ("f8_e4m3fn", {8}),
    12: ("f", {8}),
}

# Types that ml_dtypes adds to numpy, for which the buffer protocol has no format.
_ADDED_KINDS = {
    "bfloat16": ("bf", 16),
    "float8_e5m2": ("f", 8),
    "float8_e4m3fn": ("f8_e4m3fn", 8),
}

# How the module struct writes them.
_FORMATS = {
    ("s", 8): "b",
    ("s", 16): "h",
    ("s", 32): "i",
    ("s", 64): "q",
    ("u", 8): "B",
    ("u", 16): "H",
    ("u", 32): "I",
    ("u", 64): "Q",
    ("f", 16): "e",
    ("f", 32): "f",
    ("f", 64): "d",
    ("c", 64): "Zf",
    ("c", 128): "Zd",
    ("bool", 8): "?",
    ("bf", 16): "bfloat16",
    ("f", 8): "float8_e5m2",
    ("f8_e4m3fn", 8): "float8_e4m3fn",
}

_NATIVE = "<" if sys.byteorder == "little" else ">"

# Memory that the CPU can read, pinned for a GPU or not.
_CPU_DEVICES = {1: "the CPU", 3: "CUDA host memory", 11: "ROCm host memory"}
_OTHER_DEVICES = {
    2: "CUDA",
    4: "OpenCL",
    7: "Vulkan",
    8: "Metal",
    10: "ROCm",
    13: "CUDA managed memory",
    14: "oneAPI",
}


class _RefusedError(Exception):
    """The object has no memory that Elixir could use; the text says why."""


def export(obj: object) -> Export | str:
    """Return what the memory of an object is, or why it has none for Elixir.

    Whatever Python raises itself, as for a released memoryview, is raised.
    """
    try:
        return _export(obj)
    except _RefusedError as error:
        return f"cannot make a buffer of {_article(_name(type(obj)))}: {error}"


def _export(obj: Any) -> Export:
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(obj, numpy.ndarray | numpy.generic):
        return _from_numpy(obj, numpy)
    view, error = _view(obj)
    if view is not None:
        return _from_view(view)
    # A class has what its instances have, but no memory.
    if not isinstance(obj, type):
        if hasattr(obj, "__array_interface__"):
            return _from_interface(obj, obj.__array_interface__)
        if hasattr(obj, "__dlpack__"):
            return _from_dlpack(obj)
    if not isinstance(error, TypeError):
        raise error
    hint = "; call its method to_numpy() first" if hasattr(type(obj), "to_numpy") else ""
    raise _RefusedError(f"it has neither the buffer protocol, nor the array interface, nor DLPack{hint}")


def _view(obj: Any) -> tuple[memoryview | None, Exception | None]:
    """Return a view of the memory, or what Python raises: a TypeError for a class that has no buffers."""
    try:
        return memoryview(obj), None
    except Exception as error:
        return None, error


def _from_view(view: memoryview) -> Export:
    order, code = _split(view.format)
    kind = _STRUCT_KINDS.get(code)
    if kind is None:
        raise _RefusedError(_elements(view.format))
    if view.suboffsets:
        raise _RefusedError("its memory is reached through pointers")
    return _typed(view, kind, 8 * view.itemsize, order, view.format.lstrip("@=<>!^"))


def _split(text: str) -> tuple[str, str]:
    """Return the order of the bytes and the code of a format."""
    order = {"<": "<", ">": ">", "!": ">"}.get(text[:1], _NATIVE)
    return order, text.lstrip("@=<>!^")


def _typed(view: memoryview, kind: str, bits: int, order: str, fallback: str) -> Export:
    # A complex number is two floats, each in that order.
    unit = bits // 16 if kind == "c" else bits // 8
    swap = unit if order != _NATIVE and unit > 1 else 0
    code = _FORMATS.get((kind, bits), fallback)
    marked = code if len(code) > 2 or bits == 8 else _NATIVE + code
    return view, kind, bits, marked, swap, _is_constant(view)


def _from_numpy(array: Any, numpy: Any) -> Export:
    masked = sys.modules.get("numpy.ma")
    if masked is not None and isinstance(array, masked.MaskedArray):
        raise _RefusedError("its mask would be lost; call its method filled() first")
    array = numpy.asarray(array)
    kind, bits, order = _numpy_kind(array.dtype)
    if kind in ("datetime", "timedelta"):
        export = _typed(memoryview(array.view(order + "i8")), kind, bits, order, "")
        return (*export[:3], _NATIVE + array.dtype.str[1:], *export[4:])
    if array.dtype.name in _ADDED_KINDS:
        array = array.view(f"u{array.itemsize}")
    return _typed(memoryview(array), kind, bits, order, "")


def _numpy_kind(dtype: Any) -> tuple[str, int, str]:
    order = {"<": "<", ">": ">"}.get(dtype.byteorder, _NATIVE)
    if dtype.name in _ADDED_KINDS:
        return (*_ADDED_KINDS[dtype.name], order)
    kind, sizes = _INTERFACE_KINDS.get(dtype.kind, ("", set()))
    if dtype.itemsize not in sizes or dtype.fields is not None:
        raise _RefusedError(_elements(str(dtype)))
    return kind, 8 * dtype.itemsize, order


def _from_interface(obj: object, interface: dict[str, Any]) -> Export:
    typestr = interface["typestr"]
    kind, sizes = _INTERFACE_KINDS.get(typestr[1], ("", set()))
    digits = typestr[2:].partition("[")[0]
    size = int(digits) if digits.isdecimal() else 0
    if size not in sizes:
        raise _RefusedError(_elements(typestr))
    if interface.get("mask") is not None:
        raise _RefusedError("its mask would be lost")
    shape = tuple(interface["shape"])
    strides = interface.get("strides") or _compact(shape, size)
    owner, address, readonly = _interface_memory(obj, interface, shape, strides, size)
    order = _NATIVE if typestr[0] == "|" else typestr[0]
    code = _FORMATS.get((kind, 8 * size), "q")
    view = _pythonx.memory(owner, address, code, size, shape, tuple(strides), readonly)
    export = _typed(view, kind, 8 * size, order, "")
    return (*export[:3], _NATIVE + typestr[1:], *export[4:]) if kind in ("datetime", "timedelta") else export


def _interface_memory(
    obj: object, interface: dict[str, Any], shape: tuple[int, ...], strides: tuple[int, ...], size: int
) -> tuple[object, int, bool]:
    """Return who owns the memory, where it is (in the owner, if that is a memoryview) and whether it is read-only."""
    data = interface.get("data")
    if isinstance(data, tuple):
        return _Owner(obj, interface), data[0], bool(data[1])
    memory = memoryview(obj if data is None else data)
    offset = interface.get("offset", 0)
    low, high = _extent(shape, strides, size)
    if offset + low < 0 or offset + high > memory.nbytes or not memory.contiguous:
        raise _RefusedError("its array interface goes past the memory that it names")
    return memory, offset, memory.readonly


class _Owner:
    """Keeps what an array interface refers to."""

    __slots__ = ("interface", "obj")

    def __init__(self, obj: object, interface: object) -> None:
        self.obj = obj
        self.interface = interface


def _extent(shape: tuple[int, ...], strides: tuple[int, ...], size: int) -> tuple[int, int]:
    """Return the offsets of the first byte, and of the one after the last, from the first element."""
    if 0 in shape:
        return 0, 0
    ends = [(length - 1) * stride for length, stride in zip(shape, strides, strict=True)]
    return sum(min(end, 0) for end in ends), sum(max(end, 0) for end in ends) + size


def _compact(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    strides = []
    for length in reversed(shape):
        strides.append(size)
        size *= length
    return tuple(reversed(strides))


def _from_dlpack(obj: Any) -> Export:
    device = int(obj.__dlpack_device__()[0])
    if device not in _CPU_DEVICES:
        where = _OTHER_DEVICES.get(device, f"a device of kind {device}")
        raise _RefusedError(f"its memory is that of {where}; copy it to the CPU first")
    try:
        capsule = obj.__dlpack__(max_version=(1, 0))
    except TypeError:  # from before versions
        capsule = obj.__dlpack__()
    address, code, bits, lanes, shape, strides, readonly, _device = _pythonx.read_dlpack(capsule)
    kind, sizes = _DLPACK_KINDS.get(code, ("", set()))
    if bits not in sizes or lanes != 1:
        raise _RefusedError(_elements(f"{code} of DLPack, with {bits} bits and {lanes} lanes"))
    item = {2: "H", 1: "B"}[bits // 8] if bits <= 16 else _FORMATS[kind, bits]
    view = _pythonx.memory(capsule, address, item, bits // 8, shape, strides, readonly)
    return _typed(view, kind, bits, _NATIVE, "")


def _is_constant(view: memoryview) -> bool:
    """Whether nobody can change the memory: a read-only view says no more than that one cannot through it."""
    if not view.readonly:
        return False
    numpy = sys.modules.get("numpy")
    owner: Any = view.obj
    while numpy is not None and isinstance(owner, numpy.ndarray):
        # An array that owns its memory can be made writable again.
        if owner.flags.writeable or owner.base is None:
            return False
        owner = owner.base
    if isinstance(owner, memoryview):
        return _is_constant(owner)
    if isinstance(owner, bytes):
        return True
    # Whoever writes to the file changes what is mapped, and who cuts it off takes that away.
    if isinstance(owner, getattr(sys.modules.get("mmap"), "mmap", ())):
        return False
    try:
        return memoryview(owner).readonly
    except (TypeError, BufferError):
        return True


def _elements(name: str) -> str:
    return f"there is no counterpart in Elixir for elements of the type {name}"


def _name(cls: type) -> str:
    module = cls.__module__
    return cls.__qualname__ if module in ("builtins", "__main__") else f"{module}.{cls.__qualname__}"


def _article(name: str) -> str:
    return ("an " if name[0] in "aeiouAEIOU" else "a ") + name
