// Handles to objects of an interpreter other than the main one. They are %Pythonx.Object{}s around a resource of another
// type than the main interpreter's, so that neither can be taken for the other.
#pragma once

#include <Python.h>

#include <cstddef>
#include <memory>

#include "vm/term.hpp"

namespace pythonx {

class Subinterpreter;

// What a handle holds. The list belongs to the thread of the interpreter, which also frees the node; see
// Subinterpreter::forget.
struct HandleNode {
  PyObject* object;  // nullptr once the interpreter has ended
  HandleNode* previous;
  HandleNode* next;
  HandleNode* next_forgotten;
};

// Registers the resource type. Called once, when the library is loaded.
bool open_handle_type(ErlNifEnv* env);

// The interpreter of a handle (a struct or its resource), which may have ended; empty for any other term.
std::shared_ptr<Subinterpreter> interpreter_of(ErlNifEnv* env, Term term);

// How many handles there are, of all interpreters but the main one.
std::size_t live_subinterpreter_handles();

}  // namespace pythonx
