"""A program: describes a Python module, for a VM that is compiling and has no Python of its own.

    python3 _describe.py TEXT text NAME FILE    the module of a file, whose source is in the file TEXT
    python3 _describe.py TEXT module NAME       a module that this Python could import, without importing it
    python3 _describe.py TEXT imported NAME     the same, imported

Writes the description in Erlang's external term format, as Base64, after a mark: what is imported may print.
"""

from __future__ import annotations

import base64
import os
import struct
import sys

MARK = "pythonx-description:"


def encode(value: object) -> bytes:
    """Return a value in the external term format, without the number of its version."""
    if value is None or value is True or value is False:
        name = {None: b"nil", True: b"true", False: b"false"}[value]
        return b"w" + bytes([len(name)]) + name
    if isinstance(value, int):
        if -(2**31) <= value < 2**31:
            return b"b" + struct.pack(">i", value)
        digits = abs(value).to_bytes((abs(value).bit_length() + 7) // 8, "little")
        return b"n" + bytes([len(digits), value < 0]) + digits
    if isinstance(value, float):
        return b"F" + struct.pack(">d", value)
    if isinstance(value, str):
        data = value.encode("utf-8", "replace")
        return b"m" + struct.pack(">I", len(data)) + data
    if isinstance(value, (list, tuple)):
        if not value:
            return b"j"
        return b"l" + struct.pack(">I", len(value)) + b"".join(map(encode, value)) + b"j"
    pairs = b"".join(encode(key) + encode(item) for key, item in value.items())
    return b"t" + struct.pack(">I", len(value)) + pairs


def main(text: str, how: str, name: str, file: str = "") -> None:
    """Describe what the arguments name."""
    # This folder is for the two imports below and for nothing else.
    folder = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path or ".") != folder]
    sys.path.insert(0, folder)
    import _signatures

    if how == "imported":
        import _inspected
    sys.path.remove(folder)
    if how == "text":
        with open(text, encoding="utf-8") as opened:
            described = _signatures.describe_text(opened.read(), file, name)
    elif how == "module":
        described = _signatures.describe_module(name)
    else:
        described = _inspected.describe(name)
    sys.stdout.flush()
    term = base64.b64encode(b"\x83" + encode(described)).decode()
    sys.stdout.write(f"\n{MARK}{term}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
