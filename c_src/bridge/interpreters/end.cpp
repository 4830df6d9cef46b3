// How interpreters other than the main one end: by being closed, or with the VM.
#include <unistd.h>

#include <utility>

#include "interpreters/interpreter.hpp"
#include "interpreters/object.hpp"
#include "interpreters/registry.hpp"
#include "threads/signals.hpp"

namespace pythonx {
namespace {

using Clock = std::chrono::steady_clock;

// How long threads that Python code has started may take to end by themselves when their interpreter is closed, and then
// to end when they are interrupted.
constexpr auto grace = std::chrono::milliseconds(100);
constexpr auto stop_deadline = std::chrono::milliseconds(2000);

}  // namespace

// --- Closing -------------------------------------------------------------------------------------------------------

bool Subinterpreter::closing() {
  std::lock_guard<std::mutex> lock(mutex_);
  return closing_;
}

bool Subinterpreter::close(ErlNifEnv* env) {
  SubinterpreterJobPtr running;
  std::deque<SubinterpreterJobPtr> waiting;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (closing_) return false;
    closing_ = true;
    running = current_;
    waiting.swap(queue_);
    wake_.notify_one();
  }
  for (const SubinterpreterJobPtr& job : waiting) job->refuse(atoms.closed, env);
  if (running != nullptr) cancel(running, false);
  return true;
}

Subinterpreter::Announcement Subinterpreter::announcement_for(ErlNifEnv* caller_env, Term reference) {
  ErlNifEnv* env = enif_alloc_env();
  Announcement announcement{{}, env, enif_make_copy(env, reference)};
  enif_self(caller_env, &announcement.pid);
  return announcement;
}

void Subinterpreter::announce_end(ErlNifEnv* caller_env, Term reference) {
  const Announcement announcement = announcement_for(caller_env, reference);
  Ended ended;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ended = ended_;
    if (ended == Ended::no) announcements_.push_back(announcement);
  }
  if (ended != Ended::no) send_end(caller_env, announcement, ended);
}

void Subinterpreter::send_end(ErlNifEnv* caller_env, const Announcement& to, Ended ended) {
  const Term what = ended == Ended::cleanly ? atoms.ended : atoms.abandoned;
  enif_send(caller_env, &to.pid, to.env, make_tuple(to.env, to.reference, what));
  enif_free_env(to.env);
}

// On the thread of the interpreter, detached, with `closing_` set: no job is or will be there.
void Subinterpreter::end() {
  {
    std::unique_lock<std::mutex> lock(mutex_);
    news_.wait(lock, [this] { return !interrupting_; });
  }
  PyEval_RestoreThread(state_);
  drop_forgotten();
  drop_all();
  bool alone = stop_threads();
  if (alone) {
    say_farewell();
    drop_main();
    alone = stop_threads();
  }
  Py_CLEAR(python_);
  context_.clear();
  if (alone) {
    Py_EndInterpreter(state_);
  } else {
    PyEval_SaveThread();
  }
  announce(alone ? Ended::cleanly : Ended::abandoned);
}

void Subinterpreter::announce(Ended ended) {
  std::vector<Announcement> announcements;
  HandleNode* node;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ended_ = ended;
    announcements.swap(announcements_);
    node = std::exchange(forgotten_, nullptr);
  }
  while (node != nullptr) {
    HandleNode* next = node->next_forgotten;
    delete node;
    node = next;
  }
  strike_off(this);
  for (const Announcement& announcement : announcements) send_end(nullptr, announcement, ended);
}

// Whether this is the only thread of the interpreter. Attached: threads come and go with the GIL only.
bool Subinterpreter::is_alone() const {
  PyThreadState* first = PyInterpreterState_ThreadHead(PyThreadState_GetInterpreter(state_));
  return first == state_ && PyThreadState_Next(first) == nullptr;
}

// Attached. Ends the threads that Python code has started, as at Python's own exit; what does not end soon is interrupted.
// False when some go on all the same.
bool Subinterpreter::stop_threads() {
  if (is_alone()) return true;
  PyObject* ident = PyObject_CallMethod(python_, "end_threads", nullptr);
  const unsigned long helper = ident == nullptr ? 0 : PyLong_AsUnsignedLong(ident);
  Py_XDECREF(ident);
  PyErr_Clear();
  const Clock::time_point start = Clock::now();
  Clock::time_point next_interrupt = start + grace;
  while (!is_alone()) {
    const Clock::time_point now = Clock::now();
    if (now - start > grace + stop_deadline) return false;
    if (now >= next_interrupt) {
      stop_other_threads(helper);
      next_interrupt = now + interrupt_interval;
    }
    PyThreadState* state = PyEval_SaveThread();
    usleep(2000);
    PyEval_RestoreThread(state);
  }
  return true;
}

void Subinterpreter::stop_other_threads(unsigned long spared) {
  std::vector<unsigned long> idents;
  PyThreadState* state = PyInterpreterState_ThreadHead(PyThreadState_GetInterpreter(state_));
  for (; state != nullptr; state = PyThreadState_Next(state)) {
    if (state != state_ && state->thread_id != spared) idents.push_back(state->thread_id);
  }
  for (const unsigned long ident : idents) PyThreadState_SetAsyncExc(ident, PyExc_SystemExit);
}

// Attached. Runs atexit handlers and flushes files.
void Subinterpreter::say_farewell() {
  PyObject* none = PyObject_CallMethod(python_, "farewell", nullptr);
  if (none == nullptr) PyErr_WriteUnraisable(python_);  // PyErr_Print would end the process for a SystemExit.
  Py_XDECREF(none);
}

// Attached. Frees the namespace of the last evaluation while all of Python is still there for its finalizers.
void Subinterpreter::drop_main() {
  PyObject* none = PyObject_CallMethod(python_, "drop_main", nullptr);
  if (none == nullptr) PyErr_WriteUnraisable(python_);
  Py_XDECREF(none);
}

// --- Halt ----------------------------------------------------------------------------------------------------------
// Interpreters are not ended when the VM halts, no more than the main one is: they do what Python would do at its exit, and
// stay as they are until the process is gone.

void Subinterpreter::begin_halt() {
  close_registry();
  for (const auto& interpreter : all_subinterpreters()) {
    SubinterpreterJobPtr running;
    {
      std::lock_guard<std::mutex> lock(interpreter->mutex_);
      interpreter->halting_ = true;
      running = interpreter->current_;
      interpreter->wake_.notify_one();
    }
    if (running != nullptr) interpreter->cancel(running, true);
  }
}

void Subinterpreter::await_halt(Clock::time_point deadline) {
  for (const auto& interpreter : all_subinterpreters()) {
    std::unique_lock<std::mutex> lock(interpreter->mutex_);
    interpreter->news_.wait_until(
        lock, deadline, [&] { return interpreter->farewell_said_ || interpreter->ended_ != Ended::no; });
  }
}

void Subinterpreter::rest_until_exit() {
  PyEval_RestoreThread(state_);
  say_farewell();
  PyEval_SaveThread();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    farewell_said_ = true;
    news_.notify_all();
  }
  for (;;) pause();
}

}  // namespace pythonx
