"""What Pythonx has to know of a Python before it can embed it. Run by that Python: `python -I -S pythonx_probe.py`.

Prints `key=value` pairs, each ended by NUL, in the encoding of file names, so that no path can be misread.
"""

from __future__ import annotations

import os
import sys
import sysconfig


def library_folders() -> list[str]:
    """Where libpython may be, best first. LIBDIR comes late: it is a path of the build machine in relocated Pythons."""
    var = sysconfig.get_config_var
    multiarch = var("MULTIARCH") or ""
    lib = os.path.join(sys.base_prefix, "lib")
    libdir = var("LIBDIR") or lib
    folders = [
        lib,
        os.path.join(lib, multiarch),
        os.path.join(sys.base_exec_prefix, "lib"),
        libdir,
        os.path.join(libdir, multiarch),
    ]
    if var("PYTHONFRAMEWORKPREFIX"):
        folders.append(var("PYTHONFRAMEWORKPREFIX"))
    return folders


def library_names() -> list[str]:
    """The names that libpython may have here. conda ships one though its sysconfig names only the static archive."""
    version = "{}.{}{}".format(*sys.version_info[:2], getattr(sys, "abiflags", ""))
    name = sysconfig.get_config_var("INSTSONAME") or ""
    names = [name] if name and not name.endswith(".a") else []
    return names + [f"libpython{version}.so.1.0", f"libpython{version}.so", f"libpython{version}.dylib"]


def find_library() -> str:
    if os.name == "nt":
        suffix = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
        paths = [os.path.join(sys.base_prefix, "python{}{}{}.dll".format(*sys.version_info[:2], suffix))]
    else:
        paths = [os.path.join(folder, name) for name in library_names() for folder in library_folders()]
    return next((path for path in paths if os.path.isfile(path)), "")


def main() -> None:
    include = sysconfig.get_path("include", vars={"installed_base": sys.base_prefix, "base": sys.base_prefix})
    base_executable = getattr(sys, "_base_executable", None) or sys.executable
    answer = {
        "implementation": sys.implementation.name,
        "version": "{}.{}.{}".format(*sys.version_info),
        "executable": os.path.realpath(base_executable),
        "prefix": os.path.realpath(sys.base_prefix),
        "libpython": find_library(),
        "headers": include if os.path.isfile(os.path.join(include, "Python.h")) else "",
        "free_threaded": "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else "",
        "os": os_release(),
        "libc": c_library(),
    }
    for key, value in answer.items():
        sys.stdout.buffer.write(os.fsencode(f"{key}={value}") + b"\0")


def os_release() -> str:
    """The id of the Linux distribution and of those it derives from, such as `ubuntu debian`."""
    try:
        with open("/etc/os-release", encoding="utf-8", errors="replace") as file:
            pairs = dict(line.rstrip().split("=", 1) for line in file if "=" in line)
    except OSError:
        return sys.platform
    return " ".join(pairs.get(key, "").strip("\"'") for key in ("ID", "ID_LIKE"))


def c_library() -> str:
    """The GNU C library in use and its version, such as `glibc 2.36`. Others do not say what they are."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, OSError, ValueError):
        return ""


if __name__ == "__main__":
    main()
