#include "work/source.hpp"

#include <vector>

namespace pythonx {
namespace {

#if PY_VERSION_HEX >= 0x030C0000
constexpr auto request_index = PyUnstable_Eval_RequestCodeExtraIndex;
constexpr auto get_extra = PyUnstable_Code_GetExtra;
constexpr auto set_extra = PyUnstable_Code_SetExtra;
#else
constexpr auto request_index = _PyEval_RequestCodeExtraIndex;
constexpr auto get_extra = _PyCode_GetExtra;
constexpr auto set_extra = _PyCode_SetExtra;
#endif

Py_ssize_t extra_index = -1;

void release(void* source) { Py_XDECREF(static_cast<PyObject*>(source)); }

}  // namespace

bool init_sources() {
  extra_index = request_index(release);
  if (extra_index < 0 && PyErr_Occurred() == nullptr)
    PyErr_SetString(PyExc_RuntimeError, "no index for what code objects carry is left");
  return extra_index >= 0;
}

void tie_source(PyObject* code, PyObject* source) {
  std::vector<PyObject*> codes = {code};
  while (!codes.empty()) {
    PyObject* next = codes.back();
    codes.pop_back();
    if (set_extra(next, extra_index, Py_NewRef(source)) < 0) {
      PyErr_Clear();
      Py_DECREF(source);
      return;
    }
    PyObject* constants = reinterpret_cast<PyCodeObject*>(next)->co_consts;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(constants); ++i) {
      PyObject* constant = PyTuple_GET_ITEM(constants, i);
      if (PyCode_Check(constant)) codes.push_back(constant);
    }
  }
}

PyObject* source_of(PyObject* code) {
  void* source = nullptr;
  if (!PyCode_Check(code)) return nullptr;
  if (get_extra(code, extra_index, &source) < 0) PyErr_Clear();
  return static_cast<PyObject*>(source);
}

}  // namespace pythonx
