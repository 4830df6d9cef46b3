#include "work/value_eval.hpp"

#include <utility>
#include <vector>

#include "conversion/decode.hpp"
#include "conversion/encode.hpp"
#include "conversion/object.hpp"
#include "python/package.hpp"
#include "work/main_module.hpp"

namespace pythonx {
namespace {

enum How { decoded, binaries_as_str, replacements, wanted };

// The names that the initial code of the worker has left. Borrowed; nullptr with an exception set.
PyObject* initial_names() {
  static PyObject* names = nullptr;
  if (names != nullptr) return names;
  PyObject* module = package_module("pythonx._pool");
  names = module == nullptr ? nullptr : PyObject_GetAttrString(module, "names");
  Py_XDECREF(module);
  return names;
}

// A new reference, interned; nullptr with an exception set.
PyObject* make_name(ErlNifEnv* env, Term term) {
  std::string_view text;
  get_binary(env, term, &text);
  PyObject* name = PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), nullptr);
  if (name != nullptr) PyUnicode_InternInPlace(&name);
  return name;
}

bool set_names(ErlNifEnv* env, PyObject* names, Term list, PyObject* values) {
  Term head;
  for (Py_ssize_t i = 0; enif_get_list_cell(env, list, &head, &list); ++i) {
    PyObject* name = make_name(env, head);
    const bool set = name != nullptr && PyDict_SetItem(names, name, PyList_GET_ITEM(values, i)) == 0;
    Py_XDECREF(name);
    if (!set) return false;
  }
  return true;
}

}  // namespace

ValueEvalJob::ValueEvalJob(ErlNifEnv* caller_env, Source source, Term values, Term how, Term out, Term err,
                           Term relay)
    : EvalJob(caller_env, std::move(source), enif_make_new_map(caller_env), out, err, relay) {
  const Term* items;
  int arity;
  enif_get_tuple(env(), enif_make_copy(env(), values), &arity, &items);
  names_ = items[0];
  values_ = items[1];
  enif_get_tuple(env(), enif_make_copy(env(), how), &arity, &how_);
}

Term ValueEvalJob::run() {
  const Term failure = EvalJob::run();
  if (failure != 0) return failure;
  Term globals = enif_make_new_map(env());
  if (!keys_.empty()) globals = make_map(env(), keys_, terms_);
  return make_tuple(env(), atoms.ok, result_term_, globals, relayed() ? atoms.true_ : atoms.false_);
}

bool ValueEvalJob::define(PyObject* names) {
  PyObject* initial = initial_names();
  if (initial == nullptr || PyDict_Update(names, initial) < 0) return false;
  if (enif_is_empty_list(env(), names_)) return true;
  EncodeOptions options;
  options.binaries_as_str = how_[binaries_as_str] == atoms.true_;
  options.user_code = true;
  std::vector<PyObject*> objects;
  Term list = how_[replacements];
  for (Term head; enif_get_list_cell(env(), list, &head, &list);) objects.push_back(get_object(env(), head));
  std::vector<Term> left;
  PyObject* values = nullptr;
  const EncodeStatus status = encode(env(), values_, options, objects, &values, &left);
  if (status == EncodeStatus::ok) {
    const bool set = set_names(env(), names, names_, values);
    Py_DECREF(values);
    return set;
  }
  if (status == EncodeStatus::deferred) {
    const Term terms = enif_make_list_from_array(env(), left.data(), static_cast<unsigned>(left.size()));
    other_reply_ = make_tuple(env(), atoms.deferred, terms);
  } else {
    other_reply_ = make_tuple(env(), atoms.encoding_error, take_error(env()));
  }
  return false;
}

bool ValueEvalJob::take(PyObject* names, PyObject* result, bool) {
  if (result == nullptr) {
    result_term_ = atoms.nil;
  } else if (!give(result, &result_term_)) {
    return false;
  }
  return how_[wanted] == atoms.true_ ? take_all(names) : take_named(names, how_[wanted]);
}

// An object as what is asked for.
bool ValueEvalJob::give(PyObject* object, Term* out) {
  std::string message;
  DecodeOptions options;
  options.user_code = true;
  const DecodeStatus status =
      how_[decoded] == atoms.true_ ? decode(env(), object, options, out, &message) : DecodeStatus::object;
  if (status == DecodeStatus::object) *out = make_object(env(), object);
  if (status == DecodeStatus::refused)
    other_reply_ = make_tuple(env(), atoms.argument_error, make_binary(env(), message));
  return status == DecodeStatus::ok || status == DecodeStatus::object;
}

bool ValueEvalJob::add(Term key, PyObject* value) {
  Term term;
  if (!give(value, &term)) return false;
  keys_.push_back(key);
  terms_.push_back(term);
  return true;
}

bool ValueEvalJob::take_named(PyObject* names, Term list) {
  for (Term head; enif_get_list_cell(env(), list, &head, &list);) {
    PyObject* name = make_name(env(), head);
    if (name == nullptr) return false;
    PyObject* value = is_hidden_name(name) ? nullptr : PyDict_GetItemWithError(names, name);
    Py_XINCREF(value);
    Py_DECREF(name);
    if (value == nullptr && PyErr_Occurred()) return false;
    if (value == nullptr) continue;
    const bool added = add(head, value);
    Py_DECREF(value);
    if (!added) return false;
  }
  return true;
}

// Decoding may run code that changes the namespace, so it is walked before.
bool ValueEvalJob::take_all(PyObject* names) {
  PyObject* pairs = PyDict_Items(names);
  bool ok = pairs != nullptr;
  for (Py_ssize_t i = 0; ok && i < PyList_GET_SIZE(pairs); ++i) {
    PyObject* pair = PyList_GET_ITEM(pairs, i);
    const Term key = global_key(PyTuple_GET_ITEM(pair, 0));
    ok = key == 0 ? PyErr_Occurred() == nullptr : add(key, PyTuple_GET_ITEM(pair, 1));
  }
  Py_XDECREF(pairs);
  return ok;
}

}  // namespace pythonx
