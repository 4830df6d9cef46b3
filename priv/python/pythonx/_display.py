"""How an object wants to be shown: behind `Pythonx.display/2`."""

from __future__ import annotations

import base64
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# As IPython has them.
_METHODS = {
    "_repr_html_": "text/html",
    "_repr_markdown_": "text/markdown",
    "_repr_svg_": "image/svg+xml",
    "_repr_png_": "image/png",
    "_repr_jpeg_": "image/jpeg",
    "_repr_pdf_": "application/pdf",
    "_repr_latex_": "text/latex",
    "_repr_json_": "application/json",
    "_repr_javascript_": "application/javascript",
}

# Longer texts nobody reads; the same bound as that of Inspect.
_LONGEST_TEXT = 64 << 10


def display(obj: object) -> dict[str, Any]:
    """Return the representations of an object by their MIME types; those of binary types are bytes.

    What a method of the object raises is raised, but for NotImplementedError, which means that it has none.
    """
    bundle = {} if isinstance(obj, type) else _rich(obj)
    bundle = {mime: _as_bytes(mime, data) for mime, data in bundle.items() if data is not None}
    bundle.setdefault("text/plain", _text(obj))
    return bundle


def _rich(obj: Any) -> dict[str, Any]:
    bundle = _call(obj, "_repr_mimebundle_", include=None, exclude=None)
    if bundle:
        return dict(bundle)
    return _image(obj) or {mime: _call(obj, name) for name, mime in _METHODS.items()}


def _call(obj: Any, name: str, **arguments: Any) -> Any:
    """Return what a method gives, None where there is none. Some give a pair with metadata."""
    # Of the class: proxies and mocks answer to every name. A class may set the method of its base to None.
    if not callable(getattr(type(obj), name, None)):
        return None
    try:
        result = getattr(obj, name)(**arguments)
    except NotImplementedError:
        return None
    return result[0] if isinstance(result, tuple) else result


def _image(obj: Any) -> dict[str, Any]:
    """Return the image of an object of a library that leaves this to others."""
    figure = _figure(obj)
    if figure is not None:
        return {"image/png": _saved(figure.savefig, bbox_inches="tight")}
    image = _loaded("PIL.Image", "Image")
    if image is not None and isinstance(obj, image):
        known = obj.mode in ("1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA")
        return {"image/png": _saved((obj if known else obj.convert("RGB")).save)}
    return {}


def _figure(obj: Any) -> Any:
    """Return the figure of matplotlib that an object is or has, or None."""
    figure = _loaded("matplotlib.figure", "Figure")
    if figure is None:
        return None
    grid = _loaded("seaborn.axisgrid", "Grid")
    if grid is not None and isinstance(obj, grid):
        return obj.figure
    # Axes are what the plotting methods of pandas and seaborn return. Theirs may be a part of a figure, or none.
    axes = _loaded("matplotlib.axes", "Axes")
    if axes is not None and isinstance(obj, axes):
        obj = obj.figure if obj.figure is None or isinstance(obj.figure, figure) else obj.figure.figure
    return obj if isinstance(obj, figure) else None


def _loaded(module: str, name: str) -> Any:
    """Return a class, if the module that has it was imported: otherwise nothing is an instance of it."""
    return getattr(sys.modules.get(module), name, None)


def _saved(save: Any, **arguments: Any) -> bytes:
    import io

    with io.BytesIO() as file:
        save(file, format="png", **arguments)
        return file.getvalue()


def _as_bytes(mime: str, data: Any) -> Any:
    binary = mime == "application/pdf" or (mime.startswith("image/") and mime != "image/svg+xml")
    # In bundles for notebooks, bytes are base64 text.
    return base64.b64decode(data) if binary and isinstance(data, str) else data


def _text(obj: object) -> str:
    text = repr(obj)
    if len(text) <= _LONGEST_TEXT:
        return text
    return f"{text[:_LONGEST_TEXT]}... (the first {_LONGEST_TEXT} of {len(text)} characters)"
