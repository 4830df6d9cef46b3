// A call from Python to an Elixir function, as the thread that waits for its answer sees it.
//
// The life of a call. Python calls a pythonx.Function on some thread. A message goes to Pythonx.Calls.Callbacks, which starts a
// process, the handler; that one takes the function and its arguments (`begin_call`), runs it, and answers
// (`answer_call`). Meanwhile the Python thread waits without the GIL.
//
// Threads. A thread of the bridge that waits also serves: jobs that the handler submits run on it, on top of the job
// that waits. What Python ties to the thread (sqlite3 connections, context variables, signals) so works in them too, and
// nesting needs no new threads and cannot run out of them. Jobs of any other process go to other threads, as do those of
// the handler while the thread is at one that it gave up, or, with greenlets, has left one for something else. Threads
// that Python code started itself have no worker: they wait, and the handler's jobs go to the pool.
//
// Ownership. A call is shared by the thread that waits, the job that runs on it (so that cancelling the job reaches
// the wait), the pool (while the handler's jobs are routed here) and the resource in the message. When the last copy of
// that resource is gone without an answer, nobody can give one any more, and the wait ends with an error.
//
// A call from a coroutine has no thread that waits. Its answer is given to a Python callable, the resolver, by a job
// that the answering process submits (`resolve_call`).
//
// Locks. All fields that change belong to the pool's mutex, which is a leaf. `Job::calls_` belongs to the job's.
#pragma once

#include <Python.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <vector>

#include "threads/job.hpp"

namespace pythonx {

class Evaluation;
struct Worker;

enum class CallState { open, answered, interrupted, abandoned };

struct Call {
  Call();
  ~Call();
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  std::uint64_t id;
  std::shared_ptr<Evaluation> evaluation;  // that the calling thread belongs to; may be null
  Worker* worker = nullptr;         // of the thread that waits; nullptr for one that is not the bridge's
  std::vector<GreenletId> lineage;  // of the greenlet that waits, where there is a worker

  ErlNifEnv* request_env;  // holds {function, arguments, binaries_as_str}
  Term request = 0;

  std::atomic<PyObject*> resolver{nullptr};  // of a call from a coroutine: callable(error, value); owned
  bool binaries_as_str = false;

  std::condition_variable wake;
  std::atomic<bool> news{
      false};              // the call has ended, or its inbox is not empty; for the thread that waits awake
  bool signalled = false;  // a signal has come for the job that waits
  PyObject* raised = nullptr;  // what its handler raised, owned; of the thread that waits
  CallState state = CallState::open;
  bool closed = false;  // the thread no longer waits
  ErlNifEnv* answer_env = nullptr;
  Term answer = 0;
  std::deque<Job*> inbox;  // jobs of the handler, to be run by the thread that waits
  bool serving = false;    // it runs one of them
  bool hosted = false;
  ErlNifPid handler{};
};

using CallPtr = std::shared_ptr<Call>;

// Tells Elixir that nobody wants the answer of a call any more: its handler is killed.
void cancel_call(std::uint64_t id);

}  // namespace pythonx
