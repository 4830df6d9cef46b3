// Integers of any size, both ways, by their bytes: decimal text would meet CPython's limit of 4300 digits,
// and is slow.
#pragma once

#include <Python.h>

#include "vm/term.hpp"

namespace pythonx {

// A new int for an integer term; nullptr with an exception set when memory is short.
PyObject* make_long(ErlNifEnv* env, Term term);

// The integer stored in an int or an instance of a subclass of it, whatever methods that class overrides.
// False when Elixir cannot hold a number of that size (an exception may be set when memory is short).
bool make_integer(ErlNifEnv* env, PyObject* object, Term* out);

// Whether the int is known, at once, to fit 64 bits, and its value then.
inline bool small_value(PyObject* object, ErlNifSInt64* out) {
#if PY_VERSION_HEX >= 0x030C0000
  auto* number = reinterpret_cast<PyLongObject*>(object);
  if (!PyUnstable_Long_IsCompact(number)) return false;
  *out = PyUnstable_Long_CompactValue(number);
  return true;
#else
  const Py_ssize_t digits = Py_SIZE(object);
  if (digits < -1 || digits > 1) return false;
  *out = digits == 0
             ? 0
             : digits * static_cast<ErlNifSInt64>(reinterpret_cast<PyLongObject*>(object)->ob_digit[0]);
  return true;
#endif
}

}  // namespace pythonx
