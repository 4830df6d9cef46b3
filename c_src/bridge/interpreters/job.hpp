// A job of an interpreter other than the main one: one piece of work for one Elixir process that waits for a message.
//
// Ownership. A job is shared by its resource, which is the caller's term for it and watches the caller, and by the
// interpreter: the list of those that wait, then the thread that runs it. It keeps its own resource until the reply is
// sent, for a resource that is collected watches no one; and that of the interpreter for as long as it lives, so that what
// has jobs is not closed for want of users.
//
// States: queued -> running -> done, each change under `mutex_`. Once `cancel` with `mute` returned, no reply is sent that
// had not been sent before.
#pragma once

#include <Python.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <string>

#include "vm/term.hpp"
#include "work/output.hpp"

namespace pythonx {

class Subinterpreter;
class SubinterpreterJob;

using SubinterpreterJobPtr = std::shared_ptr<SubinterpreterJob>;

class SubinterpreterJob {
 public:
  // What an operation is given: `arguments` are of `env`, in which the reply is made too.
  struct Scene {
    Subinterpreter& interpreter;
    ErlNifEnv* env;
    const Term* arguments;
  };

  // Attached. Returns {:ok, result}, {:argument_error, text} or {:refused, term}; 0 with an exception set. When the code did
  // not even compile, *internal is set: the frames of the exception are the bridge's own.
  using Operation = Term (*)(const Scene& scene, bool* internal);

  // The operation of that name, or nullptr. (operations.cpp)
  static Operation find(const std::string& name);

  // Registers the resource type. Called once, when the library is loaded.
  static bool open_type(ErlNifEnv* env);

  // Makes a job of the calling process and submits it: the term for it, or {:error, :closed}. `arguments` is a tuple.
  static Term submit(ErlNifEnv* env, Term reference, const std::shared_ptr<Subinterpreter>& interpreter,
                     Operation operation, Term label, Term arguments, Devices devices);

  // The job behind a term, or nullptr.
  static SubinterpreterJobPtr get(ErlNifEnv* env, Term term);

  SubinterpreterJob(ErlNifEnv* caller_env, Term reference, std::shared_ptr<Subinterpreter> interpreter,
                    Operation operation, Term label, Term arguments, Devices devices);
  ~SubinterpreterJob();
  SubinterpreterJob(const SubinterpreterJob&) = delete;
  SubinterpreterJob& operator=(const SubinterpreterJob&) = delete;

  Subinterpreter& interpreter() { return *interpreter_; }
  const ErlNifPid& caller() const { return caller_; }
  const std::string& label() const { return label_; }
  std::chrono::steady_clock::time_point started_at() const { return started_at_; }

  // Marks the job; false when it had ended already.
  bool cancel(bool mute);
  bool cancelled();

  // The following are for the thread of the interpreter.

  // False for a job that was cancelled while it waited.
  bool start();

  // Attached: runs the operation as an evaluation of its own, and returns the reply.
  Term run();

  // Attached. After this no interrupt can be meant for the job. True when one was sent, which may still be pending.
  bool finish();

  // Detached. Sends the reply. On a thread of the VM's, `caller_env` is that of the process or callback there.
  void deliver(Term reply, ErlNifEnv* caller_env = nullptr);
  void refuse(Term reason, ErlNifEnv* caller_env = nullptr) {
    deliver(make_tuple(env_, atoms.error, reason), caller_env);
  }

  // For the interrupter, attached to the interpreter: raises KeyboardInterrupt in the thread of that state, unless it is where
  // that could do harm (threads/safe_point.hpp) or the job has ended.
  enum class Raised { yes, put_off, too_late };
  Raised raise_in(PyThreadState* state);

 private:
  enum class State { queued, running, done };

  Term perform();
  Term take_error(bool internal);

  std::shared_ptr<Subinterpreter> interpreter_;
  Operation operation_;
  ErlNifEnv* env_;
  Term reference_;
  Term arguments_;
  std::string label_;
  Devices devices_;
  EvaluationPtr evaluation_;
  ErlNifPid caller_;
  ErlNifMonitor monitor_{};
  bool monitored_ = false;
  void* resource_ = nullptr;  // its own
  std::chrono::steady_clock::time_point started_at_{};

  std::mutex mutex_;
  State state_ = State::queued;
  bool cancelled_ = false;
  bool mute_ = false;
  bool exception_sent_ = false;
  int put_off_ = 0;
};

}  // namespace pythonx
