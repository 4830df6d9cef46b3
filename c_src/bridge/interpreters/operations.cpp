// What is done in interpreters other than the main one: each function is an operation of a job.
#include <string>
#include <utility>
#include <vector>

#include "conversion/decode.hpp"
#include "conversion/encode.hpp"
#include "conversion/error.hpp"
#include "interpreters/interpreter.hpp"
#include "interpreters/object.hpp"
#include "work/operations.hpp"

namespace pythonx {
namespace {

using Scene = SubinterpreterJob::Scene;

// An object that is owned.
class Owned {
 public:
  explicit Owned(PyObject* object = nullptr) : object_(object) {}
  Owned(Owned&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  ~Owned() { Py_XDECREF(object_); }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  Owned& operator=(Owned&&) = delete;

  PyObject* get() const { return object_; }
  explicit operator bool() const { return object_ != nullptr; }

 private:
  PyObject* object_;
};

// Encodes terms. One that the interpreter cannot take is kept, as the reason why the job was refused.
class Input {
 public:
  Input(const Scene& scene, Term binaries_as_str) : env_(scene.env) {
    options_.binaries_as_str = binaries_as_str == atoms.true_;
    options_.user_code = true;
    options_.interpreter = &scene.interpreter;
  }

  // Empty for a term that was refused, or with an exception set.
  Owned object(Term term) {
    std::vector<Term> deferred;
    PyObject* object = nullptr;
    if (encode(env_, term, options_, {}, &object, &deferred) == EncodeStatus::deferred)
      refused_ = deferred[0];
    return Owned(object);
  }

  // Adds the entries of a map of names (binaries); false likewise.
  bool add_to(PyObject* names, Term map) {
    ErlNifMapIterator iterator;
    Term key;
    Term value;
    bool ok = enif_map_iterator_create(env_, map, &iterator, ERL_NIF_MAP_ITERATOR_FIRST) != 0;
    while (ok && enif_map_iterator_get_pair(env_, &iterator, &key, &value)) {
      ok = add(names, key, value);
      enif_map_iterator_next(env_, &iterator);
    }
    enif_map_iterator_destroy(env_, &iterator);
    return ok;
  }

  // The reply where something was empty or false: 0 for an exception.
  Term failure() const { return refused_ == 0 ? 0 : make_tuple(env_, atoms.refused, refused_); }

 private:
  bool add(PyObject* names, Term key, Term value) {
    std::string_view text;
    get_binary(env_, key, &text);
    PyObject* name = PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), nullptr);
    if (name == nullptr) return false;
    PyUnicode_InternInPlace(&name);
    const Owned held(name);
    const Owned item = object(value);
    return item && PyDict_SetItem(names, name, item.get()) == 0;
  }

  ErlNifEnv* env_;
  EncodeOptions options_;
  Term refused_ = 0;
};

Term ok(ErlNifEnv* env, Term term) { return make_tuple(env, atoms.ok, term); }

// {:ok, term}; where the object has no counterpart, `handle`, or a new one if that is 0; {:argument_error, text}, or 0 with an
// exception set.
Term decoded(const Scene& scene, PyObject* object, Term handle = 0) {
  DecodeOptions options;
  options.user_code = true;
  options.interpreter = &scene.interpreter;
  Term term;
  std::string message;
  switch (decode(scene.env, object, options, &term, &message)) {
    case DecodeStatus::ok:
      return ok(scene.env, term);
    case DecodeStatus::object:
      if (handle == 0) handle = scene.interpreter.make_handle(scene.env, object);
      return ok(scene.env, handle);
    case DecodeStatus::refused:
      return make_tuple(scene.env, atoms.argument_error, make_binary(scene.env, message));
    default:
      return 0;
  }
}

// The object of the handle that is the only argument. The job was given to the interpreter of that handle.
PyObject* only_object(const Scene& scene) {
  PyObject* object = scene.interpreter.get_handle(scene.env, scene.arguments[0]);
  if (object == nullptr) PyErr_SetString(PyExc_SystemError, "expected a handle of this interpreter");
  return object;
}

// (handle)
Term decode_handle(const Scene& scene, bool*) {
  PyObject* object = only_object(scene);
  return object == nullptr ? 0 : decoded(scene, object, scene.arguments[0]);
}

// (handle): its repr, cut where nobody reads on
Term repr_text(const Scene& scene, bool*) {
  PyObject* object = only_object(scene);
  const Owned text(object == nullptr ? nullptr : short_repr(object));
  return text ? ok(scene.env, make_text(scene.env, text.get())) : 0;
}

// (handle)
Term str_text(const Scene& scene, bool*) {
  PyObject* object = only_object(scene);
  const Owned text(object == nullptr ? nullptr : PyObject_Str(object));
  return text ? decoded(scene, text.get()) : 0;
}

// (callable, args, kwargs as a map, binaries_as_str, decode)
Term call(const Scene& scene, bool*) {
  const Term* arguments = scene.arguments;
  Input input(scene, arguments[3]);
  const Owned callable = input.object(arguments[0]);
  const Owned list = callable ? input.object(arguments[1]) : Owned();
  const Owned keywords(list ? PyDict_New() : nullptr);
  if (!keywords || !input.add_to(keywords.get(), arguments[2])) return input.failure();
  const Owned tuple(PyList_AsTuple(list.get()));
  const Owned result(tuple ? PyObject_Call(callable.get(), tuple.get(), keywords.get()) : nullptr);
  if (!result) return 0;
  if (arguments[4] == atoms.true_) return decoded(scene, result.get());
  return ok(scene.env, scene.interpreter.make_handle(scene.env, result.get()));
}

// --- Evaluation ------------------------------------------------------------------------------------------------------

// The names that a fresh __main__ holds, and so are no globals of the user's.
constexpr const char* hidden_names[] = {"__name__",   "__doc__",  "__package__",
                                        "__loader__", "__spec__", "__builtins__"};

bool is_hidden(PyObject* name) {
  for (const char* hidden : hidden_names) {
    if (PyUnicode_CompareWithASCIIString(name, hidden) == 0) return true;
  }
  return false;
}

// A fresh module, which is sys.modules["__main__"] from here on. An earlier one lives as long as functions defined there.
Owned make_main() {
  PyObject* main = PyModule_New("__main__");
  PyObject* names = main == nullptr ? nullptr : PyModule_GetDict(main);
  const bool made = names != nullptr &&
                    PyDict_SetItemString(names, "__builtins__", PyEval_GetBuiltins()) == 0 &&
                    PyDict_SetItemString(PyImport_GetModuleDict(), "__main__", main) == 0;
  if (!made) Py_CLEAR(main);
  return Owned(main);
}

// The namespace as a map of handles; 0 with an exception set. Nothing here runs Python code.
Term collect_globals(const Scene& scene, PyObject* names) {
  std::vector<Term> keys;
  std::vector<Term> values;
  const Owned items(PyDict_Items(names));  // threads of the code's may go on to write to the namespace
  if (!items) return 0;
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(items.get()); ++i) {
    PyObject* name = PyTuple_GET_ITEM(PyList_GET_ITEM(items.get(), i), 0);
    if (!PyUnicode_Check(name) || is_hidden(name)) continue;
    Py_ssize_t size;
    const char* text = PyUnicode_AsUTF8AndSize(name, &size);
    if (text == nullptr) return 0;
    keys.push_back(make_binary(scene.env, {text, static_cast<std::size_t>(size)}));
    PyObject* value = PyTuple_GET_ITEM(PyList_GET_ITEM(items.get(), i), 1);
    values.push_back(scene.interpreter.make_handle(scene.env, value));
  }
  return make_map(scene.env, keys,
                  values);  // Names of a subclass of str may have the same text and yet be two.
}

// Runs the statements, then the expression, of which there may be none: *result. False with an exception set.
bool run(PyObject* codes, PyObject* names, PyObject** result) {
  PyObject* body = PyTuple_GET_ITEM(codes, 0);
  PyObject* expression = PyTuple_GET_ITEM(codes, 1);
  const Owned none(body == Py_None ? Py_NewRef(Py_None) : PyEval_EvalCode(body, names, names));
  if (!none) return false;
  *result = expression == Py_None ? nullptr : PyEval_EvalCode(expression, names, names);
  return expression == Py_None || *result != nullptr;
}

// (code, globals as a map, binaries_as_str): {result | nil, globals}
Term evaluate(const Scene& scene, bool* internal) {
  const Term* arguments = scene.arguments;
  std::string_view code;
  get_binary(scene.env, arguments[0], &code);
  *internal = true;
  const Owned source(PyUnicode_DecodeUTF8(code.data(), static_cast<Py_ssize_t>(code.size()), nullptr));
  const Owned codes(
      source ? PyObject_CallMethod(scene.interpreter.python(), "compile_evaluation", "O", source.get())
             : nullptr);
  if (!codes) return 0;
  *internal = false;
  const Owned main = make_main();
  if (!main) return 0;
  PyObject* names = PyModule_GetDict(main.get());
  Input input(scene, arguments[2]);
  if (!input.add_to(names, arguments[1])) return input.failure();
  PyObject* result = nullptr;
  if (!run(codes.get(), names, &result)) return 0;
  const Owned held(result);
  const Term globals = collect_globals(scene, names);
  if (globals == 0) return 0;
  const Term value = result == nullptr ? atoms.nil : scene.interpreter.make_handle(scene.env, result);
  return ok(scene.env, make_tuple(scene.env, value, globals));
}

struct Entry {
  const char* name;
  SubinterpreterJob::Operation operation;
};

constexpr Entry entries[] = {
    {"eval", evaluate},       {"call", call},         {"decode", decode_handle},
    {"repr_text", repr_text}, {"str_text", str_text},
};

}  // namespace

SubinterpreterJob::Operation SubinterpreterJob::find(const std::string& name) {
  for (const Entry& entry : entries) {
    if (name == entry.name) return entry.operation;
  }
  return nullptr;
}

}  // namespace pythonx
