// The threads that run Python.
//
// Arbitrary Python code runs here and nowhere else: a dirty scheduler's 328 KiB of stack let CPython crash the VM on
// deep data, and there are only as many of them as cores. Each thread has a stack of 16 MiB and one thread state for
// life. One of them initialised Python and so is its main thread, the only one that signals reach.
//
// A process gets the thread that served it first whenever that one is free, which is the main thread if that was free then,
// so that what Python ties to a thread (sqlite3 connections, threading.local) works from one evaluation to the next.
// Threads are added when all are busy and retire when idle, unless a living process is tied to them.
#pragma once

#include <pthread.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "threads/call.hpp"
#include "threads/job.hpp"

namespace pythonx {

// A thread of the bridge. All fields belong to the pool's mutex, but for reading the atomic ones.
struct Worker {
  std::uint64_t id = 0;
  bool is_main = false;
  bool idle = false;
  pthread_t thread{};
  unsigned long python_id = 0;  // threading.get_ident(), for PyThreadState_SetAsyncExc
  std::condition_variable wake;
  std::atomic<Job*> inbox{nullptr};
  std::atomic<bool> awake{false};  // spinning, see ThreadPool::spin
  // The jobs that it has begun, or is about to begin, and not ended, in that order. Each is kept by the pool's reference, for
  // whoever finds it here under the pool's mutex, until it is taken out: from the middle as well, see place.hpp.
  std::vector<Job*> jobs;
  bool end_left = false;        // it is idle, but for greenlets that it has left, whose jobs are to end
  bool exception_sent = false;  // an interrupt may be pending in Python; belongs to the GIL
  std::atomic<PyThreadState*> state{nullptr};  // once it has attached
};

struct PoolLimits {
  std::size_t max_threads = 2048;
  std::chrono::milliseconds idle_time{5000};
};

class ThreadPool {
 public:
  // Never destroyed: its threads outlive every static destructor.
  static ThreadPool& instance();

  // Starts the calling thread's life as Python's main thread: serves jobs for ever. Detached on entry.
  [[noreturn]] void serve_as_main();

  // True when the thread that got the job is awake, so that a short job will have ended in microseconds.
  bool submit(Job* job);

  // Stops the job. Its thread gets a KeyboardInterrupt, again every 50 ms until it ends; a queued job never starts.
  // With `mute` the caller no longer waits: its reply is dropped. False when the job had ended already.
  bool cancel(Job* job, bool mute);

  // Interrupts what the process runs now; false when it runs nothing.
  bool interrupt(const ErlNifPid& pid);

  // Replaces the default limits.
  void configure(const PoolLimits& limits);

  // A list of maps: what runs now.
  Term running(ErlNifEnv* env);

  // Refuses new work and interrupts what runs. Used at halt.
  void shut_down();

  // Has the main thread run `farewell`, attached, when it is free, as the last thing it ever does. False where there is none.
  bool run_last(void (*farewell)());

  // Whether the calling thread's job was cancelled, is still running, and may be interrupted where its innermost frame is:
  // for the signal handler.
  bool may_interrupt(PyFrameObject* frame);

  // Whether the calling thread's job is owed an interrupt, which it then has got.
  bool take_owed_interrupt();

  // For the hub of gevent, see throw_in_hub.
  bool is_interrupted(std::uint64_t number);

  std::size_t thread_count();

  // Calls from Python to Elixir (pool_calls.cpp). The first end of a call counts: an answer, or one of the others.
  void host(const CallPtr& call, const ErlNifPid& handler);
  bool answer(const CallPtr& call, ErlNifEnv* env, Term answer);  // takes `env` when it returns true
  bool end_call(const CallPtr& call, CallState state);
  CallState await_answer(const CallPtr& call);

  // What the calling thread runs at the moment, nullptr where that is no job. The job does not end before the caller of this
  // returns to its own caller. Attached.
  Job* current_job();

  // The calling thread as one of the pool's, nullptr for any other.
  static Worker* current_worker();

  // The loop of the thread that sends interrupts, each again until its job ends. This, and whatever else stops jobs, is in
  // pool_interrupts.cpp.
  [[noreturn]] void serve_interrupts();

  // Signals for Python (pool_signals.cpp). Something has come: that thread is to bring it to those whom it concerns.
  void note_signals();

  // Whether the calling thread runs a job of the process, and the process of the job that it runs.
  bool works_for(const ErlNifPid& pid);
  static bool current_process(ErlNifPid* pid);

 private:
  ThreadPool() = default;

  Worker* pick(const Job* job);
  Job* take_waiting(const Worker* worker);
  Worker* spawn();
  void assign(Worker* worker, Job* job);
  void serve(Worker* worker);
  void announce(const Worker* worker, Term what);
  Job* next_or_idle(Worker* worker, Job* ended);
  Job* await_job(Worker* worker);
  void say_farewell(std::unique_lock<std::mutex>& lock);
  void spin(Worker* worker);
  bool leaves_interrupted(Worker* worker, const Job* ended);
  void end_left_jobs(Worker* worker);
  bool may_retire(Worker* worker);
  void retire(Worker* worker);
  Job* run(Worker* worker, Job* job);
  bool start(Worker* worker, Job* job);
  Term perform(Worker* worker, Job* job);
  static Term reply_of(Job* job);
  static Term cancelled_reply(Job* job);
  void finish(Worker* worker, Job* job);
  void deliver(Job* job, Term reply);
  void send_reply(Job* job);
  void make_idle(Worker* worker);
  void take_from_idle(Worker* worker);
  void forget_dead_callers();
  static std::uint64_t key_of(const ErlNifPid& pid) { return static_cast<std::uint64_t>(pid.pid); }
  Call* host_of(const ErlNifPid& caller);
  static void tell(Call* call);
  void spin_for_news(const Call* call);
  void begin_away();
  void end_away() { --away_; }
  // Threads that wait for Elixir do not count: what they wait for may need one itself.
  bool may_spawn() const { return workers_.size() < limits_.max_threads + away_; }
  void run_handlers(const CallPtr& call);
  Job* begin_wait(const CallPtr& call);
  static void end_wait(Job* job, const CallPtr& call);
  void interrupt_call(const CallPtr& call);
  void run_nested(const CallPtr& call, Job* job);
  Term run_attached(Worker* worker, Job* job);
  static void remove(Worker* worker, Job* job);
  static Job* last_of(const Worker* worker, const std::vector<GreenletId>& lineage);
  static bool may_run(const Job* job);
  bool runs(const Job* job);
  // A job that was told to end, with a reference to it. Its label is taken while it runs: a reply that is sent takes along
  // the terms that the label may be made of.
  struct Cancelled {
    Job* job;
    std::chrono::steady_clock::time_point since;
    std::chrono::steady_clock::time_point due;  // when it gets the next interrupt
    std::chrono::steady_clock::time_point
        look_due;  // when to look whether it waits in C: never, or before `due`
    std::string code{};
    int fruitless = 0;  // looks in a row after which it waited still
    bool reported = false;
  };
  void take_cancelled(std::vector<Cancelled>* active);
  void let_go_of_ended(std::vector<Cancelled>* active);
  void interrupt_again(std::vector<Cancelled>* active);
  void report(const Cancelled& cancelled, Term what);
  bool raise_detached(Job* job);
  void raise_on_worker(Job* job);
  bool throw_in_hub(Job* job);
  static bool hub_interrupts(const Job* job, PyFrameObject* frame);
  bool wake_idle(Job* job);
  static void take_back_exception(Worker* worker);
  void end_wait_in_c(Cancelled* cancelled);
  bool waits_below_exception(const Job* job);
  static bool put_off(Job* job);
  static bool signal_thread(Job* job);
  static void* thread_main(void* worker);
  static bool works_for(const Worker* worker, const ErlNifPid& pid);
  Job* job_for(const ErlNifPid& pid);
  void deliver_signals();
  void bring_signal(Job* job, int number);
  void lend_right(Job* job, int number);
  bool is_in_python(const Job* job);
  void run_alone(int number);
  [[noreturn]] static void* serve_handlers(void*);
  [[noreturn]] void run_handlers_alone();

  std::mutex mutex_;
  PoolLimits limits_;
  std::vector<Worker*> workers_;
  std::vector<Worker*> idle_;  // the one that served last is at the back
  std::size_t away_ = 0;       // how many wait for an answer of Elixir's
  Worker* main_ = nullptr;
  std::deque<Job*> waiting_;
  std::unordered_map<std::uint64_t, Worker*> affinity_;
  std::size_t affinity_limit_ = 65536;
  std::unordered_map<std::uint64_t, CallPtr> hosts_;  // by handler: the calls whose threads serve it
  std::uint64_t next_id_ = 0;
  std::uint64_t next_number_ = 0;
  std::atomic<bool> spinner_{false};
  std::atomic<bool> shut_down_{false};
  void (*farewell_)() = nullptr;

  std::mutex interrupts_mutex_;
  std::condition_variable interrupts_wake_;
  std::vector<Cancelled> interrupts_;
  bool signals_came_ = false;

  // Of the thread that sends interrupts.
  std::chrono::steady_clock::time_point signals_due_ = std::chrono::steady_clock::time_point::max();
  int signal_tries_ = 0;

  // Signals that concern no job, and the thread that runs their handlers; of `mutex_`.
  std::vector<int> lone_signals_;
  bool has_handlers_thread_ = false;
  std::condition_variable handlers_wake_;

  // How long one job may spend on dropping what others left behind.
  static constexpr long drop_budget_us = 2000;
};

// How many microseconds have passed since then.
Term elapsed_us(ErlNifEnv* env, std::chrono::steady_clock::time_point since);

}  // namespace pythonx
