// What the types of Python that the bridge makes have in common: heap types, whose instances only C++ makes.
#pragma once

#include <Python.h>

namespace pythonx {

// Neither made, nor subclassed, nor changed from Python: what reads an instance trusts what it holds.
constexpr unsigned int closed_type =
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE;

// Makes the type, if that has not been done. False with an exception set.
bool make_type(PyTypeObject** type, PyType_Spec* spec);

// A function as a slot of a type holds it.
template <typename Function>
void* slot(Function* function) noexcept {
  return reinterpret_cast<void*>(function);
}

// The end of every `tp_dealloc`: frees the instance, which has a reference to its type.
void free_instance(PyObject* self) noexcept;

// `==` and `!=`, for `tp_richcompare`; `equal` is asked only for two instances of that very type.
template <typename Equal>
PyObject* compare_instances(PyObject* left, PyObject* right, int operation, Equal equal) {
  if (Py_TYPE(left) != Py_TYPE(right) || (operation != Py_EQ && operation != Py_NE)) Py_RETURN_NOTIMPLEMENTED;
  return PyBool_FromLong(equal() == (operation == Py_EQ));
}

// For what means something only inside of this VM, and could be forged if it were made of bytes: `__reduce__`.
PyObject* refuse_pickling(PyObject* self, PyObject*) noexcept;

// For what never changes: `__copy__` and `__deepcopy__` (dataclasses.asdict uses the latter).
PyObject* copy_unchanging(PyObject* self, PyObject*) noexcept;

}  // namespace pythonx
