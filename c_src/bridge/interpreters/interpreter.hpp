// Interpreters with a GIL of their own, beside the main one (which is `interpreter`). Python 3.12 and later.
//
// One thread serves each: it makes the interpreter, runs its jobs one after the other, drops the references that handles let
// go of, and ends it. So what belongs to the interpreter is touched by that thread alone, but for what Python code starts
// there itself and for the interrupter (below).
//
// No Python object of one interpreter may be touched in another. All statics of the bridge that hold objects belong to the
// main interpreter, pybind11's too: nothing that runs here may use them. Where code is shared (`encode`, `decode`) it is
// told the interpreter.
//
// Ownership. The Subinterpreter itself is shared by its resource (the `resource` of a %Pythonx.Interpreter{}), by handles,
// by its thread and, while it is open, by the list of all. Each handle and each job keeps the resource alive. The interpreter
// is closed when it is asked to, when its owner dies, and when the resource is collected, so when nothing in Elixir refers
// to the interpreter or to an object of it any more.
//
// Closing. `closing_` is set once. Jobs that wait are refused, the one that runs is interrupted. Then the thread drops the
// references of all handles, which are dead from there on, stops what threads Python code has started, and ends the
// interpreter. Threads that do not stop are fatal to Py_EndInterpreter; then the interpreter is abandoned with them.
//
// Locks. `mutex_` and each job's mutex are leaves, see python/gil.hpp: their holders neither attach nor take another, but that the
// job's may be taken under `mutex_`. Nothing is destroyed under either that could be the last of its kind.
#pragma once

#include <Python.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "conversion/handles.hpp"
#include "interpreters/job.hpp"
#include "vm/term.hpp"
#include "work/output.hpp"

namespace pythonx {

struct HandleNode;

// Whether this Python has interpreters with a GIL of their own.
constexpr bool has_own_gil_interpreters = PY_VERSION_HEX >= 0x030C0000;

class Subinterpreter final : public std::enable_shared_from_this<Subinterpreter>, public Handles {
 public:
  enum class Ended { no, cleanly, abandoned };

  // What `enroll` says when there is an interpreter of that name.
  static constexpr const char* name_taken = "there is an interpreter of that name";

  // Starts its thread, which makes the interpreter and then sends {reference, :ok | {:error, reason}} to the calling process:
  // that takes the main interpreter's GIL, which no scheduler waits for. False when there is no thread to be had. Once, on what
  // `enroll` has made and has a resource.
  bool open(ErlNifEnv* caller_env, Term reference);

  explicit Subinterpreter(std::string name) : name_(std::move(name)) {}
  ~Subinterpreter();
  Subinterpreter(const Subinterpreter&) = delete;
  Subinterpreter& operator=(const Subinterpreter&) = delete;

  const std::string& name() const { return name_; }

  // The resource that stands for this interpreter. Set before anybody else knows the interpreter.
  void set_resource(void* resource) { resource_ = resource; }
  void* resource() const { return resource_; }

  // Adds a job to those that wait; false when the interpreter is closed.
  bool submit(const SubinterpreterJobPtr& job);

  // Stops the job: what runs gets a KeyboardInterrupt, again every 50 ms until it ends; what waits never starts. With `mute`
  // no reply will be sent that has not been sent before. False when the job had ended already.
  bool cancel(const SubinterpreterJobPtr& job, bool mute);

  // Cancels what this process runs here; false when it runs nothing.
  bool interrupt(const ErlNifPid& caller);

  // Closes the interpreter, without waiting for it; false when it is closed already. `env` is that of the calling process or
  // callback, as everything that is sent on a thread of the VM's needs.
  bool close(ErlNifEnv* env);

  // Sends {reference, :ended | :abandoned} to the calling process once the interpreter is closed and gone.
  void announce_end(ErlNifEnv* caller_env, Term reference);

  bool closing();

  // Appends {pid, name, elapsed_us, label} for the job that runs, if one does.
  Term running(ErlNifEnv* env, Term list);

  // The following are for the thread of the interpreter, attached to it.

  // The module pythonx._interpreter there.
  PyObject* python() const { return python_; }
  EvaluationContext& context() { return context_; }

  // Its handles (interpreters/object.cpp).
  Term make_handle(ErlNifEnv* env, PyObject* object) override;
  PyObject* get_handle(ErlNifEnv* env, Term term) const override;

  // A handle was made.
  void add(HandleNode* node);

  // A handle was collected: on any thread, attached or not. The node is the interpreter's from here on.
  void forget(HandleNode* node);

  // At halt: refuses work, interrupts what runs, and has each run its atexit handlers; `await` waits for that.
  static void begin_halt();
  static void await_halt(std::chrono::steady_clock::time_point deadline);

 private:
  struct Announcement {
    ErlNifPid pid;
    ErlNifEnv* env;
    Term reference;
  };

  static Announcement announcement_for(ErlNifEnv* caller_env, Term reference);

  static void* thread_main(void* self);
  static void* interrupter_main(void* self);
  std::string start();
  std::string make_interpreter();
  std::string boot_python_side();
  void report_start(const std::string& failure);
  void serve();
  bool next(SubinterpreterJobPtr* job);
  void run(const SubinterpreterJobPtr& job);
  void drop_forgotten();
  void drop_all();
  void end();
  bool stop_threads();
  bool is_alone() const;
  void stop_other_threads(unsigned long spared);
  void say_farewell();
  void drop_main();
  [[noreturn]] void rest_until_exit();
  void announce(Ended ended);
  static void send_end(ErlNifEnv* caller_env, const Announcement& to, Ended ended);
  void start_interrupter(const SubinterpreterJobPtr& job);
  void interrupt_running();
  bool await_interrupter();
  static void report(const SubinterpreterJobPtr& job, Term what);

  const std::string name_;
  void* resource_ = nullptr;

  // Of its thread.
  Announcement opener_{};
  PyThreadState* state_ = nullptr;
  PyObject* python_ = nullptr;
  EvaluationContext context_;
  HandleNode* nodes_ = nullptr;  // of all handles
  unsigned long python_id_ = 0;  // threading.get_ident(), for PyThreadState_SetAsyncExc

  std::mutex mutex_;
  std::condition_variable wake_;              // its thread
  std::condition_variable interrupter_wake_;  // its interrupter
  std::condition_variable news_;              // whoever waits for it to halt, or for its interrupter to end
  std::deque<SubinterpreterJobPtr> queue_;
  SubinterpreterJobPtr current_;
  HandleNode* forgotten_ = nullptr;
  std::vector<Announcement> announcements_;
  bool interrupting_ = false;  // the interrupter lives
  bool closing_ = false;
  bool halting_ = false;
  bool farewell_said_ = false;
  Ended ended_ = Ended::no;
};

}  // namespace pythonx
