// pythonx.Atom: an Elixir atom, made in Python for what goes to Elixir.
//
// Atoms are never freed, so a Python program can make only so many new ones; those that exist cost nothing.
#pragma once

#include <Python.h>

#include "term.hpp"

namespace pythonx {

// Makes the type. Called once at boot, attached.
bool init_atom_type();

// The type object (borrowed), for the Python module.
PyTypeObject* atom_type();

// False when `object` is no pythonx.Atom; sets no error. Atoms are the same in every environment.
bool get_python_atom(PyObject* object, Term* out);

// The atom of the name that a str is, which may be one of the new ones that Python may make. False with an exception set.
bool atom_of(PyObject* name, Term* out);

// The atom of a name in UTF-8. False when it is not valid, or new and may not be.
bool make_atom(std::string_view name, bool may_be_new, Term* out);

// The atom of that name if there is one; false, without an error set, otherwise.
bool find_atom(PyObject* name, Term* out);

}  // namespace pythonx
