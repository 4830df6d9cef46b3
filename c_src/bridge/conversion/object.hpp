// Handles: resources that own Python objects, and binaries that live in one.
//
// Ownership. A resource owns one strong reference. Its destructor runs on whichever scheduler collected the last
// term, must never wait for the GIL, and so only pushes the reference on a lock-free list ("pending"). Whoever is
// attached next on a bridge thread, or the reaper, drops the batch: a drop may run __del__, arbitrary code that
// belongs on no dirty scheduler's small stack.
#pragma once

#include <Python.h>

#include <cstddef>

#include "vm/term.hpp"

namespace pythonx {

// Registers the resource types. Called once, when the library is loaded.
bool open_object_types(ErlNifEnv* env);

// A %Pythonx.Object{} with a new strong reference of its own. Needs the GIL.
Term make_object(ErlNifEnv* env, PyObject* object);

// The same with a reference of the caller's, which is taken. Needs no GIL.
Term make_object_from(ErlNifEnv* env, PyObject* object);

// The object behind a local %Pythonx.Object{}, borrowed for as long as `env` keeps the term; nullptr for any other
// term, a remote object included. Needs no GIL.
PyObject* get_object(ErlNifEnv* env, Term term);

// A binary over memory that `owner` keeps alive and unchanged: no copy, a new strong reference. Needs the GIL.
Term make_binary_over(ErlNifEnv* env, PyObject* owner, const char* data, std::size_t size);

// Queues a reference that the caller owns, to be dropped on a bridge thread. Needs no GIL, takes no lock.
void drop_later(PyObject* object);

// Drops pending references until none is left or `budget_us` microseconds have passed (0: no limit). Lets other
// threads have the GIL about every millisecond. Needs the GIL, on a bridge thread. True when nothing is left.
bool drop_pending(long budget_us);

bool has_pending();

// Blocks until something is pending (reaper only; without the GIL).
void wait_for_pending();

// How many references handles hold just now, the pending ones included.
std::size_t live_handles();

}  // namespace pythonx
