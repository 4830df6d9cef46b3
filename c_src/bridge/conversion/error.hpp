// Python exceptions as data.
#pragma once

#include <Python.h>

#include <string>

#include "vm/term.hpp"

namespace pythonx {

// Whether the frames of an exception's traceback belong to the user or to the bridge's own Python side, as they do
// when source text does not compile: those are left out of the lines, and only a SyntaxError keeps them in its traceback
// object.
enum class Frames { user, internal };

// Names the folder that the package `pythonx` is in. Called once at boot, before anything can raise.
void set_package_folder(const std::string& folder);

// Takes the exception that is set and turns it into {lines, type, value, traceback}, with what Elixir had raised,
// {kind, reason, stack}, as a fifth element where it is a pythonx.ElixirError. Attached, on a bridge thread:
// formatting runs the exception's own __str__.
Term take_error(ErlNifEnv* env, Frames frames = Frames::user);

// {:python_error, take_error(...)}
Term error_reply(ErlNifEnv* env, Frames frames = Frames::user);

// Takes the exception that is set, with its traceback, as an object (new reference).
PyObject* take_exception();

// Raises an exception that was raised before, with the traceback it has.
void raise_again(PyObject* error);

// The text of a str, lone surrogates as backslash escapes.
Term make_text(ErlNifEnv* env, PyObject* unicode);

}  // namespace pythonx
