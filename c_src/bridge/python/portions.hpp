// Dropping large structures in portions.
//
// To free a list of five million elements takes CPython 40 ms and more, in one go, under the GIL. One that dies with the
// reference that is dropped is emptied in portions first, with others having the GIL in between about every millisecond;
// so are the containers in it, however deep. These are lists, tuples, dicts and sets. What only CPython or a package can take
// apart, such as the attributes of an instance, a frozenset or an array of objects, is freed in one go.
#pragma once

#include <Python.h>

#include <functional>

namespace pythonx {

// Whether the object is of a built-in type whose instances hold no others: to drop, hash, compare or show one
// runs no user code.
inline bool is_plain_scalar(PyObject* object) {
  PyTypeObject* type = Py_TYPE(object);
  return type == &PyBytes_Type || type == &PyUnicode_Type || type == &PyLong_Type || type == &PyFloat_Type ||
         type == &PyBool_Type || object == Py_None;
}

// Drops a reference that the caller owns (nullptr is none). On a bridge thread, attached, with no exception set: it may run
// code of users, and lets others have the GIL. `after_portion` is called after each portion of a large container.
void drop_in_portions(PyObject* object, const std::function<void()>& after_portion = {});

// Whether to drop this reference runs nobody's code, and takes next to no time: others hold the object too, or it is a scalar
// or a small container of such. To be asked while attached; without a GIL only scalars are known to be harmless.
bool is_harmless_to_drop(PyObject* object);

}  // namespace pythonx
