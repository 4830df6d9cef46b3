#include "work/messages.hpp"

#include <string>

#include "conversion/atom.hpp"
#include "conversion/decode.hpp"
#include "conversion/object.hpp"
#include "conversion/pid.hpp"
#include "python/runtime.hpp"
#include "work/output.hpp"

namespace pythonx {
namespace {

// The object as a term, or 0 with an exception set.
Term to_term(ErlNifEnv* env, PyObject* object) {
  DecodeOptions options;
  options.user_code = true;
  Term term = 0;
  std::string message;
  switch (decode(env, object, options, &term, &message)) {
    case DecodeStatus::ok:
      return term;
    case DecodeStatus::object:
      return make_object(env, object);
    case DecodeStatus::refused:
      PyErr_SetString(PyExc_ValueError, message.c_str());
      return 0;
    default:
      return 0;
  }
}

// Elixir's modules are atoms that begin with "Elixir.", which nobody writes.
bool find_module_atom(PyObject* name, Term* out) {
  PyObject* full = PyUnicode_FromFormat("Elixir.%U", name);
  const bool found = full != nullptr && find_atom(full, out);
  Py_XDECREF(full);
  PyErr_Clear();
  return found;
}

}  // namespace

PyObject* send_message(PyObject* pid, PyObject* object) {
  if (refuse_if_forked("send to Elixir")) return nullptr;
  ErlNifPid to;
  if (!get_pid(pid, &to)) {
    PyErr_Format(PyExc_TypeError, "expected a pythonx.PID, got: %s", Py_TYPE(pid)->tp_name);
    return nullptr;
  }
  ErlNifEnv* env = enif_alloc_env();
  const Term message = to_term(env, object);
  if (message != 0) enif_send(nullptr, &to, env, message);
  enif_free_env(env);
  if (message == 0) return nullptr;
  Py_INCREF(Py_None);
  return Py_None;
}

PyObject* self_pid() {
  const EvaluationPtr evaluation = current_evaluation();
  if (evaluation) return make_pid(evaluation->caller());
  PyErr_SetString(PyExc_RuntimeError, "this thread works for no Elixir process");
  return nullptr;
}

PyObject* whereis(PyObject* name) {
  Term atom;
  ErlNifPid pid;
  if (!get_python_atom(name, &atom)) {
    if (!PyUnicode_Check(name)) {
      PyErr_Format(PyExc_TypeError, "expected a name to be a str or a pythonx.Atom, got: %s",
                   Py_TYPE(name)->tp_name);
      return nullptr;
    }
    if (find_atom(name, &atom) && enif_whereis_pid(nullptr, atom, &pid)) return make_pid(pid);
    if (!find_module_atom(name, &atom)) Py_RETURN_NONE;
  }
  if (enif_whereis_pid(nullptr, atom, &pid)) return make_pid(pid);
  Py_RETURN_NONE;
}

}  // namespace pythonx
