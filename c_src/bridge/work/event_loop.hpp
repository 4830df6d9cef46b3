// The thread that runs the event loop of priv/python/pythonx/_event_loop.py, whose head has the rules.
//
// It is made here and not by Python's `threading` for two reasons: what replaces that (gevent does) does not reach it, and no
// exception ends it. Whatever gets out of the Python function that it runs, at whatever place, is handed to the next call
// of that function. So the thread lives as long as the process.
#pragma once

#include <Python.h>

namespace pythonx {

// Starts the thread, which calls `serve` (of which it takes a reference of its own) again and again: with None, or with the
// exception that the last call raised. False with an exception set. Attached.
bool start_loop_thread(PyObject* serve);

// Whether the calling thread is that one.
bool is_loop_thread();

}  // namespace pythonx
