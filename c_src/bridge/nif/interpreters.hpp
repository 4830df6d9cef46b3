// The native functions for interpreters other than the main one; nif.cpp has the table of all.
#pragma once

#include <erl_nif.h>

#include "vm/term.hpp"

namespace pythonx {

// Registers the resource types. Called once, when the library is loaded.
bool open_subinterpreter_types(ErlNifEnv* env);

// open_interpreter(name, owner | nil) :: {:ok, resource, name} | {:error, :unsupported | :taken | :not_alive | text}
Term nif_open_interpreter(ErlNifEnv* env, int, const Term argv[]);

// submit_to_interpreter(reference, resource, operation, label, arguments, stdout, stderr, relay)
//   :: job | {:error, :closed} | {:error, :not_local}
// The resource is that of an interpreter, or of a handle, whose interpreter is meant.
Term nif_submit_to_interpreter(ErlNifEnv* env, int, const Term argv[]);

// cancel_in_interpreter(job, mute) :: boolean
Term nif_cancel_in_interpreter(ErlNifEnv* env, int, const Term argv[]);

// close_interpreter(resource, reference) :: :ok | :closed | {:error, :not_local}; :closed when it was closed before. Then comes
// {reference, :ended | :abandoned}
Term nif_close_interpreter(ErlNifEnv* env, int, const Term argv[]);

// interpreter_of(resource) :: {name, open?} | nil; for an interpreter, or a handle of one
Term nif_interpreter_of(ErlNifEnv* env, int, const Term argv[]);

// interrupt_in_interpreters(pid) :: boolean
Term nif_interrupt_in_interpreters(ErlNifEnv* env, int, const Term argv[]);

// running_in_interpreters() :: [{pid, name, elapsed_us, label}]
Term nif_running_in_interpreters(ErlNifEnv* env, int, const Term argv[]);

// interpreter_stats() :: {open, handles}
Term nif_interpreter_stats(ErlNifEnv* env, int, const Term argv[]);

}  // namespace pythonx
