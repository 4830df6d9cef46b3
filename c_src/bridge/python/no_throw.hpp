// Functions that CPython calls by a pointer. An exception of C++ must not pass through CPython, whose frames it would leave half
// done: it becomes one of Python's, MemoryError or RuntimeError. (What pybind11 has made does the same.)
#pragma once

#include <Python.h>

#include <exception>
#include <new>
#include <stdexcept>
#include <type_traits>

namespace pythonx {

// In a handler (catch): sets the Python exception that stands for the exception which is being handled. Attached.
inline void set_python_exception() noexcept {
  try {
    throw;
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::length_error&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  } catch (...) {
    PyErr_SetString(PyExc_RuntimeError, "native code threw something that is no std::exception");
  }
}

template <auto function, typename Type = decltype(function)>
struct NoThrow;

template <auto function, typename Result, typename... Ts>
struct NoThrow<function, Result (*)(Ts...)> {
  static Result call(Ts... arguments) noexcept {
    try {
      return function(arguments...);
    } catch (...) {
      set_python_exception();
      if constexpr (std::is_pointer_v<Result>) {
        return nullptr;
      } else {
        return -1;
      }
    }
  }
};

// The function for a table of CPython's.
template <auto function>
constexpr auto no_throw = &NoThrow<function>::call;

}  // namespace pythonx
