// A job: one piece of work that runs attached, on a thread of the bridge, for one Elixir process that waits.
//
// Ownership. A job lives in a resource. The caller's term, the queue and the thread that runs it each keep a
// reference to the resource, so a job outlives whichever of them ends first; its destructor runs without the GIL and
// may hold Python references only by giving them to `drop_later`.
//
// The reply. A caller that comes back at once is common, and sending it a message costs more than a small job does. So
// `submit` lingers for a few microseconds where a thread is awake to take the job; `handoff_` settles, in one exchange,
// whether the reply is left for it to take or sent as a message.
//
// Times. While somebody listens (`observe`) a job notes when it was submitted, started and attached, and its reply comes as
// {:observed, reply, {queued, waited for the GIL, thread}}, in nanoseconds, unless it never started.
//
// States: queued -> running -> done, each change under `mutex`. `cancelled` may be set in any state but done, and
// only ever by `cancel`. Once `abandon` or `cancel` returned, no reply is sent that had not been sent before.
#pragma once

#include <Python.h>
#include <pthread.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>

#include "term.hpp"

namespace pythonx {

struct Call;
struct Worker;

class Job {
 public:
  // `reference` tags the reply; it and everything else the job needs of the call is copied into `env()`.
  Job(ErlNifEnv* caller_env, Term reference);
  virtual ~Job();
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  // The work itself, attached; the reply is a term of `env()`.
  virtual Term run() = 0;

  // What Pythonx.running/0 shows: the first line of the code, or the name of the operation.
  virtual std::string label() const = 0;

  ErlNifEnv* env() const { return env_; }
  const ErlNifPid& caller() const { return caller_; }

  // Nobody waits for the reply any more: the caller is dead or has given up.
  bool is_abandoned();

 private:
  friend class ThreadPool;
  friend Term submit(ErlNifEnv* env, Job* job);
  friend bool linger(Job* job, bool awake);
  friend void watch_caller(ErlNifEnv* env, Job* job);

  enum class State { queued, running, done };
  enum class Handoff { lingering, gone, taken };

  ErlNifEnv* env_;
  Term reference_;
  ErlNifPid caller_;
  ErlNifMonitor monitor_{};
  bool monitored_ = false;
  void* resource_ = nullptr;
  Term reply_ = 0;
  std::atomic<Handoff> handoff_{Handoff::lingering};

  std::mutex mutex;
  std::atomic<State> state_{State::queued};
  std::atomic<bool> cancelled_{false};
  bool mute_ = false;  // nobody waits for the reply any more
  Worker* worker_ = nullptr;
  std::shared_ptr<Call> call_;   // while its thread waits for an answer of Elixir's
  Job* outer_ = nullptr;         // the job that this one interrupted on the same thread, by way of a callback
  std::uint64_t thread_id_ = 0;  // of the worker that has started it
  std::chrono::steady_clock::time_point started_at_{};

  bool observed_;
  std::chrono::steady_clock::time_point submitted_at_{};
  std::chrono::steady_clock::time_point attached_at_{};

  void note_attached();
  Term with_times(Term reply) const;
};

// Whether jobs that are made from now on are observed.
void observe(bool wanted);
bool is_observing();

// {:observed, reply, {queued, waited, thread}}
Term make_observed(ErlNifEnv* env, Term reply, std::chrono::nanoseconds queued,
                   std::chrono::nanoseconds waited, Term thread);

// Registers the resource type. Called once, when the library is loaded.
bool open_job_type(ErlNifEnv* env);

// Gives a job to the thread pool, which owns it from here on. Returns {:reply, reply} when the job has ended within a
// few microseconds; otherwise the term that `get_job` understands: the reply will come as a message, and when the
// calling process dies, the job is cancelled.
Term submit(ErlNifEnv* env, Job* job);

// The job behind a term, for as long as `env` keeps the term; nullptr for anything else.
Job* get_job(ErlNifEnv* env, Term term);

}  // namespace pythonx
