// The module that an evaluation runs in, as sys.modules["__main__"].
//
// Each evaluation has a namespace of its own, which is sys.modules["__main__"] until the next one takes the place. Making
// and freeing a module costs more than a small evaluation does, so the next one empties and takes over the module of the
// last when nobody could tell the difference: only the bridge and sys.modules hold the module, and only the module
// its dict. A function or thread that lives on holds the dict, and then the namespace stays its own.
//
// A class that lives on does not hold it. What its annotations may name, the modules and classes there, it holds by a
// module of its own, its home, in the slot in which types of C code have theirs: so that it can be resolved as long as it
// lives, by a cycle that the collector sees, and what else the evaluation has left goes when the next one begins.
#pragma once

#include <Python.h>

#include "vm/term.hpp"

namespace pythonx {

// Called once at boot, attached.
bool init_main_module();

struct MainModule {
  PyObject* module = nullptr;
  PyObject* reference = nullptr;  // a weak one

  explicit operator bool() const { return module != nullptr; }
  PyObject* names() const { return PyModule_GetDict(module); }
};

// A fresh module, which is sys.modules["__main__"] from here on. Empty with an exception set.
MainModule take_main_module();

// The same with a module that is kept from evaluation to evaluation, for a Pythonx.Session. What holds it keeps it from being
// emptied by later ones.
MainModule enter_main_module(PyObject* module);

// Whether it is a module that an evaluation can run in.
bool is_main_module(PyObject* object);

// Whether the namespace holds just what that of a fresh module does. Without a GIL that cannot be told.
bool is_fresh(PyObject* names);

// Gives the classes that the namespace holds, and those in them, a home, which remembers the evaluation's source. Called
// when the code has run, also with an exception set.
void settle_classes(PyObject* names, PyObject* source);

// The home of a class that an evaluation has made, borrowed from it; nullptr for others.
PyObject* home_of(PyObject* type);

// Gives up the references in `main`.
void give_back_main_module(MainModule main);

// Whether the name, a str, is one that a fresh module holds, and so no global of the user's. Runs no Python code.
bool is_hidden_name(PyObject* name);

}  // namespace pythonx
