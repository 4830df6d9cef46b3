// What may run code that is not CPython's own. On a scheduler thread nothing of that kind is allowed to
// happen.
#pragma once

#include <Python.h>

#include <cstddef>
#include <string>

#include "python/portions.hpp"

namespace pythonx {

// Whether hashing and comparing the object as a key runs no user code, and needs little stack: plain scalars,
// pids, and tuples of these that are not nested deeply.
bool is_plain_key(PyObject* object);

// How deeply tuples are nested in the object: 0 when it is none.
std::size_t tuple_depth(PyObject* object);

// Drops a reference that may be the last one.
void drop_last(PyObject* object, bool user_code);

// Drops a reference. Where user code may not run (a scheduler thread), a reference that could be the last to
// a container is left to a bridge thread: what it holds may run code when it goes, and CPython 3.12 and 3.13
// free nested containers with up to 10,000 calls inside each other, for which a scheduler's stack is too
// small.
inline void drop(PyObject* object, bool user_code) {
#ifndef Py_GIL_DISABLED
  // Without a GIL, another thread may drop its reference between this look at the count and our own drop.
  if (Py_REFCNT(object) > 1) {
    Py_DECREF(object);
    return;
  }
#endif
  drop_last(object, user_code);
}

// A text for messages: the repr of a plain key, cut when long, and the name of the type of anything else.
std::string describe(PyObject* object);

}  // namespace pythonx
