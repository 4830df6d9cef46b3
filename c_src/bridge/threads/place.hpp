// Which of a thread's jobs runs at a moment.
//
// A thread has more than one job when a job waits for Elixir code that evaluates Python: that runs on top of it. As long as
// the C stack is what it seems, the last to begin is the one that runs. Greenlets (gevent, eventlet, SQLAlchemy) are not:
// each has a C stack of its own, put aside and brought back under the same thread, so that a job may be left in the middle
// for another and jobs end in any order. But within one greenlet they are a stack. So
//
//   * on its own thread a job is known by the greenlet that it began in: what runs is the last job of the current greenlet,
//     or, where that has none, of its parent, and so on up to the thread's main greenlet;
//   * seen from another thread, which cannot ask for the greenlet, by a context variable that each job on top of another sets
//     to its number: greenlets have contexts of their own. What has no number belongs to the main greenlet.
//
// All of it is called attached.
#pragma once

#include <Python.h>

#include <cstdint>
#include <vector>

namespace pythonx {

// A greenlet's identity: its address, which no other has while a job is in it. nullptr is a thread's main greenlet, or the
// only stack of a thread without any.
using GreenletId = const void*;

// Makes the context variable. Called once at boot; false with an exception set.
bool init_places();

// Takes note of the module greenlet, which has been imported, by its function that returns the current one.
void use_greenlets(PyObject* getcurrent);

// Whether it has been. Needs no GIL.
bool greenlets_in_use();

// The calling thread's greenlet and its ancestors. The last one is nullptr.
std::vector<GreenletId> greenlet_lineage();

// Takes note of gevent's hub, the greenlet that waits for all others, by the code that it runs.
void use_hub(PyObject* code);

// Whether there may be one. Needs no GIL.
bool hubs_in_use();

// The frame in which a hub waits, if that is what a frame, or one that has called it not far off, belongs to: a new reference, or
// nullptr. Runs no Python code, and so keeps the GIL.
PyFrameObject* hub_frame(PyFrameObject* innermost);

// Destroys what gevent has made for the calling thread, which does not go on as it was.
void destroy_hub();

// Sets the number in the calling thread's context for a scope.
class JobNumber {
 public:
  explicit JobNumber(std::uint64_t number);
  ~JobNumber();
  JobNumber(const JobNumber&) = delete;
  JobNumber& operator=(const JobNumber&) = delete;

 private:
  PyObject* previous_ = nullptr;
  PyObject* token_;
};

// The number in the context of a thread that does not run meanwhile, 0 for none.
std::uint64_t job_number_of(PyThreadState* state);

}  // namespace pythonx
