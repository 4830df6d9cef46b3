// Python's locks of single objects, which only builds without a GIL need and only CPython 3.13 and later
// know.
#pragma once

#include <Python.h>

#ifndef Py_BEGIN_CRITICAL_SECTION
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#endif
