// The native functions for interpreters other than the main one; nif.cpp has the table of all.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <variant>

#include "interpreters/job.hpp"
#include "nif/parameters.hpp"

namespace pythonx {

template <>
struct Parameter<SubinterpreterJobPtr> : ReadValue<SubinterpreterJobPtr> {
  bool read(ErlNifEnv* env, Term term) {
    value = SubinterpreterJob::get(env, term);
    return value != nullptr;
  }
};

namespace nif {

// Registers the resource types. Called once, when the library is loaded.
bool open_subinterpreter_types(ErlNifEnv* env);

// open_interpreter(name, owner | nil, reference) ::
//   {:ok, resource, name}, and a message {reference, :ok | {:error, text}} follows
//   | {:error, :not_initialized | :unsupported | :taken | :not_alive | text}
std::variant<std::tuple<Term, Term, std::string>, Error<Term>, Error<std::string>> open_interpreter(
    ErlNifEnv* env, const std::string& name, std::optional<ErlNifPid> owner, Term reference);

// submit_to_interpreter(reference, resource, operation, label, arguments, stdout, stderr, relay)
//   :: job | {:error, :not_initialized | :closed | :not_local}
// The resource is that of an interpreter, or of a handle, whose interpreter is meant.
std::variant<Term, Error<Term>> submit_to_interpreter(ErlNifEnv* env, Term reference, Term resource,
                                                      const std::string& operation, Term label,
                                                      Term arguments, Term out, Term err, Term relay);

// cancel_in_interpreter(job, mute) :: boolean
bool cancel_in_interpreter(const SubinterpreterJobPtr& job, bool mute);

// close_interpreter(resource, reference) :: :ok | :closed | {:error, :not_local}; :closed when it was closed before. Then comes
// {reference, :ended | :abandoned}
std::variant<Term, Error<Term>> close_interpreter(ErlNifEnv* env, Term resource, Term reference);

// interpreter_of(resource) :: {name, open?} | nil; for an interpreter, or a handle of one
std::optional<std::tuple<std::string, bool>> interpreter_of(ErlNifEnv* env, Term resource);

// interrupt_in_interpreters(pid) :: boolean
bool interrupt_in_interpreters(ErlNifPid pid);

// running_in_interpreters() :: [{pid, name, elapsed_us, label}]
Term running_in_interpreters(ErlNifEnv* env);

// interpreter_stats() :: {open, handles}
std::tuple<long, long> interpreter_stats();

}  // namespace nif
}  // namespace pythonx
