// The modules of the package `pythonx`, priv/python/pythonx, for the native side. They are not looked up in sys.modules, which
// is the user's to change: see _package.py, which keeps them.
#pragma once

#include <Python.h>

#include <string>

namespace pythonx {

// Finds the package in `folder`, which is not on sys.path, from here on. Once, at boot, before anything of it is
// imported. False with an exception set.
bool init_package(const std::string& folder);

// A module of the package, or of the standard library. A new reference, or nullptr with an exception set. Attached to the
// main interpreter.
PyObject* package_module(const char* name);

// The function of that name of _package.py, borrowed; nullptr with an exception set.
PyObject* package_function(const char* name);

}  // namespace pythonx
