// Above 400 lines: the life of an interpreter from opening to closing, whose steps follow from each other.
#include "interpreters/interpreter.hpp"

#include <unistd.h>

#include "interpreters/module.hpp"
#include "interpreters/object.hpp"
#include "interpreters/registry.hpp"
#include "python/gil.hpp"
#include "python/runtime.hpp"
#include "threads/pool.hpp"
#include "threads/signals.hpp"
#include "vm/system.hpp"

namespace pythonx {
namespace {

using Clock = std::chrono::steady_clock;
using Pointer = std::shared_ptr<Subinterpreter>;

// How soon the next try comes after an interrupt that could have done harm where the code was.
constexpr auto put_off_interval = std::chrono::milliseconds(1);

// How long a thread may go on after it was interrupted before somebody is told.
constexpr auto patience = std::chrono::seconds(1);

// Interpreters are made one after the other: CPython swaps allocators of the whole process meanwhile (its issue 123134). Its
// holder waits for the main interpreter's GIL, against the rule, which is no harm: no attached thread ever takes it.
std::mutex& creation_mutex() {
  static auto* instance = new std::mutex;
  return *instance;
}

// Starts a detached thread, which gets a reference to the interpreter.
bool start_thread(void* (*function)(void*), const Pointer& interpreter, std::size_t stack) {
  auto* argument = new Pointer(interpreter);
  if (start_detached(function, argument, stack)) return true;
  delete argument;
  return false;
}

Pointer take_argument(void* argument) {
  auto* shared = static_cast<Pointer*>(argument);
  Pointer pointer = std::move(*shared);
  delete shared;
  return pointer;
}

// The exception that is set, as text.
std::string take_message() {
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  PyObject* text = value == nullptr ? nullptr : PyObject_Str(value);
  const char* utf8 = text == nullptr ? nullptr : PyUnicode_AsUTF8(text);
  std::string message = utf8 == nullptr ? "unknown error" : utf8;
  Py_XDECREF(text);
  Py_XDECREF(type);
  Py_XDECREF(value);
  Py_XDECREF(traceback);
  PyErr_Clear();
  return message;
}

}  // namespace

// --- Opening -------------------------------------------------------------------------------------------------------

bool Subinterpreter::open(ErlNifEnv* caller_env, Term reference) {
  opener_ = announcement_for(caller_env, reference);
  if (start_thread(thread_main, shared_from_this(), python_stack_size)) return true;
  enif_free_env(opener_.env);
  strike_off(this);
  return false;
}

Subinterpreter::~Subinterpreter() = default;

void* Subinterpreter::thread_main(void* argument) {
  const Pointer self = take_argument(argument);
  name_thread("python_interp");
  const std::string failure = self->start();
  if (!failure.empty())
    self->announce(Ended::cleanly);  // First: its name is free when the caller hears of it.
  self->report_start(failure);
  if (failure.empty()) {
    self->serve();
    self->end();
  }
  return nullptr;
}

void Subinterpreter::report_start(const std::string& failure) {
  const Announcement to = opener_;
  const Term answer =
      failure.empty() ? atoms.ok : make_tuple(to.env, atoms.error, make_binary(to.env, failure));
  enif_send(nullptr, &to.pid, to.env, make_tuple(to.env, to.reference, answer));
  enif_free_env(to.env);
}

// To make an interpreter takes a thread state of the main one, which is given up afterwards: this thread never needs it
// again.
std::string Subinterpreter::start() {
  const std::lock_guard<std::mutex> turn(creation_mutex());
  std::string failure;
  {
    const Attach attached;
    PyThreadState* main_state = PyThreadState_Get();
    failure = make_interpreter();
    if (state_ != nullptr) {
      PyEval_SaveThread();
      PyEval_RestoreThread(main_state);
    }
  }
  discard_thread_state();
  return failure;
}

#if PY_VERSION_HEX >= 0x030C0000

// Attached to the main interpreter on entry; to the new one on return, if `state_` is set.
std::string Subinterpreter::make_interpreter() {
  PyThreadState* main_state = PyThreadState_Get();
  PyInterpreterConfig config{};
  config.use_main_obmalloc = 0;
  config.allow_fork = 0;
  config.allow_exec = 0;
  config.allow_threads = 1;
  config.allow_daemon_threads = 0;
  config.check_multi_interp_extensions = 1;
  config.gil = PyInterpreterConfig_OWN_GIL;
  PyThreadState* state = nullptr;
  const PyStatus status = Py_NewInterpreterFromConfig(&state, &config);
  if (PyStatus_Exception(status)) return status.err_msg == nullptr ? "unknown error" : status.err_msg;
  python_id_ = PyThread_get_thread_ident();
  const std::string failure = boot_python_side();
  if (failure.empty()) {
    state_ = state;
  } else {
    Py_CLEAR(python_);
    context_.clear();
    Py_EndInterpreter(state);
    PyEval_RestoreThread(main_state);
  }
  return failure;
}

#else

std::string Subinterpreter::make_interpreter() {
  return "interpreters with a GIL of their own need Python 3.12";
}

#endif

// The Python side: priv/python/pythonx/_interpreter.py. The package that it is in, whose native side belongs to the main
// interpreter, is not imported: an empty one stands for it.
std::string Subinterpreter::boot_python_side() {
  const BootConfig& config = boot_config();
  bool ok = context_.init() && add_subinterpreter_modules(context_, config.python_dir + "/pythonx");
  python_ = ok ? PyImport_ImportModule("pythonx._interpreter") : nullptr;
  PyObject* paths = python_ == nullptr ? nullptr : PyList_New(0);
  ok = paths != nullptr;
  for (const std::string& path : config.sys_paths) {
    PyObject* text = ok ? PyUnicode_DecodeFSDefault(path.c_str()) : nullptr;
    ok = text != nullptr && PyList_Append(paths, text) == 0;
    Py_XDECREF(text);
  }
  PyObject* none = ok ? PyObject_CallMethod(python_, "boot", "sO", name_.c_str(), paths) : nullptr;
  Py_XDECREF(paths);
  if (none == nullptr) return take_message();
  Py_DECREF(none);
  return "";
}

// --- Jobs ----------------------------------------------------------------------------------------------------------

bool Subinterpreter::submit(const SubinterpreterJobPtr& job) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (closing_ || halting_) return false;
  queue_.push_back(job);
  wake_.notify_one();
  return true;
}

void Subinterpreter::serve() {
  SubinterpreterJobPtr job;
  while (next(&job)) {
    if (job != nullptr) {
      run(job);
      // The job may be what kept the interpreter open, so it goes while no mutex is held.
      job = nullptr;
    } else {
      // A moment's patience makes one batch of what a collection drops.
      usleep(1000);
      PyEval_RestoreThread(state_);
      drop_forgotten();
      PyEval_SaveThread();
    }
  }
}

// Waits for something to do: a job, or references to drop. False when the interpreter is to end.
bool Subinterpreter::next(SubinterpreterJobPtr* job) {
  std::unique_lock<std::mutex> lock(mutex_);
  wake_.wait(lock, [this] { return closing_ || halting_ || !queue_.empty() || forgotten_ != nullptr; });
  if (halting_) {
    lock.unlock();
    rest_until_exit();
  }
  if (closing_) return false;
  if (!queue_.empty()) {
    *job = std::move(queue_.front());
    queue_.pop_front();
    current_ = *job;
  }
  return true;
}

void Subinterpreter::run(const SubinterpreterJobPtr& job) {
  Term reply = 0;
  if (job->start()) {
    PyEval_RestoreThread(state_);
    reply = job->run();
    // An interrupt that was sent and has not fired would hit the next job.
    if (job->finish()) PyThreadState_SetAsyncExc(python_id_, nullptr);
    drop_forgotten();
    PyEval_SaveThread();
  }
  SubinterpreterJobPtr ended;
  bool closed;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ended.swap(current_);
    closed = closing_ || halting_;
    interrupter_wake_.notify_one();
  }
  // Handles in the reply would be dead.
  if (closed) return job->refuse(atoms.closing);
  if (reply == 0) return job->refuse(atoms.cancelled);
  job->deliver(reply);
}

// --- Handles -------------------------------------------------------------------------------------------------------

void Subinterpreter::add(HandleNode* node) {
  node->next = nodes_;
  if (nodes_ != nullptr) nodes_->previous = node;
  nodes_ = node;
}

void Subinterpreter::forget(HandleNode* node) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (ended_ == Ended::no) {
      node->next_forgotten = forgotten_;
      forgotten_ = node;
      if (node->next_forgotten == nullptr) wake_.notify_one();
      return;
    }
  }
  delete node;
}

// Attached. Drops the references of handles that were collected.
void Subinterpreter::drop_forgotten() {
  HandleNode* node;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    node = std::exchange(forgotten_, nullptr);
  }
  while (node != nullptr) {
    HandleNode* next = node->next_forgotten;
    (node->previous == nullptr ? nodes_ : node->previous->next) = node->next;
    if (node->next != nullptr) node->next->previous = node->previous;
    PyObject* object = node->object;
    delete node;
    // Code may run here that makes handles dead, but none that walks the list.
    Py_XDECREF(object);
    node = next;
  }
}

// Attached. Drops the references of all handles, which are dead from here on.
void Subinterpreter::drop_all() {
  for (HandleNode* node = nodes_; node != nullptr; node = node->next) Py_CLEAR(node->object);
}

// --- Interrupts ----------------------------------------------------------------------------------------------------

bool Subinterpreter::cancel(const SubinterpreterJobPtr& job, bool mute) {
  if (!job->cancel(mute)) return false;
  start_interrupter(job);
  return true;
}

bool Subinterpreter::interrupt(const ErlNifPid& caller) {
  SubinterpreterJobPtr job;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    job = current_;
  }
  return job != nullptr && enif_compare_pids(&job->caller(), &caller) == 0 && cancel(job, false);
}

// An interrupt is sent by a thread of its own, which lives as long as there is something to interrupt: it has to wait for
// the interpreter's GIL, which a C call may keep for long, and may not hold up the interrupts of others meanwhile.
void Subinterpreter::start_interrupter(const SubinterpreterJobPtr& job) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (current_ != job || interrupting_ || ended_ != Ended::no) return;
    interrupting_ = true;
  }
  if (start_thread(interrupter_main, shared_from_this(), small_stack_size)) return;
  std::lock_guard<std::mutex> lock(mutex_);
  interrupting_ = false;
  news_.notify_all();
}

void* Subinterpreter::interrupter_main(void* argument) {
  const Pointer self = take_argument(argument);
  name_thread("python_interrup");
  do {
    self->interrupt_running();
  } while (self->await_interrupter());
  return nullptr;
}

// Interrupts the job that runs until it ends. Its thread state is gone before the interpreter may end: `interrupting_`.
void Subinterpreter::interrupt_running() {
  PyThreadState* state = PyThreadState_New(PyThreadState_GetInterpreter(state_));
  const Clock::time_point since = Clock::now();
  SubinterpreterJobPtr reported;
  for (;;) {
    PyEval_RestoreThread(state);
    SubinterpreterJobPtr job;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      job = current_;
    }
    using Raised = SubinterpreterJob::Raised;
    const Raised raised = job != nullptr && job->cancelled() ? job->raise_in(state_) : Raised::too_late;
    if (raised == Raised::too_late) break;
    PyEval_SaveThread();
    if (reported == nullptr && Clock::now() - since > patience) report(reported = job, atoms.stuck);
    std::unique_lock<std::mutex> lock(mutex_);
    interrupter_wake_.wait_for(lock, raised == Raised::put_off ? put_off_interval : interrupt_interval,
                               [&] { return current_ != job; });
  }
  PyThreadState_Clear(state);
  PyThreadState_DeleteCurrent();
  if (reported != nullptr) report(reported, atoms.freed);
}

// True when there is more to interrupt by now.
bool Subinterpreter::await_interrupter() {
  SubinterpreterJobPtr job;
  std::lock_guard<std::mutex> lock(mutex_);
  job = current_;
  if (job != nullptr && job->cancelled()) return true;
  interrupting_ = false;
  news_.notify_all();
  return false;
}

// Sends {:pythonx_event, :stuck | :freed, caller, elapsed_us, code} to Pythonx.Calls.Watch.
void Subinterpreter::report(const SubinterpreterJobPtr& job, Term what) {
  ErlNifPid watch;
  if (!enif_whereis_pid(nullptr, atoms.watch, &watch)) return;
  ErlNifEnv* env = enif_alloc_env();
  const auto elapsed =
      std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - job->started_at());
  enif_send(nullptr, &watch, env,
            make_tuple(env, atoms.pythonx_event, what, enif_make_pid(env, &job->caller()),
                       enif_make_int64(env, elapsed.count()), make_binary(env, job->label())));
  enif_free_env(env);
}

Term Subinterpreter::running(ErlNifEnv* env, Term list) {
  SubinterpreterJobPtr job;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    job = current_;
  }
  if (job == nullptr) return list;
  const auto elapsed =
      std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - job->started_at());
  const Term entry = make_tuple(env, enif_make_pid(env, &job->caller()), make_binary(env, name_),
                                enif_make_int64(env, elapsed.count()), make_binary(env, job->label()));
  return enif_make_list_cell(env, entry, list);
}

}  // namespace pythonx
