// A job: one piece of work that runs attached, on a thread of the bridge, for one Elixir process that waits.
//
// Ownership. A job is counted: the caller, the pool (its queue and then the thread that runs it) and whoever is about to
// interrupt it each hold a reference, so a job outlives whichever of them ends first; its destructor runs without the GIL
// and may give up Python references only by `drop_later`. A job whose reply is to come as a message has a resource, which
// holds a reference too: it is the caller's term for the job, and it watches the caller. The pool's side of the job keeps
// the resource in turn, until the reply is sent.
//
// The reply. A caller that comes back at once is common, and sending it a message costs more than a small job does. So
// `submit` lingers for a few microseconds where a thread is awake to take the job; `handoff_` settles, in one exchange,
// whether the reply is left for it to take or sent as a message. What only a message needs is made only then: the
// caller makes `resource_` and `message_env_` before it lets go, so the thread finds them there when it has to send.
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
#include <vector>

#include "threads/place.hpp"
#include "vm/term.hpp"

namespace pythonx {

class Evaluation;
struct Call;
struct Worker;

class Job {
 public:
  // What the job needs of the call's terms has to be copied into `env()`.
  explicit Job(ErlNifEnv* caller_env);

  // A job of the bridge's own, on behalf of a process that waits for no reply and does not end it by ending.
  explicit Job(const ErlNifPid& caller);
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  void retain() { references_.fetch_add(1, std::memory_order_relaxed); }
  void release() {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }

  // The work itself, attached. Returns the reply, a term of `env()`, or 0 when `make_reply` is to make it.
  virtual Term run() = 0;

  // What Pythonx.running/0 shows: the first line of the code, or the name of the operation. For whoever can tell that the
  // reply has not been sent: under the pool's mutex of what a thread has in hand, under the job's of what is not done.
  virtual std::string label() const = 0;

  // The evaluation that it is, for what runs in no context that tells; nullptr for any other work. On its thread, attached.
  virtual std::shared_ptr<Evaluation> evaluation() const { return nullptr; }

  // An environment for the job's terms, made when first asked for. Never asked for by two threads at once: it belongs to
  // the caller until the job is submitted, then to the thread that runs it.
  ErlNifEnv* env();
  ErlNifEnv* env() const { return env_; }  // nullptr if nobody asked for it yet
  const ErlNifPid& caller() const { return caller_; }

  // Nobody waits for the reply any more: the caller is dead or has given up.
  bool is_abandoned();

  // Whether Python's main thread, the one that signals reach, may run it.
  virtual bool may_run_on_main() const { return true; }

  // Whether what it leaves behind is its process's, to be found by that one's next job.
  virtual bool keeps_state() const { return true; }

  bool is_cancelled() const { return cancelled_; }
  bool is_done() const { return state_ == State::done; }
  std::uint64_t thread_id() const { return thread_id_; }  // 0 before it has started

 protected:
  virtual ~Job();

  // Makes a reply that is cheaper to make where it is wanted than to copy. Called once at most, detached.
  virtual Term make_reply(ErlNifEnv*) { return 0; }

 private:
  friend class ThreadPool;
  friend Term submit(ErlNifEnv* env, Term reference, Job* job);
  friend Term hand_over(ErlNifEnv* env, Term reference, Job* job);
  friend bool linger(Job* job, bool awake);
  friend bool let_go(Job* job, Term reference);
  friend void make_messenger(Job* job, Term reference);
  friend void watch_caller(ErlNifEnv* env, Job* job);

  enum class State { queued, running, done };
  enum class Handoff { lingering, gone, taken };
  // An interrupt that a worker found at no good place is owed, and paid where the job next imports something.
  enum class Owed { nothing, due, paid };

  std::atomic<int> references_{1};
  ErlNifEnv* env_ = nullptr;
  ErlNifEnv* message_env_ = nullptr;
  Term reference_ = 0;  // of message_env_: tags the message
  ErlNifPid caller_;
  ErlNifMonitor monitor_{};
  bool monitored_ = false;
  void* resource_ = nullptr;
  Term reply_ = 0;
  std::atomic<Handoff> handoff_{Handoff::lingering};

  std::mutex mutex;
  std::atomic<State> state_{State::queued};
  std::atomic<bool> cancelled_{false};
  std::atomic<bool> begun_{false};  // has had the GIL
  bool mute_ = false;               // nobody waits for the reply any more
  Worker* worker_ = nullptr;
  // How interrupts fare on their way; see pool_interrupts.cpp.
  std::atomic<int> signals_{0};          // sent to its thread for this job
  std::atomic<int> signals_seen_{0};     // by the handler
  PyFrameObject* put_off_at_ = nullptr;  // where the handler did nothing the last time; never followed
  int put_off_instruction_ = 0;
  int put_off_ = 0;             // how many came at risky places; belongs to the GIL
  std::atomic<int> in_hub_{0};  // how many were thrown by gevent's hub
  std::atomic<Owed> owed_{Owed::nothing};
  // The answers of Elixir's that it waits for: one, or with greenlets several.
  std::vector<std::shared_ptr<Call>> calls_;
  // Of a job on top of another, by way of a callback; both belong to the pool's mutex. See place.hpp.
  std::uint64_t number_ = 0;
  GreenletId greenlet_ = nullptr;
  std::uint64_t thread_id_ = 0;  // of the worker that has started it
  std::chrono::steady_clock::time_point started_at_{};

  bool observed_;
  std::chrono::steady_clock::time_point submitted_at_{};
  std::chrono::steady_clock::time_point attached_at_{};

  void note_attached();
  Term take_reply(ErlNifEnv* env);  // as a term of `env`; once at most, by whoever the handoff leaves it to
  Term with_times(ErlNifEnv* env, Term reply) const;
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
// few microseconds, or `ok` when that reply is in the caller's mailbox because it would be dear to copy; otherwise the term
// that `get_job` understands: the reply will come as a message, and when the calling process dies, the job is cancelled.
// `reference` tags the message.
Term submit(ErlNifEnv* env, Term reference, Job* job);

// The job behind a term, for as long as `env` keeps the term; nullptr for anything else.
Job* get_job(ErlNifEnv* env, Term term);

}  // namespace pythonx
