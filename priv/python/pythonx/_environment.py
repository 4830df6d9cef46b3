"""What is installed in the environment that runs, and how another is put beside it while it does."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def describe() -> dict[str, Any]:
    """Return the version, the folders, and what is installed, each package once, where imports find it first."""
    packages = {}
    for folder in sys.path:
        for package in _packages_in(folder):
            packages.setdefault(package["name"], package)
    return {
        "version": ".".join(map(str, sys.version_info[:3])),
        "executable": sys.executable,
        "base_prefix": sys.base_prefix,
        "prefix": sys.prefix,
        "packages": list(packages.values()),
    }


def _packages_in(folder: str) -> list[dict[str, Any]]:
    """Return what the names of the records say: reading them all would take long in a large environment."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    found = []
    for record in sorted(names):
        stem, extension = os.path.splitext(record)
        if extension in (".dist-info", ".egg-info") and "-" in stem:
            name, version = stem.split("-")[:2]
            direct = os.path.exists(os.path.join(folder, record, "direct_url.json"))
            name = name.lower().replace("_", "-").replace(".", "-")
            found.append({"name": name, "version": version, "path": folder, "direct": direct})
    return found


def imported() -> list[str]:
    """Return the names of the packages of which a module is imported."""
    files = set()
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if type(file) is str:
            files.add(file)
    found = []
    for package in describe()["packages"]:
        if package["path"] not in sys.path or not any(file.startswith(package["path"]) for file in files):
            continue
        if any(os.path.join(package["path"], name) in files for name in _files(package)):
            found.append(package["name"])
    return found


def _files(package: dict[str, Any]) -> list[str]:
    for record in os.listdir(package["path"]):
        stem, extension = os.path.splitext(record)
        name = stem.split("-")[0].lower().replace("_", "-").replace(".", "-")
        if extension == ".dist-info" and name == package["name"]:
            try:
                with open(os.path.join(package["path"], record, "RECORD"), encoding="utf-8") as lines:
                    return [line.rsplit(",", 2)[0] for line in lines if ".py," in line or ".so," in line]
            except OSError:
                return []
    return []


def add(folder: str, first: bool) -> None:
    """Have modules found in the packages of another environment, before those of the one that runs or after them.

    Modules that are imported stay what they are, and the files that they came from are not touched.
    """
    import importlib
    import site

    from pythonx import _package

    if folder in sys.path:
        return
    before = list(sys.path)
    site.addsitedir(folder)
    added = [path for path in sys.path if path not in before]
    if first:
        own = [index for index, path in enumerate(before) if "site-packages" in path]
        place = own[0] if own else len(before)
        sys.path[:] = [*before[:place], *added, *before[place:]]
    importlib.invalidate_caches()
    _package.remember_path()


def update_environ(variables: dict[str, str | None]) -> None:
    """Set environment variables, and remove those that are None."""
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        elif os.environ.get(name) != value:
            os.environ[name] = value
