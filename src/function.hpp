// pythonx.Function: an Elixir function as a Python callable.
#pragma once

#include <Python.h>

#include <cstdint>

#include "term.hpp"

namespace pythonx {

// Makes the type. Called once at boot, attached.
bool init_function_type();

// The type object (borrowed), for the Python module.
PyTypeObject* function_type();

// A callable for an Elixir function, of which it keeps a copy. Its results are encoded with binaries as str or bytes.
PyObject* make_function(Term function, bool binaries_as_str);

// Calls `object` without waiting; see start_call. 0 with an exception set.
std::uint64_t start_function(PyObject* object, PyObject* arguments, PyObject* resolver);

// A copy of the Elixir function in `env`, or 0 when `object` is none; sets no error.
Term get_function(ErlNifEnv* env, PyObject* object);

}  // namespace pythonx
