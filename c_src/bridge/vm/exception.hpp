// What becomes of C++ exceptions at the border to the VM and to the threads of the bridge, over which none may pass: one that
// did would end the VM.
//
// What there is no memory for is std::bad_alloc, or std::length_error where a size is beyond what a container can have at
// all: both are :enomem in Elixir. Any other becomes a RuntimeError with its text.
//
// A native function raises the reason (nif/typed.hpp). A job replies {:raise, reason}, and its caller raises it. What the VM
// calls without anybody who could be told (a destructor of a resource, a monitor, the halt) is contained.
#pragma once

#include <string>  // with it, __GLIBCXX__ is known
#ifdef __GLIBCXX__
#include <cxxabi.h>
#endif

#include "vm/term.hpp"

namespace pythonx {

// In a handler (catch): the reason that stands for the exception which is being handled, :enomem or a %RuntimeError{}.
Term exception_reason(ErlNifEnv* env) noexcept;

// In a handler: raises that reason in Elixir; what a native function is to return.
Term raise_exception(ErlNifEnv* env) noexcept;

// Runs what nobody waits for. An exception ends it.
template <typename Function>
void contain(Function function) noexcept {
  try {
    function();
  } catch (...) {  // NOLINT(bugprone-empty-catch): there is nobody to tell
  }
}

// Runs what makes a reply of a job: an exception becomes {:raise, reason}. `env` is a function that returns where to make it.
template <typename Env, typename Function>
Term reply_or_raise(Env env, Function function) {
  try {
    return function();
#ifdef __GLIBCXX__
  } catch (abi::__forced_unwind&) {
    throw;  // The thread ends: code in C has called pthread_exit. The C library takes no other answer.
#endif
  } catch (...) {
    ErlNifEnv* reply_env = env();
    return make_tuple(reply_env, atoms.raise, exception_reason(reply_env));
  }
}

}  // namespace pythonx
