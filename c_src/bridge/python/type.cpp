#include "python/type.hpp"

namespace pythonx {

bool make_type(PyTypeObject** type, PyType_Spec* spec) {
  if (*type == nullptr) *type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(spec));
  return *type != nullptr;
}

void free_instance(PyObject* self) noexcept {
  PyTypeObject* type = Py_TYPE(self);
  PyObject_Free(self);
  Py_DECREF(type);
}

PyObject* refuse_pickling(PyObject* self, PyObject*) noexcept {
  PyErr_Format(PyExc_TypeError, "cannot pickle '%s' object", Py_TYPE(self)->tp_name);
  return nullptr;
}

PyObject* copy_unchanging(PyObject* self, PyObject*) noexcept {
  Py_INCREF(self);
  return self;
}

}  // namespace pythonx
