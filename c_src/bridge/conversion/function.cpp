#include "conversion/function.hpp"

#include "python/no_throw.hpp"
#include "python/package.hpp"
#include "python/type.hpp"

namespace pythonx {
namespace {

struct Function {
  PyObject_HEAD ErlNifEnv* env;
  Term function;
  bool binaries_as_str;
};

PyTypeObject* function_class = nullptr;
FunctionCaller caller;

Function* as_function(PyObject* object) { return reinterpret_cast<Function*>(object); }

PyObject* function_repr(PyObject* self) {
  char text[256] = "";
  enif_snprintf(text, sizeof(text), "%T", as_function(self)->function);
  return PyUnicode_FromFormat("<pythonx.Function %s>", text);
}

PyObject* call(PyObject* self, PyObject* arguments, PyObject* keywords) {
  if (keywords != nullptr && PyDict_GET_SIZE(keywords) > 0) {
    PyErr_SetString(PyExc_TypeError, "an Elixir function takes no keyword arguments");
    return nullptr;
  }
  // The function may be dropped by what runs meanwhile.
  Py_INCREF(self);
  PyObject* result = caller.call(as_function(self)->function, as_function(self)->binaries_as_str, arguments);
  Py_DECREF(self);
  return result;
}

// f.aio(...): for coroutines, in whose thread nobody may wait.
PyObject* call_async(PyObject* self, PyObject* arguments) {
  PyObject* module = package_module("pythonx._loop");
  PyObject* future = module == nullptr ? nullptr : PyObject_CallMethod(module, "call", "OO", self, arguments);
  Py_XDECREF(module);
  return future;
}

void function_dealloc(PyObject* self) {
  enif_free_env(as_function(self)->env);
  free_instance(self);
}

PyMethodDef function_methods[] = {
    {"aio", call_async, METH_VARARGS, "Call it from a coroutine: `await f.aio(1)`."},
    {"__reduce__", refuse_pickling, METH_NOARGS, nullptr},
    {"__copy__", copy_unchanging, METH_NOARGS, nullptr},
    {"__deepcopy__", copy_unchanging, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

const char function_doc[] =
    "An Elixir function. Called with positional arguments, which arrive decoded, it returns what the "
    "function returns, "
    "encoded. What the function raises is raised as pythonx.ElixirError.";

PyType_Slot function_slots[] = {
    {Py_tp_doc, const_cast<char*>(function_doc)},
    {Py_tp_repr, slot(function_repr)},
    {Py_tp_call, slot(no_throw<call>)},
    {Py_tp_dealloc, slot(function_dealloc)},
    {Py_tp_methods, function_methods},
    {0, nullptr},
};

PyType_Spec function_spec = {"pythonx.Function", sizeof(Function), 0, closed_type, function_slots};

}  // namespace

bool init_function_type(const FunctionCaller& how) {
  caller = how;
  return make_type(&function_class, &function_spec);
}

PyTypeObject* function_type() { return function_class; }

PyObject* make_function(Term function, bool binaries_as_str) {
  Function* self = PyObject_New(Function, function_class);
  if (self == nullptr) return nullptr;
  self->env = enif_alloc_env();
  self->function = enif_make_copy(self->env, function);
  self->binaries_as_str = binaries_as_str;
  return reinterpret_cast<PyObject*>(self);
}

std::uint64_t start_function(PyObject* object, PyObject* arguments, PyObject* resolver) {
  if (Py_TYPE(object) == function_class) {
    return caller.start(as_function(object)->function, as_function(object)->binaries_as_str, arguments,
                        resolver);
  }
  PyErr_Format(PyExc_TypeError, "expected a pythonx.Function, got: %s", Py_TYPE(object)->tp_name);
  return 0;
}

Term get_function(ErlNifEnv* env, PyObject* object) {
  return Py_TYPE(object) == function_class ? enif_make_copy(env, as_function(object)->function) : 0;
}

}  // namespace pythonx
