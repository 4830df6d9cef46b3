// pythonx.Function: an Elixir function as a Python callable.
#pragma once

#include <Python.h>

#include <cstdint>

#include "vm/term.hpp"

namespace pythonx {

// How a function is called: what `work` registers, which knows how to reach Elixir. `call` waits for the result, a new
// reference or nullptr with an exception set; `start` does not, gives the answer to `resolver`, and returns the number of the
// call, or 0 with an exception set.
struct FunctionCaller {
  PyObject* (*call)(Term function, bool binaries_as_str, PyObject* arguments);
  std::uint64_t (*start)(Term function, bool binaries_as_str, PyObject* arguments, PyObject* resolver);
};

// Makes the type. Called once at boot, attached.
bool init_function_type(const FunctionCaller& caller);

// The type object (borrowed), for the Python module.
PyTypeObject* function_type();

// A callable for an Elixir function, of which it keeps a copy. Its results are encoded with binaries as str or bytes.
PyObject* make_function(Term function, bool binaries_as_str);

// Calls `object` without waiting; see FunctionCaller. 0 with an exception set.
std::uint64_t start_function(PyObject* object, PyObject* arguments, PyObject* resolver);

// A copy of the Elixir function in `env`, or 0 when `object` is none; sets no error.
Term get_function(ErlNifEnv* env, PyObject* object);

}  // namespace pythonx
