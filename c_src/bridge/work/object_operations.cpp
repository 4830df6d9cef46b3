#include "work/object_operations.hpp"

#include <utility>
#include <vector>

#include "conversion/decode.hpp"
#include "conversion/encode.hpp"
#include "conversion/error.hpp"
#include "conversion/object.hpp"
#include "python/package.hpp"
#include "python/portions.hpp"
#include "python/runtime.hpp"
#include "tables/table.hpp"
#include "work/await.hpp"
#include "work/leftovers.hpp"
#include "work/streams.hpp"

namespace pythonx {

// What an operation works on: encoded terms, and names, which are str whatever binaries are otherwise.
struct Operands {
  PyObject* values;  // a tuple
  PyObject* names;   // a tuple of str

  PyObject* value(Py_ssize_t index) const { return PyTuple_GET_ITEM(values, index); }
  PyObject* name(Py_ssize_t index) const { return PyTuple_GET_ITEM(names, index); }
};

namespace {

PyObject* new_none() {
  Py_INCREF(Py_None);
  return Py_None;
}

// Positional arguments and those by name, as vectorcall wants them: one after the other, the names apart. The first slot
// is the object of a method call, or for the callee's own use.
struct Arguments {
  std::vector<PyObject*> stack;
  std::size_t positional;

  Arguments(PyObject* self, PyObject* args, PyObject* keyword_values)
      : positional(static_cast<std::size_t>(PyList_GET_SIZE(args))) {
    stack.reserve(1 + positional + static_cast<std::size_t>(PyList_GET_SIZE(keyword_values)));
    stack.push_back(self);
    for (PyObject* list : {args, keyword_values}) {
      for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); ++i) stack.push_back(PyList_GET_ITEM(list, i));
    }
  }
};

// (callable, args, keyword values), named by the keywords
PyObject* call(const Operands& operands) {
  const Arguments arguments(nullptr, operands.value(1), operands.value(2));
  return PyObject_Vectorcall(operands.value(0), arguments.stack.data() + 1,
                             arguments.positional | PY_VECTORCALL_ARGUMENTS_OFFSET, operands.names);
}

// (args, keyword values), named by a path that a worker of a pool resolves, and the keywords
PyObject* call_path(const Operands& operands) {
  PyObject* module = package_module("pythonx._pool");
  PyObject* callable =
      module == nullptr ? nullptr : PyObject_CallMethod(module, "resolve", "O", operands.name(0));
  Py_XDECREF(module);
  if (callable == nullptr) return nullptr;
  const Arguments arguments(nullptr, operands.value(0), operands.value(1));
  PyObject* keywords = PyTuple_GetSlice(operands.names, 1, PyTuple_GET_SIZE(operands.names));
  PyObject* result =
      keywords == nullptr
          ? nullptr
          : PyObject_Vectorcall(callable, arguments.stack.data() + 1,
                                arguments.positional | PY_VECTORCALL_ARGUMENTS_OFFSET, keywords);
  Py_XDECREF(keywords);
  Py_DECREF(callable);
  return result;
}

// (object, args, keyword values), named by the method and the keywords
PyObject* call_method(const Operands& operands) {
  const Arguments arguments(operands.value(0), operands.value(1), operands.value(2));
  PyObject* keywords = PyTuple_GetSlice(operands.names, 1, PyTuple_GET_SIZE(operands.names));
  if (keywords == nullptr) return nullptr;
  PyObject* result =
      PyObject_VectorcallMethod(operands.name(0), arguments.stack.data(), arguments.positional + 1, keywords);
  Py_DECREF(keywords);
  return result;
}

PyObject* get_attribute(const Operands& operands) {
  return PyObject_GetAttr(operands.value(0), operands.name(0));
}

PyObject* set_attribute(const Operands& operands) {
  return PyObject_SetAttr(operands.value(0), operands.name(0), operands.value(1)) < 0 ? nullptr : new_none();
}

// The key of a dict that an Elixir binary means (new reference). In Elixir 'a' and b'a' are one key, "a": the str is
// taken, unless the dict has only the bytes.
PyObject* resolve_key(PyObject* object, PyObject* key) {
  Py_INCREF(key);
  if (!PyDict_Check(object) || !PyUnicode_CheckExact(key)) return key;
  PyObject* bytes = PyDict_Contains(object, key) == 0 ? PyUnicode_AsUTF8String(key) : nullptr;
  if (bytes != nullptr && PyDict_Contains(object, bytes) == 1) {
    Py_DECREF(key);
    return bytes;
  }
  Py_XDECREF(bytes);
  PyErr_Clear();
  return key;
}

PyObject* get_item(const Operands& operands) {
  PyObject* key = resolve_key(operands.value(0), operands.value(1));
  PyObject* item = PyObject_GetItem(operands.value(0), key);
  Py_DECREF(key);
  return item;
}

PyObject* set_item(const Operands& operands) {
  PyObject* key = resolve_key(operands.value(0), operands.value(1));
  const int failed = PyObject_SetItem(operands.value(0), key, operands.value(2));
  Py_DECREF(key);
  return failed < 0 ? nullptr : new_none();
}

// An iterator over the object; for an asynchronous one, an ordinary iterator that waits for each element.
PyObject* iterate(const Operands& operands) {
  PyObject* object = operands.value(0);
  if (Py_TYPE(object)->tp_as_async == nullptr || Py_TYPE(object)->tp_as_async->am_aiter == nullptr) {
    return PyObject_GetIter(object);
  }
  PyObject* module = package_module("pythonx._loop");
  PyObject* iterator = module == nullptr ? nullptr : PyObject_CallMethod(module, "iterate", "O", object);
  Py_XDECREF(module);
  return iterator;
}

// Whether another thread is inside of the generator just now: one whose reader gave up, and which is being interrupted.
bool is_running(PyObject* iterator) {
  PyObject* running = PyObject_GetAttrString(iterator, "gi_running");
  const bool result = running == Py_True;
  Py_XDECREF(running);
  PyErr_Clear();
  return result;
}

// Ends an iterator that nobody reads on: a generator runs its `finally` blocks. Others, such as files, are left alone.
PyObject* close_iterator(const Operands& operands) {
  PyObject* iterator = operands.value(0);
  const bool closes = PyObject_HasAttrString(iterator, "throw") && PyObject_HasAttrString(iterator, "close");
  return closes && !is_running(iterator) ? PyObject_CallMethod(iterator, "close", nullptr) : new_none();
}

// A function of the package's own Python side, (arguments...), named by its module and itself.
PyObject* internal(const Operands& operands) {
  const char* name = PyUnicode_AsUTF8(operands.name(0));
  PyObject* module = name == nullptr ? nullptr : package_module(name);
  PyObject* function = module == nullptr ? nullptr : PyObject_GetAttr(module, operands.name(1));
  PyObject* result = function == nullptr ? nullptr : PyObject_CallObject(function, operands.values);
  Py_XDECREF(function);
  Py_XDECREF(module);
  return result;
}

// What became of the awaitable of this key: its value, or its exception.
PyObject* outcome(const Operands& operands) { return value_of(take_outcome(operands.value(0))); }

// The module itself, as importlib.import_module gives it, not the package that it is in.
PyObject* import_module(const Operands& operands) {
  PyObject* module = PyImport_ImportModuleLevelObject(operands.name(0), nullptr, nullptr, nullptr, 0);
  if (module == nullptr) return nullptr;
  Py_DECREF(module);
  module = PyImport_GetModule(operands.name(0));
  if (module == nullptr && !PyErr_Occurred()) PyErr_SetObject(PyExc_ModuleNotFoundError, operands.name(0));
  return module;
}

// A pythonx.Table of what an object offers as Arrow data. (object), named by whether to copy.
PyObject* read_table(const Operands& operands) {
  const bool always = PyUnicode_CompareWithASCIIString(operands.name(0), "true") == 0;
  const bool never = PyUnicode_CompareWithASCIIString(operands.name(0), "false") == 0;
  return table_of(operands.value(0), always ? Copy::always : never ? Copy::never : Copy::if_mutable);
}

PyObject* make_names(ErlNifEnv* env, Term list) {
  unsigned size = 0;
  enif_get_list_length(env, list, &size);
  PyObject* names = PyTuple_New(size);
  Term head;
  for (Py_ssize_t i = 0; names != nullptr && enif_get_list_cell(env, list, &head, &list); ++i) {
    std::string_view text;
    get_binary(env, head, &text);
    PyObject* name = PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), nullptr);
    if (name == nullptr) {
      Py_CLEAR(names);
    } else {
      PyUnicode_InternInPlace(&name);
      PyTuple_SET_ITEM(names, i, name);
    }
  }
  return names;
}

}  // namespace

struct ObjectOperation {
  const char* name;
  PyObject* (*function)(const Operands& operands);  // nullptr for next_batch, whose result is no object
  bool may_miss;                                    // a KeyError or IndexError is the result :error
};

namespace {

constexpr ObjectOperation object_operations[] = {
    {"call", call, false},
    {"call_path", call_path, false},
    {"call_method", call_method, false},
    {"getattr", get_attribute, false},
    {"setattr", set_attribute, false},
    {"getitem", get_item, false},
    {"fetch", get_item, true},
    {"setitem", set_item, false},
    {"import_module", import_module, false},
    {"iterate", iterate, false},
    {"close_iterator", close_iterator, false},
    {"internal", internal, false},
    {"take_outcome", outcome, false},
    {"read_table", read_table, false},
    {"next_batch", nullptr, false},
};

constexpr std::size_t operation_count = sizeof(object_operations) / sizeof(*object_operations);
Term operation_atoms[operation_count];

}  // namespace

void init_object_operations(ErlNifEnv* env) {
  for (std::size_t i = 0; i < operation_count; ++i)
    operation_atoms[i] = enif_make_atom(env, object_operations[i].name);
}

const ObjectOperation* find_object_operation(Term name) {
  for (std::size_t i = 0; i < operation_count; ++i) {
    if (operation_atoms[i] == name) return &object_operations[i];
  }
  return nullptr;
}

ObjectJob::ObjectJob(ErlNifEnv* caller_env, const ObjectOperation* operation, Term arguments, Term out,
                     Term err, Term relay)
    : Job(caller_env), operation_(operation), devices_(caller_env, out, err, relay) {
  const Term* items;
  int arity;
  enif_get_tuple(env(), enif_make_copy(env(), arguments), &arity, &items);
  operands_ = items[0];
  names_ = items[1];
  decode_ = items[2] == atoms.true_;
  binaries_as_str_ = items[3] == atoms.true_;
  replacements_ = items[4];
}

std::string ObjectJob::label() const {
  std::string text = operation_->name;
  Term head;
  Term tail;
  std::string_view name;
  if (enif_get_list_cell(env(), names_, &head, &tail) && get_binary(env(), head, &name))
    text += " " + std::string(name);
  return text;
}

Term ObjectJob::run() {
  evaluation_ = std::make_shared<Evaluation>(caller(), std::move(devices_));
  Term reply = prepare_and_perform();
  const bool failed = reply == 0;
  end_if_forked();
  if (failed) reply = take_error(env());
  const Term relayed = evaluation_->finish(is_abandoned()) ? atoms.true_ : atoms.false_;
  evaluation_.reset();  // While attached: it may hold a Python reference.
  if (failed) return make_tuple(env(), atoms.python_error, reply, relayed);
  const Term* parts;
  int arity;
  enif_get_tuple(env(), reply, &arity, &parts);
  return parts[0] == atoms.ok ? make_tuple(env(), atoms.ok, parts[1], relayed) : reply;
}

// {:ok, result}, or another reply, or 0 with an exception set.
Term ObjectJob::prepare_and_perform() {
  const EvaluationScope scope(evaluation_);
  if (!scope.ok()) return 0;
  EncodeOptions options;
  options.binaries_as_str = binaries_as_str_;
  options.user_code = true;
  std::vector<PyObject*> replacements;
  Term list = replacements_;
  for (Term head; enif_get_list_cell(env(), list, &head, &list);)
    replacements.push_back(get_object(env(), head));
  std::vector<Term> deferred;
  PyObject* operands = nullptr;
  switch (encode(env(), operands_, options, replacements, &operands, &deferred)) {
    case EncodeStatus::ok:
      break;
    case EncodeStatus::deferred:
      return make_tuple(
          env(), atoms.deferred,
          enif_make_list_from_array(env(), deferred.data(), static_cast<unsigned>(deferred.size())));
    default:
      return 0;
  }
  const Leftovers leftovers;
  evaluation_->set_operands(Py_NewRef(operands));
  const Term reply = perform(operands);
  evaluation_->set_operands(nullptr);
  end_streams(*evaluation_);
  leftovers.end();
  Py_DECREF(operands);
  return reply;
}

Term ObjectJob::perform(PyObject* operands) {
  if (operation_->function == nullptr) {
    const Term batch = next_batch(env(), operands, decode_);
    return batch == 0 ? 0 : make_tuple(env(), atoms.ok, batch);
  }
  PyObject* names = make_names(env(), names_);
  if (names == nullptr) return 0;
  PyObject* result = operation_->function({operands, names});
  Py_DECREF(names);
  const bool missed =
      result == nullptr && operation_->may_miss &&
      (PyErr_ExceptionMatches(PyExc_KeyError) != 0 || PyErr_ExceptionMatches(PyExc_IndexError) != 0);
  if (missed) {
    PyErr_Clear();
    return make_tuple(env(), atoms.ok, atoms.error);
  }
  if (result == nullptr) return 0;
  const Term reply = reply_with(result);
  if (reply != 0) {
    drop_in_portions(result);
  } else {
    Py_DECREF(result);  // with an exception set
  }
  return reply;
}

Term ObjectJob::reply_with(PyObject* result) {
  if (!decode_) return make_tuple(env(), atoms.ok, make_object(env(), result));
  DecodeOptions options;
  options.user_code = true;
  Term term;
  std::string message;
  switch (decode(env(), result, options, &term, &message)) {
    case DecodeStatus::ok:
      return make_tuple(env(), atoms.ok, term);
    case DecodeStatus::object:
      return make_tuple(env(), atoms.ok, make_object(env(), result));
    case DecodeStatus::refused:
      return make_tuple(env(), atoms.argument_error, make_binary(env(), message));
    default:
      return 0;
  }
}

}  // namespace pythonx
