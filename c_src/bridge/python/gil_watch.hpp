// Whether the GIL is free, which no function of CPython tells: part of python/gil.hpp. Nothing of this is needed without a GIL.
#pragma once

#include <Python.h>

#include <atomic>

namespace pythonx {

// What is counted for versions of CPython that say nothing.
struct GilCounts {
  std::atomic<int> in_python{
      0};  // threads of the bridge, schedulers not among them, that are in Python or wait for the GIL
  std::atomic<int> own_states{0};  // the thread states that the bridge has made
};
extern GilCounts gil_counts;

// Attached, as the only thread there is.
void find_gil();

// Attached, before the GIL is let go.
void note_foreign_threads();

// A thread of the bridge goes into Python, or out of it. Counted only where CPython does not tell what is asked for.
void count_in();
void count_out();

// Whether threads that the bridge has not made are in Python: those of `threading`, of C libraries. Attached.
bool has_foreign_threads();

bool is_gil_free();

}  // namespace pythonx
