#include "interpreters/module.hpp"

#include "python/no_throw.hpp"

namespace pythonx {
namespace {

constexpr const char* context_name = "pythonx.context";

// Every function has its interpreter's context as its `self`.
EvaluationContext& context_of(PyObject* self) {
  return *static_cast<EvaluationContext*>(PyCapsule_GetPointer(self, context_name));
}

// Text as UTF-8, lone surrogates as escapes; a new reference to what holds it, or nullptr with an exception set.
PyObject* utf8_of(PyObject* text, std::string_view* out) {
  Py_ssize_t size;
  if (const char* utf8 = PyUnicode_AsUTF8AndSize(text, &size)) {
    *out = {utf8, static_cast<std::size_t>(size)};
    return Py_NewRef(text);
  }
  PyErr_Clear();
  PyObject* bytes = PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace");
  if (bytes != nullptr) *out = {PyBytes_AS_STRING(bytes), static_cast<std::size_t>(PyBytes_GET_SIZE(bytes))};
  return bytes;
}

PyObject* write(PyObject* self, PyObject* arguments) {
  int fd;
  PyObject* text;
  if (!PyArg_ParseTuple(arguments, "iO:write", &fd, &text)) return nullptr;
  if (!PyUnicode_Check(text)) {
    PyErr_Format(PyExc_TypeError, "write() argument must be str, not %s", Py_TYPE(text)->tp_name);
    return nullptr;
  }
  std::string_view utf8;
  PyObject* holder = utf8_of(text, &utf8);
  if (holder == nullptr) return nullptr;
  write_output(fd == 2 ? Stream::err : Stream::out, utf8, context_of(self));
  Py_DECREF(holder);
  return PyLong_FromSsize_t(PyUnicode_GetLength(text));
}

PyObject* flush(PyObject* self, PyObject*) {
  flush_output(context_of(self));
  Py_RETURN_NONE;
}

PyObject* current_evaluation_of(PyObject* self, PyObject*) noexcept {
  return context_of(self).current_object();
}

PyObject* set_evaluation_of(PyObject* self, PyObject* evaluation) noexcept {
  if (!context_of(self).set_object(evaluation)) return nullptr;
  Py_RETURN_NONE;
}

PyMethodDef functions[] = {
    {"write", no_throw<write>, METH_VARARGS, "Write text to the evaluation's stdout (1) or stderr (2)."},
    {"flush", no_throw<flush>, METH_O, "Send what is buffered."},
    {"current_evaluation", current_evaluation_of, METH_NOARGS,
     "The evaluation that this thread belongs to, as an opaque object, or None."},
    {"set_evaluation", set_evaluation_of, METH_O, "Make this thread belong to an evaluation."},
};

// Not by a module definition, whose functions would know their module only, not their interpreter.
bool add_functions(PyObject* module, PyObject* self) {
  for (PyMethodDef& definition : functions) {
    PyObject* function = PyCFunction_NewEx(&definition, self, nullptr);
    const bool ok = function != nullptr && PyObject_SetAttrString(module, definition.ml_name, function) == 0;
    Py_XDECREF(function);
    if (!ok) return false;
  }
  return true;
}

// Takes the reference to the module.
bool add_module(const char* name, PyObject* module) {
  const bool ok = module != nullptr && PyDict_SetItemString(PyImport_GetModuleDict(), name, module) == 0;
  Py_XDECREF(module);
  return ok;
}

PyObject* make_native(EvaluationContext& context) {
  PyObject* self = PyCapsule_New(&context, context_name, nullptr);
  PyObject* module = self == nullptr ? nullptr : PyModule_New("_pythonx");
  if (module != nullptr && !add_functions(module, self)) Py_CLEAR(module);
  Py_XDECREF(self);
  return module;
}

PyObject* make_package(const std::string& folder) {
  PyObject* package = PyModule_New("pythonx");
  PyObject* path = Py_BuildValue("[N]", PyUnicode_DecodeFSDefault(folder.c_str()));
  if (package != nullptr && (path == nullptr || PyObject_SetAttrString(package, "__path__", path) < 0)) {
    Py_CLEAR(package);
  }
  Py_XDECREF(path);
  return package;
}

}  // namespace

bool add_subinterpreter_modules(EvaluationContext& context, const std::string& folder) {
  return add_module("_pythonx", make_native(context)) && add_module("pythonx", make_package(folder));
}

}  // namespace pythonx
