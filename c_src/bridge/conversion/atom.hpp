// pythonx.Atom: an Elixir atom, made in Python for what goes to Elixir.
//
// Atoms are never freed, so a Python program can make only so many new ones; those that exist cost nothing.
#pragma once

#include <Python.h>

#include <string>
#include <string_view>

#include "vm/term.hpp"

namespace pythonx {

// Makes the type. Called once at boot, attached.
bool init_atom_type();

// The type object (borrowed), for the Python module.
PyTypeObject* atom_type();

// False when `object` is no pythonx.Atom; sets no error. Atoms are the same in every environment.
bool get_python_atom(PyObject* object, Term* out);

// The atom of that name, a str, which may be a new one until Python code has made too many. False with an exception set.
bool intern_atom(PyObject* name, Term* out);

// The atom of that name, a str or UTF-8, if there is one; false, without an error set, otherwise.
bool find_atom(PyObject* name, Term* out);
bool find_atom(std::string_view name, Term* out);

// The name of an atom in UTF-8; false when memory is short.
bool read_atom(ErlNifEnv* env, Term atom, std::string* out);

}  // namespace pythonx
