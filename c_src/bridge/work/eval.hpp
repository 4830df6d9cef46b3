// Evaluations: source text run in a namespace of its own.
#pragma once

#include "conversion/error.hpp"
#include "threads/job.hpp"
#include "work/code_cache.hpp"
#include "work/output.hpp"

namespace pythonx {

struct EvalPairs;
struct Frame;

// Replies {:ok, result | nil, globals, relayed} or {:python_error, error, relayed}, where `relayed` says that output
// went by way of the relay process, which the caller must wait for.
class EvalJob : public Job {
 public:
  // `globals` is a map of names (binaries) to local objects; or {module, map}, to run in the module of a session, whose names
  // are not replied.
  EvalJob(ErlNifEnv* caller_env, Source source, Term globals, Term out, Term err, Term relay);
  ~EvalJob() override;
  EvalJob(const EvalJob&) = delete;
  EvalJob& operator=(const EvalJob&) = delete;

  Term run() override;
  std::string label() const override;
  EvaluationPtr evaluation() const override { return evaluation_; }

 protected:
  Term make_reply(ErlNifEnv* env) override;

  // Defines what the code begins with. False with an exception set, or with another reply made.
  virtual bool define(PyObject* names);
  // Takes what the code leaves, its result (nullptr for none) and its names, which it may have defined some of. False likewise.
  virtual bool take(PyObject* names, PyObject* result, bool defines);

  // The name as a map key, or 0: for a name that is not the user's, or, with an exception set, that has no UTF-8 form.
  Term global_key(PyObject* name);

  // What is replied in the place of the above, where it is made already; 0 for nothing.
  Term other_reply_ = 0;
  bool relayed() const { return relayed_; }

 private:
  bool evaluate(Frames* frames);
  bool enter(Frame* frame);
  bool collect_globals(PyObject* names);
  bool collect_pairs(PyObject* names, EvalPairs* out);

  Source source_;
  Term globals_ = 0;  // 0 for an empty map
  Term session_ = 0;  // the session's module; 0 for a fresh one
  Devices devices_;
  EvaluationPtr evaluation_;
  PyObject* result_ = nullptr;  // ours until it is replied
  Term defined_ = 0;            // the globals afterwards; 0 for none
  bool relayed_ = false;
};

}  // namespace pythonx
