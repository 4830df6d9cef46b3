#include "work/await.hpp"

#include "conversion/error.hpp"
#include "python/gil.hpp"
#include "python/package.hpp"

namespace pythonx {
namespace {

PyObject* loop_module() { return package_module("pythonx._loop"); }

}  // namespace

PyObject* await_coroutine(PyObject* coroutine) {
  PyObject* module = loop_module();
  if (module == nullptr) return nullptr;
  PyObject* outcome;
  {
    const ContextLoan loan;
    outcome = PyObject_CallMethod(module, "wait", "OO", coroutine, loan.context());
  }
  Py_DECREF(module);
  return value_of(outcome);
}

PyObject* value_of(PyObject* outcome) {
  PyObject* error = outcome == nullptr ? nullptr : PyObject_GetAttrString(outcome, "error");
  PyObject* value = nullptr;
  if (error == Py_None) {
    value = PyObject_GetAttrString(outcome, "value");
  } else if (error != nullptr) {
    raise_again(error);
  }
  Py_XDECREF(error);
  Py_XDECREF(outcome);
  return value;
}

PyObject* take_outcome(PyObject* key) {
  PyObject* module = loop_module();
  PyObject* outcome = module == nullptr ? nullptr : PyObject_CallMethod(module, "take", "O", key);
  Py_XDECREF(module);
  return outcome;
}

}  // namespace pythonx
