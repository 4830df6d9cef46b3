#include "conversion/elixir_error.hpp"

#include <atomic>
#include <string_view>

#include "python/package.hpp"

namespace pythonx {
namespace {

constexpr const char* capsule_name = "pythonx.original";

std::atomic<PyObject*> error_class{nullptr};  // pythonx.ElixirError, once one has been raised

void free_original(PyObject* capsule) {
  auto* env = static_cast<ErlNifEnv*>(PyCapsule_GetContext(capsule));
  if (env != nullptr) enif_free_env(env);
}

// Keeps a term alive as a Python object.
PyObject* make_original(Term term) {
  ErlNifEnv* env = enif_alloc_env();
  auto* address = reinterpret_cast<void*>(enif_make_copy(env, term));
  PyObject* capsule = PyCapsule_New(address, capsule_name, free_original);
  if (capsule == nullptr) {
    enif_free_env(env);
  } else {
    PyCapsule_SetContext(capsule, env);
  }
  return capsule;
}

PyObject* load_error_class() {
  if (error_class == nullptr) {
    PyObject* module = package_module("pythonx._errors");
    PyObject* loaded = module == nullptr ? nullptr : PyObject_GetAttrString(module, "ElixirError");
    Py_XDECREF(module);
    PyObject* none_yet = nullptr;
    if (loaded != nullptr && !error_class.compare_exchange_strong(none_yet, loaded)) Py_DECREF(loaded);
  }
  return error_class;
}

}  // namespace

PyObject* make_message(ErlNifEnv* env, Term term) {
  std::string_view text;
  get_binary(env, term, &text);
  return PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "backslashreplace");
}

void raise_elixir_error(ErlNifEnv* env, const Term* parts) {
  PyObject* type = load_error_class();
  if (type == nullptr) return;
  PyObject* original = make_original(parts[4]);
  if (original == nullptr) return;
  PyObject* error = PyObject_CallFunction(type, "NNNN", make_message(env, parts[1]),
                                          make_message(env, parts[2]), make_message(env, parts[3]), original);
  if (error == nullptr) return;
  PyErr_SetObject(type, error);
  Py_DECREF(error);
}

Term original_of(ErlNifEnv* env, PyObject* exception) {
  PyObject* type = error_class;
  if (type == nullptr || reinterpret_cast<PyObject*>(Py_TYPE(exception)) != type) return 0;
  PyObject* capsule = PyObject_GetAttrString(exception, "_original");
  void* address = capsule == nullptr ? nullptr : PyCapsule_GetPointer(capsule, capsule_name);
  const Term term = address == nullptr ? 0 : enif_make_copy(env, reinterpret_cast<Term>(address));
  Py_XDECREF(capsule);
  PyErr_Clear();
  return term;
}

}  // namespace pythonx
