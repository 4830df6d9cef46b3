#include "work/callback.hpp"

#include <atomic>
#include <utility>
#include <vector>

#include "conversion/decode.hpp"
#include "conversion/elixir_error.hpp"
#include "conversion/encode.hpp"
#include "conversion/error.hpp"
#include "conversion/object.hpp"
#include "conversion/pid.hpp"
#include "python/gil.hpp"
#include "python/runtime.hpp"
#include "threads/pool.hpp"
#include "vm/resource.hpp"
#include "work/event_loop.hpp"
#include "work/output.hpp"

namespace pythonx {
namespace {

struct CallResource {
  CallPtr call;

  void collected(ErlNifEnv*) { ThreadPool::instance().end_call(call, CallState::abandoned); }
};

ResourceType<CallResource> call_type;
std::atomic<std::uint64_t> loop_call{0};

// The arguments as a list of terms, or 0 with an exception set.
Term decode_arguments(ErlNifEnv* env, PyObject* arguments) {
  PyObject* list = PySequence_List(arguments);
  if (list == nullptr) return 0;
  DecodeOptions options;
  options.user_code = true;
  Term term = 0;
  std::string message;
  const DecodeStatus status = decode(env, list, options, &term, &message);
  Py_DECREF(list);
  if (status == DecodeStatus::ok) return term;
  if (status == DecodeStatus::refused) PyErr_SetString(PyExc_ValueError, message.c_str());
  return 0;
}

// Sends {:pythonx_call, id, call, caller | nil, device | nil, tied}; false with an exception set.
bool send_call(const CallPtr& call) {
  ErlNifPid server;
  if (!enif_whereis_pid(nullptr, atoms.callbacks, &server)) {
    PyErr_SetString(PyExc_RuntimeError,
                    "the :pythonx application needs to be started before Python can call Elixir");
    return false;
  }
  ErlNifEnv* env = enif_alloc_env();
  const EvaluationPtr evaluation = call->evaluation = current_evaluation();
  if (evaluation) evaluation->flush();  // What the function prints comes after it.
  const Term caller = evaluation ? pid_term(evaluation->caller()) : atoms.nil;
  const Term device = evaluation ? evaluation->device(env, Stream::out) : atoms.nil;
  // A job is cancelled when its caller dies, and its calls with it. Other threads have nobody who would tell them.
  const Term tied = call->worker == nullptr && evaluation ? atoms.true_ : atoms.false_;
  const Term message = make_tuple(env, atoms.pythonx_call, enif_make_uint64(env, call->id),
                                  make_call(env, call), caller, device, tied);
  enif_send(nullptr, &server, env, message);
  enif_free_env(env);
  return true;
}

PyObject* encode_result(ErlNifEnv* env, Term term, bool binaries_as_str) {
  EncodeOptions options;
  options.binaries_as_str = binaries_as_str;
  options.user_code = true;
  std::vector<Term> deferred;
  PyObject* object = nullptr;
  if (encode(env, term, options, {}, &object, &deferred) == EncodeStatus::deferred) {
    PyErr_SetString(PyExc_SystemError, "an answer holds what was to be encoded before");
  }
  return object;
}

PyObject* take_answer(const CallPtr& call, bool binaries_as_str) {
  ErlNifEnv* env = call->answer_env;
  const Term* parts;
  int arity;
  enif_get_tuple(env, call->answer, &arity, &parts);
  if (parts[0] == atoms.ok) return encode_result(env, parts[1], binaries_as_str);
  if (parts[0] == atoms.python) {
    raise_again(get_object(env, parts[1]));
  } else if (parts[0] == atoms.type_error) {
    PyObject* text = make_message(env, parts[1]);
    if (text != nullptr) PyErr_SetObject(PyExc_TypeError, text);
    Py_XDECREF(text);
  } else {
    raise_elixir_error(env, parts);
  }
  return nullptr;
}

}  // namespace

bool open_call_type(ErlNifEnv* env) { return call_type.open(env, "pythonx_call"); }

Term make_call(ErlNifEnv* env, const CallPtr& call) {
  CallResource* resource = call_type.make(call);
  const Term term = enif_make_resource(env, resource);
  enif_release_resource(resource);
  return term;
}

CallPtr get_call(ErlNifEnv* env, Term term) {
  const CallResource* resource = call_type.get(env, term);
  return resource == nullptr ? nullptr : resource->call;
}

Term begin_call(ErlNifEnv* env, const CallPtr& call) {
  ErlNifPid handler;
  enif_self(env, &handler);
  ThreadPool::instance().host(call, handler);
  return enif_make_copy(env, call->request);
}

bool caller_waits(const CallPtr& call) { return call->evaluation && call->evaluation->caller_waits(); }

Answered answer_call(const CallPtr& call, Term answer) {
  ErlNifEnv* answer_env = enif_alloc_env();
  const Term copy = enif_make_copy(answer_env, answer);
  const bool async = call->resolver != nullptr;
  if (ThreadPool::instance().answer(call, answer_env, copy))
    return async ? Answered::async : Answered::waiting;
  enif_free_env(answer_env);
  return Answered::too_late;
}

namespace {

// A call that has been sent to Elixir, or nullptr with an exception set.
CallPtr begin(Term function, bool binaries_as_str, PyObject* arguments, PyObject* resolver) {
  if (refuse_if_forked("call Elixir")) return nullptr;
  const auto call = std::make_shared<Call>();
  const Term terms = decode_arguments(call->request_env, arguments);
  if (terms == 0) return nullptr;
  call->request = make_tuple(call->request_env, enif_make_copy(call->request_env, function), terms,
                             binaries_as_str ? atoms.true_ : atoms.false_);
  call->binaries_as_str = binaries_as_str;
  if (resolver == nullptr) {
    call->worker = ThreadPool::current_worker();
    if (call->worker != nullptr) call->lineage = greenlet_lineage();
  } else {
    Py_INCREF(resolver);
    call->resolver = resolver;
  }
  return send_call(call) ? call : nullptr;
}

}  // namespace

std::uint64_t start_call(Term function, bool binaries_as_str, PyObject* arguments, PyObject* resolver) {
  const CallPtr call = begin(function, binaries_as_str, arguments, resolver);
  return call == nullptr ? 0 : call->id;
}

std::uint64_t blocking_call() { return loop_call; }

Term resolve_call(ErlNifEnv* env, Term arguments) {
  const Term* items;
  int arity;
  enif_get_tuple(env, arguments, &arity, &items);
  const CallPtr call = get_call(env, items[0]);
  PyObject* resolver = call == nullptr ? nullptr : call->resolver.exchange(nullptr);
  if (resolver == nullptr) return make_tuple(env, atoms.ok, atoms.false_);
  PyObject* value = take_answer(call, call->binaries_as_str);
  PyObject* error = value == nullptr ? take_exception() : Py_NewRef(Py_None);
  if (value == nullptr) value = Py_NewRef(Py_None);
  PyObject* none = PyObject_CallFunctionObjArgs(resolver, error, value, nullptr);
  Py_DECREF(resolver);
  Py_DECREF(value);
  Py_DECREF(error);
  if (none == nullptr) return 0;
  Py_DECREF(none);
  return make_tuple(env, atoms.ok, atoms.true_);
}

PyObject* call_elixir(Term function, bool binaries_as_str, PyObject* arguments) {
  const CallPtr call = begin(function, binaries_as_str, arguments, nullptr);
  if (call == nullptr) return nullptr;
  CallState state;
  if (is_loop_thread()) loop_call = call->id;
  {
    const Detach detached;
    state = ThreadPool::instance().await_answer(call);
  }
  if (is_loop_thread()) loop_call = 0;
  if (PyObject* raised = std::exchange(call->raised, nullptr)) {
    PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(raised)), raised);
    Py_DECREF(raised);
    return nullptr;
  }
  if (state == CallState::answered) return take_answer(call, binaries_as_str);
  if (state == CallState::interrupted) {
    PyErr_SetNone(PyExc_KeyboardInterrupt);
  } else {
    PyErr_SetString(PyExc_RuntimeError, "the :pythonx application was stopped while Python called Elixir");
  }
  return nullptr;
}

}  // namespace pythonx
