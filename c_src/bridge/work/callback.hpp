// Calls from Python to Elixir functions. threads/call.hpp has the life of a call, and who owns it.
#pragma once

#include <Python.h>

#include <cstdint>

#include "threads/call.hpp"

namespace pythonx {

// Registers the resource type. Called once, when the library is loaded.
bool open_call_type(ErlNifEnv* env);

// A term through which Elixir answers.
Term make_call(ErlNifEnv* env, const CallPtr& call);

// The call behind such a term; empty for any other.
CallPtr get_call(ErlNifEnv* env, Term term);

// begin_call(call) :: {function, arguments, binaries_as_str}. The calling process becomes the handler.
Term begin_call(ErlNifEnv* env, const CallPtr& call);

// caller_waits?(call) :: whether the evaluation that the call is part of has not returned to its caller.
bool caller_waits(const CallPtr& call);

// answer_call(call, answer) :: :waiting | :async | false; false when it had ended already. After :async the answer is
// still to be handed over, with the operation resolve_call. Answers are
//   {:ok, term}                       the result, of terms that need no protocol
//   {:python, object}                 a Python exception to be raised again
//   {:error, class, text, stacktrace, {kind, reason, stack}}
//   {:type_error, text}
enum class Answered { waiting, async, too_late };
Answered answer_call(const CallPtr& call, Term answer);

// Calls an Elixir function and waits for what it returns: a new reference, or nullptr with an exception set. Attached.
PyObject* call_elixir(Term function, bool binaries_as_str, PyObject* arguments);

// Begins a call whose answer goes to `resolver`. The number of the call, or 0 with an exception set.
std::uint64_t start_call(Term function, bool binaries_as_str, PyObject* arguments, PyObject* resolver);

// The number of the call that the event loop's thread waits for, 0 when it waits for none: meanwhile no coroutine runs.
std::uint64_t blocking_call();

// The operation {call}: gives the answer to the resolver. Attached, on a bridge thread.
Term resolve_call(ErlNifEnv* env, Term arguments);

}  // namespace pythonx
