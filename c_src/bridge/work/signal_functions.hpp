// What takes the place of functions of Python's modules `_signal` and `_thread`: the same to their callers, on the table of
// signals.hpp instead of CPython's own, and on every thread.
#pragma once

#include <Python.h>

namespace pythonx {

// A dict of functions by name, a new reference, or nullptr with an exception set. `natives` is a dict of those whose places
// they take, which some of them call. Attached, once.
PyObject* make_signal_functions(PyObject* natives);

// The handler of the interrupt's signal; an exception is set when it returns nullptr.
PyObject* on_interrupt(PyObject* frame);

}  // namespace pythonx
