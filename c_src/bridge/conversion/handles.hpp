// The handles of an interpreter other than the main one, as the walks of conversions need them.
#pragma once

#include <Python.h>

#include "vm/term.hpp"

namespace pythonx {

// Implemented by the interpreter. Called on its thread, attached, within a job.
class Handles {
 public:
  // A handle with a new reference of its own.
  virtual Term make_handle(ErlNifEnv* env, PyObject* object) = 0;

  // The object of a handle of this interpreter, borrowed for as long as `env` keeps the term; nullptr for any other term.
  virtual PyObject* get_handle(ErlNifEnv* env, Term term) const = 0;

 protected:
  ~Handles() = default;
};

}  // namespace pythonx
