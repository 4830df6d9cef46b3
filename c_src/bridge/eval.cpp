#include "eval.hpp"

#include <pybind11/pybind11.h>

#include <utility>
#include <vector>

#include "await.hpp"
#include "error.hpp"
#include "object.hpp"

namespace py = pybind11;

namespace pythonx {
namespace {

PyObject* main_type = nullptr;      // pythonx._main.MainModule
PyObject* builtins = nullptr;       // the dict of the builtins module
PyObject* main_name = nullptr;      // "__main__"
PyObject* builtins_name = nullptr;  // "__builtins__"
PyObject* hidden_names = nullptr;   // what a fresh module holds, and so is no global of the user's

// The fresh module that an evaluation runs in, as sys.modules["__main__"].
PyObject* make_main_module(Evaluation& evaluation) {
  PyObject* module = PyObject_CallOneArg(main_type, main_name);
  if (module == nullptr) return nullptr;
  evaluation.main_module = PyWeakref_NewRef(module, nullptr);
  if (evaluation.main_module == nullptr ||
      PyDict_SetItem(PyModule_GetDict(module), builtins_name, builtins) < 0 ||
      PyDict_SetItem(PyImport_GetModuleDict(), main_name, module) < 0) {
    Py_CLEAR(module);
  }
  return module;
}

bool set_global(ErlNifEnv* env, PyObject* names, Term key, Term value) {
  std::string_view text;
  PyObject* object = get_object(env, value);
  if (!get_binary(env, key, &text) || object == nullptr) {
    PyErr_SetString(PyExc_SystemError, "globals must be a map of binaries to local objects");
    return false;
  }
  PyObject* name = PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), nullptr);
  if (name == nullptr) return false;
  PyUnicode_InternInPlace(&name);
  const int failed = PyDict_SetItem(names, name, object);
  Py_DECREF(name);
  return failed == 0;
}

bool set_globals(ErlNifEnv* env, PyObject* names, Term globals) {
  ErlNifMapIterator iterator;
  Term key;
  Term value;
  if (!enif_map_iterator_create(env, globals, &iterator, ERL_NIF_MAP_ITERATOR_FIRST)) return false;
  bool ok = true;
  while (ok && enif_map_iterator_get_pair(env, &iterator, &key, &value)) {
    ok = set_global(env, names, key, value);
    enif_map_iterator_next(env, &iterator);
  }
  enif_map_iterator_destroy(env, &iterator);
  return ok;
}

// Code with a top-level `await` evaluates to a coroutine, which is not a result of the user's.
PyObject* run_code(PyObject* code, PyObject* names) {
  PyObject* result = PyEval_EvalCode(code, names, names);
  if (result == nullptr || (reinterpret_cast<PyCodeObject*>(code)->co_flags & CO_COROUTINE) == 0)
    return result;
  PyObject* value = await_coroutine(result);
  Py_DECREF(result);
  return value;
}

// A new reference to the last expression's value, or nullptr: with an exception set it failed, without there is none.
PyObject* execute(const Code& code, PyObject* names) {
  if (code.body != nullptr) {
    PyObject* none = run_code(code.body, names);
    if (none == nullptr) return nullptr;
    Py_DECREF(none);
  }
  return code.expression == nullptr ? nullptr : run_code(code.expression, names);
}

// The name as a map key, or 0: for a name that is not the user's, or, with an exception set, that has no UTF-8 form.
Term global_key(ErlNifEnv* env, PyObject* name) {
  if (!PyUnicode_Check(name)) return 0;
  if (PySet_Contains(hidden_names, name) != 0) return 0;
  Py_ssize_t size;
  const char* text = PyUnicode_AsUTF8AndSize(name, &size);
  return text == nullptr ? 0 : make_binary(env, {text, static_cast<std::size_t>(size)});
}

// The namespace as a map, without the names that every module has. False with an exception set.
// Works on a copy: threads that the code started may still write to the namespace.
bool collect_globals(ErlNifEnv* env, PyObject* names, Term* out) {
  const py::object copy = py::reinterpret_steal<py::object>(PyDict_Copy(names));
  if (!copy) return false;
  std::vector<Term> keys;
  std::vector<Term> values;
  PyObject *name, *value;
  Py_ssize_t position = 0;
  while (PyDict_Next(copy.ptr(), &position, &name, &value)) {
    const Term key = global_key(env, name);
    if (key == 0 && PyErr_Occurred()) return false;
    if (key == 0) continue;
    keys.push_back(key);
    values.push_back(make_object(env, value));
  }
  return enif_make_map_from_arrays(env, keys.data(), values.data(), keys.size(), out) != 0;
}

// References of an evaluation, dropped when it ends in whatever way.
struct Frame {
  Code code;
  PyObject* module = nullptr;
  PyObject* result = nullptr;

  ~Frame() {
    Py_XDECREF(result);
    Py_XDECREF(module);
    Py_XDECREF(code.body);
    Py_XDECREF(code.expression);
  }
};

}  // namespace

bool init_eval() {
  try {
    main_name = PyUnicode_InternFromString("__main__");
    builtins_name = PyUnicode_InternFromString("__builtins__");
    main_type = py::object(py::module_::import("pythonx._main").attr("MainModule")).release().ptr();
    builtins = py::object(py::module_::import("builtins").attr("__dict__")).release().ptr();
    py::set hidden;
    for (const char* name :
         {"__name__", "__doc__", "__package__", "__loader__", "__spec__", "__builtins__"}) {
      hidden.add(py::str(name));
    }
    hidden_names = hidden.release().ptr();
    return true;
  } catch (py::error_already_set& error) {
    error.restore();
    return false;
  }
}

EvalJob::EvalJob(ErlNifEnv* caller_env, Term reference, Source source, Term globals, Term out, Term err,
                 Term relay)
    : Job(caller_env, reference), source_(std::move(source)), globals_(enif_make_copy(env(), globals)) {
  evaluation_ = std::make_shared<Evaluation>(caller_env, caller(), out, err, relay);
}

std::string EvalJob::label() const {
  return std::string(source_.text().substr(0, source_.text().find('\n')));
}

Term EvalJob::run() {
  Frames frames = Frames::user;
  Term reply = evaluate(&frames);
  const bool failed = reply == 0;
  if (failed) reply = take_error(env(), frames);
  const Term relayed = evaluation_->finish(is_abandoned()) ? atoms.true_ : atoms.false_;
  evaluation_.reset();  // While attached: it holds a Python reference.
  if (failed) return make_tuple(env(), atoms.python_error, reply, relayed);
  const Term* parts;
  int arity;
  enif_get_tuple(env(), reply, &arity, &parts);
  return make_tuple(env(), atoms.ok, parts[0], parts[1], relayed);
}

// {result, globals}, or 0 with an exception set.
Term EvalJob::evaluate(Frames* frames) {
  const EvaluationScope scope(evaluation_);
  Frame frame;
  if (!scope.ok()) return 0;
  if (!compile_cached(source_, &frame.code)) {
    *frames = Frames::internal;
    return 0;
  }
  frame.module = make_main_module(*evaluation_);
  if (frame.module == nullptr) return 0;
  PyObject* names = PyModule_GetDict(frame.module);
  if (!set_globals(env(), names, globals_)) return 0;
  frame.result = execute(frame.code, names);
  if (frame.result == nullptr && PyErr_Occurred()) return 0;
  Term globals;
  if (!collect_globals(env(), names, &globals)) return 0;
  return make_tuple(env(), frame.result == nullptr ? atoms.nil : make_object(env(), frame.result), globals);
}

}  // namespace pythonx
