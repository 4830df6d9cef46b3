"""Arrays of the libraries of Python over the memory of an Elixir tensor."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NAMES = {b"s": "int", b"u": "uint", b"f": "float", b"bf": "bfloat", b"c": "complex"}

# Types that numpy has from the package ml_dtypes.
_ADDED = {"bfloat16", "float8_e5m2", "float8_e4m3fn"}


def make(view: memoryview, kind: bytes, bits: int, shape: tuple[int, ...], library: str) -> object:
    """Return an array of a library.

    Args:
        view: The elements, in C order.
        kind: The kind of the elements, as Elixir names it.
        bits: Their size.
        shape: The length of each axis.
        library: The name of the library.
    """
    name = _type_name(kind, bits)
    if library == "torch":
        return _torch_tensor(view, name, shape)
    array = _numpy_array(view, name, shape)
    if library == "jax":
        import jax.numpy

        return jax.numpy.asarray(array)
    if library == "tensorflow":
        import tensorflow

        return tensorflow.convert_to_tensor(array)
    return array


def _type_name(kind: bytes, bits: int) -> str:
    if bits == 8 and kind.startswith(b"f"):
        return "float8_e5m2" if kind == b"f" else "float8_e4m3fn"
    return f"{_NAMES[kind]}{bits}"


def _numpy_array(view: memoryview, name: str, shape: tuple[int, ...]) -> Any:
    """Return a read-only array over the memory itself."""
    import numpy

    if name in _ADDED:
        import ml_dtypes

        return numpy.frombuffer(view, dtype=getattr(ml_dtypes, name)).reshape(shape)
    return numpy.frombuffer(view, dtype=name).reshape(shape)


def _torch_tensor(view: memoryview, name: str, shape: tuple[int, ...]) -> Any:
    """Return a tensor over a copy: torch knows no read-only memory, and its methods write in place."""
    import torch

    return torch.frombuffer(bytearray(view), dtype=getattr(torch, name)).reshape(shape)
