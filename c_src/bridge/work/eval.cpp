#include "work/eval.hpp"

#include <utility>
#include <vector>

#include "conversion/error.hpp"
#include "conversion/object.hpp"
#include "conversion/text.hpp"
#include "python/runtime.hpp"
#include "work/await.hpp"
#include "work/leftovers.hpp"
#include "work/main_module.hpp"
#include "work/source.hpp"
#include "work/streams.hpp"

namespace pythonx {

struct EvalPairs {
  std::vector<Term> keys;
  std::vector<Term> values;
};

namespace {

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

}  // namespace

// References of an evaluation, dropped when it ends in whatever way.
struct Frame {
  Code code;
  MainModule main;
  PyObject* result = nullptr;

  ~Frame() {
    Py_XDECREF(result);
    give_back_main_module(main);
    Py_XDECREF(code.body);
    Py_XDECREF(code.expression);
  }
};

EvalJob::EvalJob(ErlNifEnv* caller_env, Source source, Term globals, Term out, Term err, Term relay)
    : Job(caller_env), source_(std::move(source)), devices_(caller_env, out, err, relay) {
  int count;
  const Term* session;
  if (enif_get_tuple(caller_env, globals, &count, &session) && count == 2) {
    session_ = enif_make_copy(env(), session[0]);
    globals = session[1];
  }
  std::size_t size;
  if (enif_get_map_size(caller_env, globals, &size) && size > 0) globals_ = enif_make_copy(env(), globals);
}

EvalJob::~EvalJob() {
  if (result_ != nullptr) drop_later(result_);
}

std::string EvalJob::label() const { return std::string(first_line(source_.text())); }

Term EvalJob::run() {
  evaluation_ = std::make_shared<Evaluation>(caller(), std::move(devices_));
  Frames frames = Frames::user;
  const bool ok = evaluate(&frames);
  const Term error = ok || other_reply_ != 0 ? 0 : take_error(env(), frames);
  relayed_ = evaluation_->finish(is_abandoned());
  evaluation_.reset();  // While attached: it holds a Python reference.
  if (ok || other_reply_ != 0) return other_reply_;
  return make_tuple(env(), atoms.python_error, error, relayed_ ? atoms.true_ : atoms.false_);
}

Term EvalJob::make_reply(ErlNifEnv* env) {
  PyObject* result = std::exchange(result_, nullptr);
  const Term object = result == nullptr ? atoms.nil : make_object_from(env, result);
  const Term globals = defined_ == 0 ? enif_make_new_map(env) : enif_make_copy(env, defined_);
  return make_tuple(env, atoms.ok, object, globals, relayed_ ? atoms.true_ : atoms.false_);
}

// False with an exception set.
bool EvalJob::enter(Frame* frame) {
  if (session_ == 0) {
    frame->main = take_main_module();
  } else {
    PyObject* module = get_object(env(), session_);
    if (module == nullptr || !is_main_module(module)) {
      PyErr_SetString(PyExc_SystemError, "expected the module of a session");
      return false;
    }
    frame->main = enter_main_module(module);
  }
  return static_cast<bool>(frame->main);
}

// Fills `result_` and `defined_`; false with an exception set.
bool EvalJob::evaluate(Frames* frames) {
  const EvaluationScope scope(evaluation_);
  Frame frame;
  if (!scope.ok()) return false;
  if (!compile_cached(source_, &frame.code)) {
    *frames = Frames::internal;
    return false;
  }
  if (!enter(&frame)) return false;
  evaluation_->main_module = Py_NewRef(frame.main.reference);
  evaluation_->source = frame.code.source();
  PyObject* names = frame.main.names();
  if (!define(names)) return false;
  const Leftovers leftovers;
  frame.result = execute(frame.code, names);
  end_if_forked();
  // What streams of the code's own do when they are flushed may define names too.
  const bool defines = !is_fresh(names) || evaluation_->has_streams();
  if (defines) settle_classes(names, evaluation_->source);
  end_streams(*evaluation_);
  leftovers.end();
  if (frame.result == nullptr && PyErr_Occurred()) return false;
  return take(names, frame.result, defines);
}

bool EvalJob::define(PyObject* names) { return globals_ == 0 || set_globals(env(), names, globals_); }

bool EvalJob::take(PyObject* names, PyObject* result, bool defines) {
  if (defines && session_ == 0 && !collect_globals(names)) return false;
  Py_XINCREF(result);
  result_ = result;
  return true;
}

Term EvalJob::global_key(PyObject* name) {
  if (!PyUnicode_Check(name) || is_hidden_name(name)) return 0;
  Py_ssize_t size;
  const char* text = PyUnicode_AsUTF8AndSize(name, &size);
  return text == nullptr ? 0 : make_binary(env(), {text, static_cast<std::size_t>(size)});
}

// False with an exception set.
bool EvalJob::collect_pairs(PyObject* names, EvalPairs* out) {
  PyObject *name, *value;
  Py_ssize_t position = 0;
  while (PyDict_Next(names, &position, &name, &value)) {
    const Term key = global_key(name);
    if (key == 0 && PyErr_Occurred()) return false;
    if (key == 0) continue;
    out->keys.push_back(key);
    out->values.push_back(make_object(env(), value));
  }
  return true;
}

// The namespace as a map, without the names that every module has. False with an exception set.
// Threads that the code started may still write to the namespace. Nothing here runs Python code or detaches, so with the
// GIL they cannot meanwhile; without it the dict is walked under its lock.
bool EvalJob::collect_globals(PyObject* names) {
  EvalPairs pairs;
  bool ok;
#ifdef Py_GIL_DISABLED
  Py_BEGIN_CRITICAL_SECTION(names);
#endif
  ok = collect_pairs(names, &pairs);
#ifdef Py_GIL_DISABLED
  Py_END_CRITICAL_SECTION();
#endif
  // Names of a subclass of str may have the same text and yet be two.
  if (ok && !pairs.keys.empty()) defined_ = make_map(env(), pairs.keys, pairs.values);
  return ok;
}

}  // namespace pythonx
