// Attaching threads to the interpreter, and the order of locks.
//
// The rule, for every file of the bridge:
//   1. Never wait for the GIL while holding a mutex.
//   2. Never take, while attached, a mutex whose holder may wait for the GIL.
// All mutexes of the bridge are leaves: their holders neither attach nor call Python nor take a second mutex,
// but for `Job::mutex`, under which the interrupter, attached already, looks at the frames of a thread and
// leaves it an exception.
//
// Every thread that attaches has one thread state, made at its first attach and kept for the thread's life.
// (One per call would lose threading.local, and crash wheels built with an older pybind11, its issue 2888.)
//
// A scheduler of the VM never waits for the GIL: while C code holds it, as many of them as wait would be missing for the work of
// everybody (collections of large heaps, :crypto, :re). So a native function, on whichever scheduler, takes the GIL with
// TryAttach, if it is free now or within the time that handing the work over would take; otherwise the work is a job's
// (:needs_thread), whose caller waits for a message. Only one scheduler at a time is between looking and taking: should another
// thread be faster in that moment, one scheduler waits for it, never more.
// A walk that has held the GIL for a millisecond goes on while nobody else wants it (is_gil_wanted). Otherwise it lets go, and has
// it back if that takes a millisecond at most; if not, it is given up for a thread, and what it has made is left to be dropped by
// others. Long walks let schedulers in, as CPython gives the GIL only to those who have asked it for 5 ms (Handoff).
// Whether the GIL is free is read where CPython keeps it, which no function tells: see python/gil_watch.cpp.
//
// A thread is always in a Context (of context variables) that it has entered: one of its own, from its first attach to its end,
// or that of the process that it works for. Not the nameless one that Python would make: only a Context can be lent (see
// ContextLoan), and given to the process in the end.
#pragma once

#include <Python.h>

#include <chrono>
#include <cstddef>

namespace pythonx {

// Attaches the calling thread for a scope. Must not be attached already. What there may be a thousand of waits in line: jobs. Who
// has to come through to end one of these does not.
class Attach {
 public:
  enum Order { at_once, in_line };

  explicit Attach(Order order = at_once);
  ~Attach();
  Attach(const Attach&) = delete;
  Attach& operator=(const Attach&) = delete;
};

// Attaches the calling scheduler for a scope, if that takes no wait.
class TryAttach {
 public:
  TryAttach();
  ~TryAttach();
  TryAttach(const TryAttach&) = delete;
  TryAttach& operator=(const TryAttach&) = delete;

  explicit operator bool() const { return attached_; }

  // On an attached scheduler: lets others have the GIL. False when it was not to be had again: then the scheduler is not attached
  // any more, and what it holds of Python can only be left to drop_later.
  static bool let_others();

 private:
  bool attached_;
};

// On an attached scheduler: whether another thread wants the GIL. Before 3.13 CPython does not tell, so there it is whether one
// is in Python at all.
bool is_gil_wanted();

// Detaches the calling thread for a scope.
class Detach {
 public:
  Detach();
  ~Detach();
  Detach(const Detach&) = delete;
  Detach& operator=(const Detach&) = delete;

 private:
  PyThreadState* state_;
  bool is_main_;
};

// Enters a context, or a copy of it, for what follows until `leave_context`. It is a copy too where some thread is still in it.
// Attached.
void enter_context(PyObject* context, bool copy);

// Leaves the context in which the thread is. It is given away if it holds anything, as a new reference in `left`; the thread's
// own is then replaced by an empty one. False when code has left the thread in some context that is not ours: then a copy is given
// away. Attached.
bool leave_context(PyObject** left);

// Lends the calling thread's context to another thread for a scope, while this one waits for it. Attached.
//
// A context may be entered by one thread at a time. It is left here and entered again at the end. Where that thread may
// still be in it, because the wait was broken off with an exception, this thread goes on in a copy.
class ContextLoan {
 public:
  ContextLoan();
  ~ContextLoan();
  ContextLoan(const ContextLoan&) = delete;
  ContextLoan& operator=(const ContextLoan&) = delete;

  // The context, or None where there is none to lend: user code that runs in a Context of its own, Python 3.10, in which
  // no task can be given one.
  PyObject* context() const { return lent_ ? context_ : Py_None; }

 private:
  PyObject* context_;
  bool lent_ = false;
};

// Whether the calling thread is attached to the main interpreter. (PyGILState_Check says yes of every thread once there is
// a second interpreter.)
bool is_attached();

// Makes `state` the thread state of the calling thread, which must be attached with it (Python's main thread, whose
// state Python makes itself). The first to be called.
void adopt_thread_state(PyThreadState* state);

// Ends the Python life of the calling thread, which must be detached and about to exit.
void discard_thread_state();

// Lets other threads have the GIL about every millisecond of a long conversion, schedulers that wait for it first.
// After `tick` returned true anything borrowed from a Python container must be fetched again.
class Handoff {
 public:
  // The clock may begin to run when it is looked at first, after a thousand short steps that many a walk does not make.
  enum Clock { runs, begins_later };
  explicit Handoff(Clock clock = runs) {
    if (clock == runs) restart();
  }
  ~Handoff();
  Handoff(const Handoff&) = delete;
  Handoff& operator=(const Handoff&) = delete;

  bool tick(std::size_t elements = 1) {
    if ((count_ += elements) < interval) return false;
    count_ = 0;
    return pause_if_due();
  }

  // Whether a millisecond has passed since the last time, without letting go.
  bool is_due();
  // For a walk that will let others in from now on.
  void share();
  void restart() { last_ = std::chrono::steady_clock::now(); }

 private:
  static constexpr std::size_t interval = 1024;
  bool pause_if_due();

  std::size_t count_ = 0;
  bool shares_ = false;  // it has let go, and will do so again
  std::chrono::steady_clock::time_point last_{};
};

}  // namespace pythonx
