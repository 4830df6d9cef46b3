// pythonx.ElixirError: what Elixir raised, as a Python exception that keeps the original.
#pragma once

#include <Python.h>

#include "vm/term.hpp"

namespace pythonx {

// What Elixir says of an error, as a str: the message of an exception may be any binary. nullptr with an exception set.
PyObject* make_message(ErlNifEnv* env, Term term);

// Raises {:error, class, text, stacktrace, {kind, reason, stack}}.
void raise_elixir_error(ErlNifEnv* env, const Term* parts);

// What Elixir raised, {kind, reason, stack}, when `exception` is a pythonx.ElixirError made of it; otherwise 0.
Term original_of(ErlNifEnv* env, PyObject* exception);

}  // namespace pythonx
