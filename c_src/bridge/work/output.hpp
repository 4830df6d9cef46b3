// An evaluation as its output sees it: the devices that what it prints goes to.
//
// Ownership. An Evaluation is shared by the job that runs it and, through a context variable, by every thread and
// task that it starts; it lives as long as any of them may print. Its terms live in an environment of its own, never
// in that of a NIF call, which is gone when the call returns. It is made on the thread that runs it, where it is freed too as
// a rule: memory that another thread frees costs twice.
#pragma once

#include <Python.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "python/critical_section.hpp"
#include "vm/term.hpp"

namespace pythonx {

enum class Stream { out = 0, err = 1 };

// The devices of the two streams: anything that `send/2` takes. `relay` is the process that is named as the sender of IO
// requests, takes their replies, and passes on what this library cannot send to itself: other nodes' processes and names.
class Devices {
 public:
  Devices(ErlNifEnv* env, Term out, Term err, Term relay);
  ~Devices();
  Devices(Devices&& other) noexcept;
  Devices(const Devices&) = delete;
  Devices& operator=(const Devices&) = delete;
  Devices& operator=(Devices&&) = delete;

  // The device of a stream, as a term of `env`.
  Term get(ErlNifEnv* env, Stream stream) const;

  // Hands the text over without ever waiting: a device that is gone drops it. True when it went by way of the relay.
  bool send(Stream stream, std::string_view text);

 private:
  struct Device {
    bool local;
    ErlNifPid pid;
    Term destination;
  };

  Device make_device(ErlNifEnv* env, Term term);

  ErlNifEnv* env_ = nullptr;  // made only for devices that are no local processes
  ErlNifPid relay_{};
  bool has_relay_;
  Device devices_[2];
};

class Evaluation {
 public:
  Evaluation(const ErlNifPid& caller, Devices devices);
  ~Evaluation();
  Evaluation(const Evaluation&) = delete;
  Evaluation& operator=(const Evaluation&) = delete;

  // Sends whole lines; keeps the rest until its line ends, the stream changes or the evaluation does.
  void write(Stream stream, std::string_view text);

  void flush();

  // Flushes, and from here on sends every write at once. True when something went by way of the relay, which
  // the caller must then wait for. `abandoned`: there is no caller that it could return to.
  bool finish(bool abandoned);

  // Whether it has not returned to its caller, and if that is gone will never do so.
  bool caller_waits();

  const ErlNifPid& caller() const { return caller_; }

  // The device of a stream, as a term of `env`.
  Term device(ErlNifEnv* env, Stream stream) const { return devices_.get(env, stream); }

  PyObject* main_module = nullptr;  // a weak reference to the module that is this evaluation's __main__
  PyObject* source = nullptr;       // the tuple of the code that it runs, see source.hpp; nullptr for none

  // What an operation that has no namespace works on, for as long as it does: with it code that asks for names of
  // `__main__` gets those that belong to these objects. Takes the reference; nullptr ends it. Attached, as all about objects here.
  void set_operands(PyObject* operands);

  // A new reference, nullptr for none.
  PyObject* operands();

  // What code has put in place of sys.stdin, sys.stdout and sys.stderr, see streams.hpp. A new reference, nullptr for none.
  static constexpr int stream_count = 3;
  PyObject* stream(int number);
  bool has_streams() const { return has_streams_; }

  // Whether any evaluation that is left has put something there. Printing asks.
  static bool any_has_streams() { return with_streams.load(std::memory_order_relaxed) != 0; }

  // Takes the reference; nullptr takes it away.
  void set_stream(int number, PyObject* stream);

 private:
  void send_buffer();

  ErlNifPid caller_;
  Devices devices_;
  AttachedMutex objects_mutex_;
  PyObject* operands_ = nullptr;
  PyObject* streams_[stream_count] = {};
  std::atomic<bool> has_streams_{false};  // whether there have been any
  static std::atomic<int> with_streams;   // evaluations of which that is true
  std::mutex mutex_;                      // of what follows
  std::string buffer_;
  Stream buffered_ = Stream::out;
  bool finished_ = false;
  bool abandoned_ = false;
  bool relayed_ = false;
};

using EvaluationPtr = std::shared_ptr<Evaluation>;

// What ties the threads and tasks of one interpreter to their evaluations: a context variable of that interpreter. All of it
// is called attached to that interpreter.
class EvaluationContext {
 public:
  EvaluationContext() = default;
  EvaluationContext(const EvaluationContext&) = delete;
  EvaluationContext& operator=(const EvaluationContext&) = delete;

  // Makes the variable; false with an exception set.
  bool init();

  // Drops it, before its interpreter ends. What that prints meanwhile goes where the latest evaluation printed.
  void clear();

  // See the functions of these names below.
  EvaluationPtr current();

  // The evaluation to whose devices the calling thread prints: unlike `current`, also one that has ended. A finalizer that
  // runs between two evaluations, or a `__repr__` that Elixir asks for, belongs to none, and the process's own standard
  // output is seen by nobody in a notebook. Null before the first evaluation.
  EvaluationPtr printing();
  PyObject* current_object();
  bool set_object(PyObject* object);

  // The evaluation that the calling thread or task is tied to, and no other; null for none.
  EvaluationPtr tied();

  // Makes the evaluation the calling thread's: a token for `leave`, or nullptr with an exception set.
  PyObject* enter(const EvaluationPtr& evaluation);
  void leave(PyObject* token);

 private:
  EvaluationPtr of_job();

  PyObject* variable_ = nullptr;
  AttachedMutex mutex_;
  EvaluationPtr latest_;  // for what nothing ties to an evaluation; kept after its end
};

// That of the main interpreter.
EvaluationContext& main_context();

// Makes the context variable of the main interpreter. Called once at boot, attached.
bool init_output();

// The evaluation that the calling thread or task belongs to; the latest one for a thread of unknown origin; may be
// null. Attached.
EvaluationPtr current_evaluation();

// Like the above without the fallback, as an opaque Python object (new reference), None when there is none.
PyObject* current_evaluation_object();

// Makes the evaluation in `object` (from current_evaluation_object) the calling thread's. False with an exception set.
bool set_evaluation_object(PyObject* object);

// Sets the calling thread's evaluation for a scope. Attached all the while.
class EvaluationScope {
 public:
  explicit EvaluationScope(const EvaluationPtr& evaluation, EvaluationContext& context = main_context())
      : context_(context), token_(context.enter(evaluation)) {}
  ~EvaluationScope() {
    if (token_ != nullptr) context_.leave(token_);
  }
  bool ok() const { return token_ != nullptr; }
  EvaluationScope(const EvaluationScope&) = delete;
  EvaluationScope& operator=(const EvaluationScope&) = delete;

 private:
  EvaluationContext& context_;
  PyObject* token_;
};

// From here on everything that is printed goes to the process's own standard streams: at halt no device may be left.
void print_to_process();

// sys.stdout.write and sys.stderr.write of an interpreter. Attached to it.
void write_output(Stream stream, std::string_view text, EvaluationContext& context = main_context());

void flush_output(EvaluationContext& context = main_context());

}  // namespace pythonx
