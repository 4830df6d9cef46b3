// Waiting for Python's awaitables, on the event loop of priv/python/pythonx/_loop.py.
#pragma once

#include <Python.h>

namespace pythonx {

// Runs a coroutine on the event loop, in the context of the calling thread, which waits: a new reference to its result, or
// nullptr with an exception set.
PyObject* await_coroutine(PyObject* coroutine);

// What a pythonx._loop.Outcome holds: a new reference to its value, or nullptr with its exception raised, with the
// traceback that it has. Takes the reference; nullptr for nullptr.
PyObject* value_of(PyObject* outcome);

// The outcome that is kept under the key (an int), or nullptr with an exception set.
PyObject* take_outcome(PyObject* key);

}  // namespace pythonx
