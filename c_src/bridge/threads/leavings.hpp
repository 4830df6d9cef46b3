// What code may leave on the thread that it ran on, for whoever is served by that thread next.
//
// Context variables are no part of it: each process has its own, see gil.hpp. Everything else that Python or C code ties to a
// thread is told from here, or is got rid of with the thread. Python's main thread has to stay, so what CPython itself keeps
// for it is taken away; what C libraries keep in variables of their own cannot be.
#pragma once

#include <Python.h>

#include <cstdint>

namespace pythonx {

// Remembers what there is before any code of users has run. Once, on Python's main thread, attached, at the end of the boot.
void note_thread_as_booted();

// Whether CPython holds something for the calling thread that it does not for a new one: values of threading.local, trace and
// profile functions, a running event loop, hooks for asynchronous generators, the tracking of coroutines; or whether code has
// opened a connection of sqlite3 on it, or set its signal mask. Attached. Takes some nanoseconds.
bool is_left_on_thread();

// A number for what C code holds for the calling thread: the thread-local variables of the libraries that were loaded since
// the boot. As long as none was changed the number is the same. Takes a microsecond or two with many libraries. Needs no GIL.
std::uint64_t c_state_of_thread();

// Code has set the calling thread's signal mask.
void note_mask();

// Takes away what CPython holds for the calling thread, as above. No finalizer runs: what was there is dropped later. Attached.
void reset_thread();

// Gives the calling thread the signal mask and the processors that there were at the boot. Needs no GIL.
void restore_mask_and_processors();

// From here on connections of sqlite3 are noticed: the module has been imported.
bool watch_sqlite();

}  // namespace pythonx
