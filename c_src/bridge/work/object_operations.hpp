// What Elixir does with Python objects without writing Python: calls, attributes, items, imports. Each is one job.
#pragma once

#include <string>

#include "threads/job.hpp"
#include "work/output.hpp"

namespace pythonx {

struct ObjectOperation;

// Makes the atoms that name operations. Called once, when the library is loaded.
void init_object_operations(ErlNifEnv* env);

// The operation of that name, an atom, or nullptr.
const ObjectOperation* find_object_operation(Term name);

// {status, terms}: elements of an iterator, operands (iterator, count, microseconds); stream_operations.cpp. 0 with an
// exception set. The status is `more`, `done`, {:python_error, error} or {:argument_error, text}.
Term next_batch(ErlNifEnv* env, PyObject* operands, bool decoded);

// Encodes the operands, runs the operation as an evaluation of its own (what it prints goes to the caller's devices),
// and decodes the result when asked to. Nothing of the user's has run when it replies {:deferred, terms}: the caller
// encodes these and submits the operation once more.
//
// Replies {:ok, result, relayed}, {:python_error, error, relayed}, {:argument_error, text} or {:deferred, terms}.
class ObjectJob : public Job {
 public:
  // `arguments` is {operands, names, decode, binaries_as_str, replacements}.
  ObjectJob(ErlNifEnv* caller_env, const ObjectOperation* operation, Term arguments, Term out, Term err,
            Term relay);

  Term run() override;
  std::string label() const override;

 private:
  Term prepare_and_perform();
  Term perform(PyObject* operands);
  Term reply_with(PyObject* result);

  const ObjectOperation* operation_;
  Term operands_;
  Term names_;
  bool decode_;
  bool binaries_as_str_;
  Term replacements_;
  Devices devices_;
  EvaluationPtr evaluation_;
};

}  // namespace pythonx
