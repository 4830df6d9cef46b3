"""The user's own Python files: the folders of applications, on `sys.path` after everything else.

Modules in them are loaded by a loader of this file. It knows what the file was like when it was read, for
`_reload.py`, and keeps bytecode in the cache where the folder itself cannot be written.
"""

from __future__ import annotations

import _frozen_importlib_external as _external
import marshal
import os
import sys

from pythonx import _package

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType
    from typing import Any

_folders: list[str] = []
_cache = ""

# The modules that were loaded from the folders, by name.
loaded: dict[str, ModuleType] = {}


def add(paths: list[bytes], cache: bytes) -> None:
    """Import from these folders too. `cache` is a folder for bytecode."""
    global _cache
    _cache = os.fsdecode(cache)
    folders = [os.fsdecode(path) for path in paths]
    if not _folders and folders:
        _package.add_hook(_hook)
        _package.add_finders(_Ambiguous)
    for folder in folders:
        if folder not in _folders:
            _folders.append(folder)
            _package.extend_path(folder)
            # Whoever has looked there before did so with another finder.
            sys.path_importer_cache.pop(folder, None)


def _hook(path: str) -> Any:
    if not any(path == folder or path.startswith(folder + os.sep) for folder in _folders):
        raise ImportError("not one of the own folders", path=path)
    return _external.FileFinder(
        path,
        (_external.ExtensionFileLoader, _external._imp.extension_suffixes()),
        (Loader, _external.SOURCE_SUFFIXES),
        (_external.SourcelessFileLoader, _external.BYTECODE_SUFFIXES),
    )


class _Ambiguous:
    """Finds nothing, and refuses names that two of the folders have: which one is meant is not to be guessed."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if path is not None or len(_folders) < 2:
            return None
        files = [file for folder in _folders if (file := _file_of(folder, name))]
        if len(files) < 2:
            return None
        raise ImportError(
            f"there are two modules of the name {name!r}, {files[0]} and {files[1]}: one of them needs another name",
            name=name,
        )


def _file_of(folder: str, name: str) -> str | None:
    for file in (f"{folder}/{name}/__init__.py", f"{folder}/{name}.py"):
        if os.path.isfile(file):
            return file
    return None


class Loader(_external.SourceFileLoader):
    """Loads a file, and remembers what the file was like."""

    stats: Any = None

    def path_stats(self, path: str) -> Any:
        found = super().path_stats(path)
        if path == self.path:
            self.stats = found
        return found

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        loaded[module.__name__] = module

    def get_code(self, fullname: str) -> CodeType | None:
        if sys.dont_write_bytecode or sys.pycache_prefix or not _cache or _writable(self.path):
            return super().get_code(fullname)
        stats = self.path_stats(self.path)
        file = f"{_cache}/{sys.implementation.cache_tag}/{_hash(self.path)}.pyc"
        # What the bytecode was made of, before it.
        head = marshal.dumps((self.path, stats["mtime"], stats["size"], sys.version))
        code = _read(file, head)
        if code is None:
            code = self.source_to_code(self.get_data(self.path), self.path)
            # Makes the folder, writes beside the file and moves that to its place; says nothing when it cannot.
            self.set_data(file, head + marshal.dumps(code))
        return code


def _writable(path: str) -> bool:
    folder = os.path.join(os.path.dirname(path), "__pycache__")
    return os.access(folder if os.path.lexists(folder) else os.path.dirname(path), os.W_OK) and (
        os.path.isdir(folder) or not os.path.lexists(folder)
    )


def _hash(path: str) -> str:
    return _external._imp.source_hash(0, os.fsencode(path)).hex()


def _read(file: str, head: bytes) -> CodeType | None:
    try:
        with open(file, "rb") as opened:
            data = opened.read()
        return marshal.loads(data[len(head) :]) if data.startswith(head) else None
    except (OSError, ValueError, EOFError, TypeError):
        return None
