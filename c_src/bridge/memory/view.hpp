// Memory of one side, seen by the other's buffer protocol: binaries of Elixir, and whatever a library of Python says it
// has at an address.
//
// Ownership. A `pythonx.Binary` owns an environment that no process owns, with a copy of the term in it: for a binary that
// is more than 64 bytes that is one more reference to the VM's memory, which cannot change; a smaller one is copied. The
// environment is freed with the object, on whichever thread drops the last reference: enif_free_env may be called from any.
// A `pythonx.Memory` owns a reference to the object that keeps the memory alive.
#pragma once

#include <Python.h>

#include "vm/term.hpp"

namespace pythonx {

// Makes both types. Called once at boot, attached.
bool init_view_types();

// A read-only memoryview over a binary, without a copy. `term` must be a binary. nullptr with an exception set.
PyObject* make_memoryview(Term term);

// The shape of a piece of memory. `strides` are in bytes.
struct MemoryLayout {
  PyObject* owner;  // borrowed
  const char* address;
  PyObject* format;  // a str, as the module struct writes it
  Py_ssize_t itemsize;
  PyObject* shape;    // a tuple of int
  PyObject* strides;  // a tuple of int, of the same length
  bool readonly;
};

// A memoryview of memory at an address. nullptr with an exception set.
PyObject* make_memory_view(const MemoryLayout& layout);

}  // namespace pythonx
