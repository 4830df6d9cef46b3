// Decoding of types that Python has and Elixir can have; see RichTypes.
#include "conversion/atom.hpp"
#include "conversion/decoder.hpp"
#include "conversion/error.hpp"
#include "conversion/function.hpp"
#include "conversion/object.hpp"
#include "conversion/pid.hpp"
#include "conversion/rich.hpp"
#include "python/package.hpp"

namespace pythonx {
namespace {

bool is_plain_set(PyObject* object) {
  return PySet_CheckExact(object) != 0 || Py_TYPE(object) == &PyFrozenSet_Type;
}

}  // namespace

RichTypes::~RichTypes() {
  for (const auto& [object, function] : pending) {
    Py_DECREF(object);
    Py_DECREF(function);
  }
}

bool Decoder::begin_rich(PyObject* object, Py_ssize_t held, Term* out, bool* done) {
  ErlNifPid pid;
  // None of these is in the table, and each is common.
  if (is_plain_set(object) || get_pid(object, &pid) || Py_TYPE(object) == atom_type()) return false;
  const IdentityMap::Entry* known = options_.rich->decoded.find(object);
  if (known == nullptr) known = memo_.find(object);
  if (known != nullptr) {
    *out = known->term;
    *done =
        known->term != 0 || refuse(frames_.size(), std::string("cannot decode an object of type ") +
                                                       Py_TYPE(object)->tp_name + " that contains itself");
    return true;
  }
  const bool shared = Py_REFCNT(object) > held;
  // Python code runs now, and other threads with it.
  pin();
  PyObject* converted = PyObject_CallOneArg(options_.rich->hook, object);
  const bool taken = converted != Py_NotImplemented && converted != object;
  if (taken) *done = converted == nullptr ? python_error() : begin_converted(object, converted, shared, out);
  Py_XDECREF(converted);
  return taken;
}

// Goes on with what the hook made of the object.
bool Decoder::begin_converted(PyObject* object, PyObject* converted, bool shared, Term* out) {
  if (Py_TYPE(converted) == function_type()) {
    Py_INCREF(object);
    Py_INCREF(converted);
    options_.rich->pending.emplace_back(object, converted);
    // Unlike nil, two of these may be keys of one map.
    *out = enif_make_ref(env_);
    options_.rich->decoded.insert(object, *out);
    return true;
  }
  const std::size_t depth = frames_.size();
  if (begin(converted, 1, out)) return true;
  if (status_ == DecodeStatus::object) {
    // The root is not the object itself but what it holds.
    status_ = DecodeStatus::ok;
    *out = make_object(env_, converted);
    return true;
  }
  if (shared && frames_.size() > depth && frames_.back().origin == nullptr) {
    remember(object);
    frames_.back().origin = object;
  }
  return false;
}

namespace {

// The terms that Elixir has made of objects, [{object, term}].
void read_decoded(ErlNifEnv* env, Term list, IdentityMap* out) {
  const Term* pair;
  int arity;
  for (Term head; enif_get_list_cell(env, list, &head, &list);) {
    enif_get_tuple(env, head, &arity, &pair);
    PyObject* object = get_object(env, pair[0]);
    if (object != nullptr && out->find(object) == nullptr) out->insert(object, pair[1]);
  }
}

// [{object, function}]
Term pending_list(ErlNifEnv* env, const RichTypes& rich) {
  Term list = enif_make_list(env, 0);
  for (auto entry = rich.pending.rbegin(); entry != rich.pending.rend(); ++entry) {
    const Term pair = make_tuple(env, make_object(env, entry->first), get_function(env, entry->second));
    list = enif_make_list_cell(env, pair, list);
  }
  return list;
}

// The hook with its settings: whether Elixir has durations and decimals.
PyObject* make_hook(Term durations, Term decimals) {
  PyObject* module = package_module("pythonx._types");
  PyObject* hook = module == nullptr ? nullptr
                                     : PyObject_CallMethod(module, "converter", "OO",
                                                           durations == atoms.true_ ? Py_True : Py_False,
                                                           decimals == atoms.true_ ? Py_True : Py_False);
  Py_XDECREF(module);
  return hook;
}

Term decode_with(ErlNifEnv* env, PyObject* object, RichTypes* rich) {
  DecodeOptions options;
  options.user_code = true;
  options.rich = rich;
  Term term;
  std::string message;
  const DecodeStatus status = decode(env, object, options, &term, &message);
  if (status == DecodeStatus::refused) {
    return make_tuple(env, atoms.argument_error, make_binary(env, message));
  }
  if (status == DecodeStatus::object) return make_tuple(env, atoms.ok, atoms.unchanged);
  if (status != DecodeStatus::ok) return error_reply(env);
  if (rich->pending.empty()) return make_tuple(env, atoms.ok, make_tuple(env, atoms.done, term));
  return make_tuple(env, atoms.ok, make_tuple(env, atoms.more, pending_list(env, *rich)));
}

}  // namespace

Term decode_rich(ErlNifEnv* env, Term arguments) {
  const Term* items;
  int arity;
  enif_get_tuple(env, arguments, &arity, &items);
  PyObject* hook = make_hook(items[1], items[2]);
  if (hook == nullptr) return 0;
  RichTypes rich(hook);
  read_decoded(env, items[3], &rich.decoded);
  const Term reply = decode_with(env, get_object(env, items[0]), &rich);
  Py_DECREF(hook);
  return reply;
}

}  // namespace pythonx
