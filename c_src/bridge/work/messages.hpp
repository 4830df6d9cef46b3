// What Python code says to Elixir processes without being asked.
#pragma once

#include <Python.h>

namespace pythonx {

// Sends a decoded object to a process; None, or nullptr with an exception set. Attached, on any thread.
PyObject* send_message(PyObject* pid, PyObject* object);

// The process that the calling thread's evaluation works for: a new reference, or nullptr with an exception set.
PyObject* self_pid();

// The process registered under a name, a str or pythonx.Atom, or None. nullptr with an exception set.
PyObject* whereis(PyObject* name);

}  // namespace pythonx
