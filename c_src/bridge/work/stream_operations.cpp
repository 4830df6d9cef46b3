// Reading Python iterators in batches.
//
// One job reads many elements, or few that are slow: it ends as soon as its time is over, so that what a slow generator
// has made is seen at once.
#include <chrono>
#include <vector>

#include "conversion/decode.hpp"
#include "conversion/error.hpp"
#include "conversion/object.hpp"
#include "python/gil.hpp"
#include "work/object_operations.hpp"

namespace pythonx {
namespace {

// Reads elements into a list; the status is `more`, `done`, or an error that was raised instead of the next element.
PyObject* read(ErlNifEnv* env, PyObject* iterator, long count, std::chrono::microseconds budget,
               Term* status) {
  using clock = std::chrono::steady_clock;
  const auto deadline = clock::now() + budget;
  PyObject* items = PyList_New(0);
  if (items == nullptr) return nullptr;
  Handoff handoff;
  *status = atoms.more;
  for (long i = 0; i < count; ++i) {
    PyObject* item = PyIter_Next(iterator);
    if (item == nullptr || PyList_Append(items, item) < 0) {
      Py_XDECREF(item);
      *status = PyErr_Occurred() ? error_reply(env) : atoms.done;
      break;
    }
    Py_DECREF(item);
    handoff.tick();
    if (clock::now() > deadline) break;
  }
  return items;
}

// Decodes one element. False for one that cannot be decoded, for which *status says why.
bool decode_one(ErlNifEnv* env, PyObject* item, Term* term, Term* status) {
  DecodeOptions options;
  options.user_code = true;
  std::string message;
  switch (decode(env, item, options, term, &message)) {
    case DecodeStatus::ok:
      return true;
    case DecodeStatus::object:
      *term = make_object(env, item);
      return true;
    case DecodeStatus::refused:
      *status = make_tuple(env, atoms.argument_error, make_binary(env, message));
      return false;
    default:
      *status = error_reply(env);
      return false;
  }
}

// The elements as a list of terms. One that cannot be decoded ends it, as if it had been raised.
Term make_terms(ErlNifEnv* env, PyObject* items, bool decoded, Term* status) {
  std::vector<Term> terms;
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(items); ++i) {
    Term term = 0;
    if (!decoded) {
      term = make_object(env, PyList_GET_ITEM(items, i));
    } else if (!decode_one(env, PyList_GET_ITEM(items, i), &term, status)) {
      break;
    }
    terms.push_back(term);
  }
  return enif_make_list_from_array(env, terms.data(), static_cast<unsigned>(terms.size()));
}

}  // namespace

Term next_batch(ErlNifEnv* env, PyObject* operands, bool decoded) {
  PyObject* iterator = PyTuple_GET_ITEM(operands, 0);
  const long count = PyLong_AsLong(PyTuple_GET_ITEM(operands, 1));
  const long budget = PyLong_AsLong(PyTuple_GET_ITEM(operands, 2));
  if (PyErr_Occurred()) return 0;
  if (!PyIter_Check(iterator)) {
    PyErr_Format(PyExc_TypeError, "'%s' object is not an iterator", Py_TYPE(iterator)->tp_name);
    return 0;
  }
  Term status;
  PyObject* items = read(env, iterator, count, std::chrono::microseconds(budget), &status);
  if (items == nullptr) return 0;
  // A whole list is decoded faster than its elements one by one, if all of them can be.
  Term terms = 0;
  Term ignored = 0;
  if (!decoded || !decode_one(env, items, &terms, &ignored)) terms = make_terms(env, items, decoded, &status);
  Py_DECREF(items);
  return make_tuple(env, status, terms);
}

}  // namespace pythonx
