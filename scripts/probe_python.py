"""Prints the path of this Python when it can be embedded, otherwise exits with the reason."""

import os
import sys
import sysconfig


def main() -> None:
    if sys.implementation.name != "cpython" or sys.version_info < (3, 10):
        sys.exit("CPython 3.10 or newer is needed")
    name = sysconfig.get_config_var("INSTSONAME") or ""
    folders = [os.path.join(sys.base_prefix, "lib"), sysconfig.get_config_var("LIBDIR")]
    multiarch = sysconfig.get_config_var("MULTIARCH")
    if multiarch:
        folders += [os.path.join(folder, multiarch) for folder in list(folders) if folder]
    if ".so" not in name and ".dylib" not in name:
        sys.exit("this Python has no shared libpython")
    if not any(folder and os.path.exists(os.path.join(folder, name)) for folder in folders):
        sys.exit(f"{name} was not found in {folders}")
    if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
        sys.exit("Python.h was not found")
    print(sys.executable)


main()
