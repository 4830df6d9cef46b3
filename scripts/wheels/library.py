"""What a library that was built exports and needs. Too much of either would be found by those only who load it."""

from __future__ import annotations

import struct

# The linker of macOS adds these two to every library. They name the library that they are in: nobody looks for them.
OF_THE_LINKER = {"_mh_dylib_header", "__dso_handle"}

DYNAMIC_SYMBOLS, VERSIONS_NEEDED = 11, 0x6FFFFFFE


def exported(library: bytes) -> set[str]:
    """The names that other libraries can find in it, as C has them."""
    return exported_of_elf(library) if library[:4] == b"\x7fELF" else exported_of_macho(library)


def text(data: bytes, start: int) -> str:
    return data[start : data.index(b"\0", start)].decode()


def sections(library: bytes) -> list[tuple[int, ...]]:
    """name, type, flags, address, offset, size, link, info, alignment, size of an entry."""
    (start,) = struct.unpack_from("<Q", library, 40)
    size, count = struct.unpack_from("<2H", library, 58)
    return [struct.unpack_from("<2I4Q2I2Q", library, start + size * i) for i in range(count)]


def exported_of_elf(library: bytes) -> set[str]:
    known = sections(library)
    names = set()
    for _, kind, _, _, offset, size, link, *_ in known:
        for at in range(offset, offset + size if kind == DYNAMIC_SYMBOLS else offset, 24):
            name, info, _, section = struct.unpack_from("<I2BH", library, at)
            if section != 0 and info >> 4 != 0:  # defined, and not local
                names.add(text(library, known[link][4] + name))
    return names


def exported_of_macho(library: bytes) -> set[str]:
    (count,) = struct.unpack_from("<I", library, 16)
    names, at = set(), 32
    for _ in range(count):
        command, size = struct.unpack_from("<2I", library, at)
        if command == 2:
            symbols, total, texts = struct.unpack_from("<3I", library, at + 8)
            for symbol in range(symbols, symbols + 16 * total, 16):
                name, kind = struct.unpack_from("<IB", library, symbol)
                if kind & 0x11 == 0x01 and kind & 0x0E != 0:  # external, not private, defined
                    names.add(text(library, texts + name).removeprefix("_"))
        at += size
    return names - OF_THE_LINKER


def glibc(library: bytes) -> tuple[int, ...]:
    """The newest version of glibc that it asks for; none for other C libraries."""
    newest: tuple[int, ...] = ()
    known = sections(library) if library[:4] == b"\x7fELF" else []
    for _, kind, _, _, offset, _, link, count, *_ in known:
        for _ in range(count if kind == VERSIONS_NEEDED else 0):
            _, versions, _, first, following = struct.unpack_from("<2H3I", library, offset)
            at = offset + first
            for _ in range(versions):
                _, _, _, name, step = struct.unpack_from("<I2H2I", library, at)
                version = text(library, known[link][4] + name)
                if version.startswith("GLIBC_2."):
                    newest = max(newest, tuple(map(int, version[6:].split("."))))
                at += step
            offset += following
    return newest
