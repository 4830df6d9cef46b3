// Evaluations of terms: for the workers of a pool, to which what they are given and what they return comes and goes as terms,
// all of it in one job.
#pragma once

#include "work/eval.hpp"

namespace pythonx {

// Replies {:ok, result | nil, globals, relayed}, both decoded where that is asked for, and {:python_error, error, relayed};
// {:encoding_error, error} or {:deferred, terms} when the globals could not be encoded, before anything has run; or
// {:argument_error, text} for what has no counterpart in Elixir.
class ValueEvalJob : public EvalJob {
 public:
  // `values` is {names, values}, two lists of the same length. `how` is {decode, binaries_as_str, replacements, wanted}, the
  // last being a list of the names that are asked for, or true for all.
  ValueEvalJob(ErlNifEnv* caller_env, Source source, Term values, Term how, Term out, Term err, Term relay);

  Term run() override;

 protected:
  bool define(PyObject* names) override;
  bool take(PyObject* names, PyObject* result, bool defines) override;

 private:
  bool give(PyObject* object, Term* out);
  bool take_named(PyObject* names, Term wanted);
  bool take_all(PyObject* names);
  bool add(Term key, PyObject* value);

  Term names_ = 0;
  Term values_ = 0;
  const Term* how_ = nullptr;
  Term result_term_ = 0;
  std::vector<Term> keys_;
  std::vector<Term> terms_;
};

}  // namespace pythonx
