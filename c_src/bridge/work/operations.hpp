// Work on objects other than evaluation, by name: each is one job.
#pragma once

#include <functional>
#include <string>

#include "threads/job.hpp"

namespace pythonx {

// A job that is a function over arguments copied into its environment. The function returns the reply, or 0 with a
// Python exception set.
class CallJob : public Job {
 public:
  using Function = Term (*)(ErlNifEnv* env, Term arguments);

  CallJob(ErlNifEnv* caller_env, const char* name, Function function, Term arguments);

  Term run() override;
  std::string label() const override { return name_; }

 private:
  const char* name_;
  Function function_;
  Term arguments_;
};

// The operation of that name, or nullptr. `*name` becomes its static name.
CallJob::Function find_operation(const std::string& wanted, const char** name);

// The repr of an object for people to read, a new reference: cut, where it is longer than anybody reads, with a note of what
// it was. nullptr with an exception set. Attached, to whichever interpreter the object is of.
PyObject* short_repr(PyObject* object);

}  // namespace pythonx
