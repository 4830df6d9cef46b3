// Evaluations: source text run in a namespace of its own.
#pragma once

#include "code_cache.hpp"
#include "error.hpp"
#include "job.hpp"
#include "output.hpp"

namespace pythonx {

// Prepares what all evaluations share. Called once at boot, attached.
bool init_eval();

// Replies {:ok, result | nil, globals, relayed} or {:python_error, error, relayed}, where `relayed` says that output
// went by way of the relay process, which the caller must wait for.
class EvalJob : public Job {
 public:
  // `globals` is a map of names (binaries) to local objects.
  EvalJob(ErlNifEnv* caller_env, Term reference, Source source, Term globals, Term out, Term err, Term relay);

  Term run() override;
  std::string label() const override;

 private:
  Term evaluate(Frames* frames);

  Source source_;
  Term globals_;
  EvaluationPtr evaluation_;
};

}  // namespace pythonx
