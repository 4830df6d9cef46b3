#include "work/operations.hpp"

#include <vector>

#include "conversion/decode.hpp"
#include "conversion/encode.hpp"
#include "conversion/error.hpp"
#include "conversion/object.hpp"
#include "conversion/rich.hpp"
#include "memory/buffer.hpp"
#include "memory/view.hpp"
#include "python/package.hpp"
#include "python/runtime.hpp"
#include "tables/pending.hpp"
#include "work/callback.hpp"
#include "work/leftovers.hpp"
#include "work/streams.hpp"

namespace pythonx {
namespace {

// The nth argument; operations are called with tuples of the right size by Pythonx.NIF alone.
Term argument(ErlNifEnv* env, Term arguments, int index) {
  const Term* items;
  int arity;
  enif_get_tuple(env, arguments, &arity, &items);
  return items[index];
}

PyObject* object_of(ErlNifEnv* env, Term term) {
  PyObject* object = get_object(env, term);
  if (object == nullptr) PyErr_SetString(PyExc_SystemError, "expected a local object");
  return object;
}

PyObject* object_argument(ErlNifEnv* env, Term arguments, int index) {
  return object_of(env, argument(env, arguments, index));
}

// {:ok, object} for a new reference, which is taken; 0 for nullptr.
Term ok_object(ErlNifEnv* env, PyObject* object) {
  if (object == nullptr) return 0;
  const Term reply = make_tuple(env, atoms.ok, make_object(env, object));
  Py_DECREF(object);
  return reply;
}

Term repr(ErlNifEnv* env, Term arguments) {
  PyObject* object = object_argument(env, arguments, 0);
  return object == nullptr ? 0 : ok_object(env, PyObject_Repr(object));
}

Term repr_text(ErlNifEnv* env, Term arguments) {
  PyObject* object = object_argument(env, arguments, 0);
  PyObject* text = object == nullptr ? nullptr : short_repr(object);
  if (text == nullptr) return 0;
  const Term reply = make_tuple(env, atoms.ok, make_text(env, text));
  Py_DECREF(text);
  return reply;
}

Term str(ErlNifEnv* env, Term arguments) {
  PyObject* object = object_argument(env, arguments, 0);
  return object == nullptr ? 0 : ok_object(env, PyObject_Str(object));
}

Term unicode_to_string(ErlNifEnv* env, Term arguments) {
  PyObject* object = object_argument(env, arguments, 0);
  if (object == nullptr) return 0;
  if (!PyUnicode_Check(object)) {
    PyErr_SetString(PyExc_TypeError, "bad argument type for built-in operation");
    return 0;
  }
  Py_ssize_t size;
  const char* text = PyUnicode_AsUTF8AndSize(object, &size);
  if (text == nullptr) return 0;
  return make_tuple(env, atoms.ok, make_binary(env, {text, static_cast<std::size_t>(size)}));
}

Term unicode_from_string(ErlNifEnv* env, Term arguments) {
  std::string_view text;
  get_binary(env, argument(env, arguments, 0), &text);
  return ok_object(env, PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), nullptr));
}

Term encode_term(ErlNifEnv* env, Term arguments) {
  EncodeOptions options;
  options.binaries_as_str = argument(env, arguments, 1) == atoms.true_;
  enif_get_uint(env, argument(env, arguments, 2), &options.own);
  options.user_code = true;
  std::vector<PyObject*> replacements;
  Term list = argument(env, arguments, 3);
  for (Term head; enif_get_list_cell(env, list, &head, &list);) replacements.push_back(get_object(env, head));
  std::vector<Term> deferred;
  PyObject* object = nullptr;
  switch (encode(env, argument(env, arguments, 0), options, replacements, &object, &deferred)) {
    case EncodeStatus::ok:
      return ok_object(env, object);
    case EncodeStatus::deferred:
      return make_tuple(
          env, atoms.deferred,
          enif_make_list_from_array(env, deferred.data(), static_cast<unsigned>(deferred.size())));
    default:
      return 0;
  }
}

Term decode_object(ErlNifEnv* env, Term arguments) {
  PyObject* object = object_argument(env, arguments, 0);
  if (object == nullptr) return 0;
  DecodeOptions options;
  options.user_code = true;
  Term term;
  std::string message;
  switch (decode(env, object, options, &term, &message)) {
    case DecodeStatus::ok:
      return make_tuple(env, atoms.ok, term);
    case DecodeStatus::object:
      return atoms.unchanged;
    case DecodeStatus::refused:
      return make_tuple(env, atoms.argument_error, make_binary(env, message));
    default:
      return 0;
  }
}

// What a scheduler does itself when it can have the GIL: see python/gil.hpp.
Term memoryview(ErlNifEnv* env, Term arguments) {
  return ok_object(env, make_memoryview(argument(env, arguments, 0)));
}

Term table_object(ErlNifEnv* env, Term arguments) {
  return ok_object(env, make_table_object(get_pending_table(env, argument(env, arguments, 0))));
}

// Calls a function of the package's Python side with arguments that are encoded here: {module, name, arguments}.
Term call_internal(ErlNifEnv* env, Term arguments) {
  std::string_view module_name;
  std::string_view name;
  get_binary(env, argument(env, arguments, 0), &module_name);
  get_binary(env, argument(env, arguments, 1), &name);
  PyObject* values = nullptr;
  std::vector<Term> deferred;
  EncodeOptions options;
  options.user_code = true;
  if (encode(env, argument(env, arguments, 2), options, {}, &values, &deferred) != EncodeStatus::ok) return 0;
  PyObject* module = package_module(std::string(module_name).c_str());
  PyObject* function =
      module == nullptr ? nullptr : PyObject_GetAttrString(module, std::string(name).c_str());
  PyObject* result = function == nullptr ? nullptr : PyObject_CallObject(function, values);
  Py_XDECREF(function);
  Py_XDECREF(module);
  Py_DECREF(values);
  return result == nullptr ? error_reply(env, Frames::internal) : ok_object(env, result);
}

// A dict from a list of pairs of objects; as with pairs in Python, a key that equals an earlier one takes its place.
Term dict_from_pairs(ErlNifEnv* env, Term arguments) {
  PyObject* dict = PyDict_New();
  Term list = argument(env, arguments, 0);
  for (Term pair; dict != nullptr && enif_get_list_cell(env, list, &pair, &list);) {
    PyObject* key = object_argument(env, pair, 0);
    PyObject* value = object_argument(env, pair, 1);
    if (key == nullptr || value == nullptr || PyDict_SetItem(dict, key, value) < 0) Py_CLEAR(dict);
  }
  return ok_object(env, dict);
}

Term set_from_list(ErlNifEnv* env, Term arguments) {
  PyObject* set = PySet_New(nullptr);
  Term list = argument(env, arguments, 0);
  for (Term head; set != nullptr && enif_get_list_cell(env, list, &head, &list);) {
    PyObject* element = object_of(env, head);
    if (element == nullptr || PySet_Add(set, element) < 0) Py_CLEAR(set);
  }
  return ok_object(env, set);
}

struct Operation {
  const char* name;
  CallJob::Function function;
};

constexpr Operation operations[] = {
    {"repr", repr},
    {"repr_text", repr_text},
    {"str", str},
    {"unicode_to_string", unicode_to_string},
    {"unicode_from_string", unicode_from_string},
    {"encode", encode_term},
    {"decode", decode_object},
    {"memoryview", memoryview},
    {"table_object", table_object},
    {"call_internal", call_internal},
    {"dict_from_pairs", dict_from_pairs},
    {"set_from_list", set_from_list},
    {"resolve_call", resolve_call},
    {"buffer", buffer},
    {"decode_rich", decode_rich},
};

}  // namespace

PyObject* short_repr(PyObject* object) {
  constexpr Py_ssize_t limit = 64 << 10;
  PyObject* text = PyObject_Repr(object);
  const Py_ssize_t length = text == nullptr ? 0 : PyUnicode_GetLength(text);
  if (length <= limit) return text;
  PyObject* head = PyUnicode_Substring(text, 0, limit);
  Py_DECREF(text);
  if (head == nullptr) return nullptr;
  PyObject* cut = PyUnicode_FromFormat("%U... (the first %zd of %zd characters)", head, limit, length);
  Py_DECREF(head);
  return cut;
}

CallJob::CallJob(ErlNifEnv* caller_env, const char* name, Function function, Term arguments)
    : Job(caller_env), name_(name), function_(function), arguments_(enif_make_copy(env(), arguments)) {}

Term CallJob::run() {
  const Leftovers leftovers;
  const Term reply = function_(env(), arguments_);
  end_own_streams();
  leftovers.end();
  end_if_forked();
  return reply == 0 ? error_reply(env()) : reply;
}

CallJob::Function find_operation(const std::string& wanted, const char** name) {
  for (const Operation& operation : operations) {
    if (wanted == operation.name) {
      *name = operation.name;
      return operation.function;
    }
  }
  return nullptr;
}

}  // namespace pythonx
