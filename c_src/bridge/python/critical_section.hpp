// What only builds without a GIL need: Python's locks of single objects, which only CPython 3.13 and later know, and mutexes.
#pragma once

#include <Python.h>

#include <mutex>

#ifndef Py_BEGIN_CRITICAL_SECTION
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#endif

namespace pythonx {

// For what is touched by attached threads of one interpreter only. With a GIL that is enough.
#ifdef Py_GIL_DISABLED
using AttachedMutex = std::mutex;
#else
struct AttachedMutex {
  void lock() {}
  void unlock() {}
};
#endif

}  // namespace pythonx
