// The threads that run Python.
//
// Arbitrary Python code runs here and nowhere else: a dirty scheduler's 328 KiB of stack let CPython crash the VM on
// deep data, and there are only as many of them as cores. Each thread has a stack of 16 MiB and one thread state for
// life. One of them initialised Python and so is its main thread, the only one that signals reach.
//
// Whose state is whose. What code leaves behind is its process's own: seen by that process's next evaluation and by nobody
// else's. Python keeps it in two places.
//
//   * Context variables (the decimal context and numpy's error state are some) belong to the process. A thread has an empty
//     context of its own, in which most jobs run. One in which something was set becomes the process's: its later jobs are
//     run in it, on whatever thread, and it is dropped when the process ends. A job that begins while an earlier one of its
//     process, which was given up, is still in the context gets a copy, and that is the process's from then on.
//   * Everything else (threading.local, sqlite3's connections, event loops, trace functions, variables of C libraries) is
//     the thread's. So a thread belongs to one living process, from that one's first evaluation to its death, and is given to
//     no other meanwhile; but for who has evaluated once and left nothing: most such processes have ended, or will without
//     coming back. A process whose thread is still busy with what it gave up gets a second one.
//
// At most `own_threads` belong to somebody. The processes that come when so many live share what there is beyond, and get the
// threads of others on which nothing is left. They have their context variables all the same, but may not find the rest again.
//
// When its process has ended, or has not got it for its own, a thread with something left on it ends, and others are started:
// it is renewed. What tells is the thread state and, at rest, the memory of C code's thread-locals (leavings.hpp). Where
// nothing is left, which is so after most evaluations, the thread serves others: that is as fast as it ever was. The system
// tells of the death of a process that has left something; of one that has not it is seen when a thread is looked for.
//
// Python's main thread can be no other, so it is reset when its process has ended: what Python itself ties to it is taken
// away. It is what every new process gets first, since signals, GUIs and what asks for the main thread work on it
// alone. For that reason it is not kept for a process that has left nothing on it and has been away for half a second.
//
// The job of an Elixir function's process runs on top of the one that waits for it: in its context, on its thread.
//
// A thread that waits for Elixir code is not counted among the `max_threads`: it may be waiting for what waits for a thread.
// When there are as many, or the system grants no more, an idle thread is taken from its process: one on which nothing is
// left, or else the one that was idle for longest, whose thread state is then replaced.
//
// Threads are added when none is free, and retire when idle for a while, unless they belong to a living process.
#pragma once

#include <pthread.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "threads/call.hpp"
#include "threads/job.hpp"

namespace pythonx {

struct Worker;

// A context of context variables, kept by its process, and by the jobs that are to begin in it: another may replace it meanwhile.
using ContextPtr = std::shared_ptr<PyObject>;

// An Elixir process to which something belongs: threads, a context. Belongs to the pool's mutex.
struct Client {
  Worker* in_context = nullptr;  // the thread of the last job to begin, until that has ended
  ErlNifPid pid;
  std::vector<Worker*> threads;
  ContextPtr context;
  bool watched = false;  // the system tells of its death
  bool dead = false;
};

using ClientPtr = std::shared_ptr<Client>;

// A thread of the bridge. All fields belong to the pool's mutex, but for reading the atomic ones.
//
// Who submits a job and the thread run on two processors, and what both write goes from one's cache to the other's and back: a
// tenth of a microsecond for each line of 64 bytes, where a whole job takes four. So the fields are in the order of who writes them.
struct Worker {
  std::uint64_t id = 0;
  bool is_main = false;
  pthread_t thread{};
  unsigned long python_id = 0;  // threading.get_ident(), for PyThreadState_SetAsyncExc
  std::condition_variable wake;
  std::vector<CallPtr> calls;  // from it to Elixir, whose answers it waits for
  std::uint64_t c_state_at_rest = 0;
  ErlNifPid before{};  // of one that is `unchecked`: the owner before

  // What the thread looks at while it spins.
  alignas(64) std::atomic<Job*> inbox{nullptr};
  std::atomic<bool> awake{false};  // spinning, see ThreadPool::spin

  // What is written with each job, by both.
  //
  // The jobs that it has begun, or is about to begin, and not ended, in that order. Each is kept by the pool's reference, for
  // whoever finds it here under the pool's mutex, until it is taken out: from the middle as well, see place.hpp.
  alignas(64) std::vector<Job*> jobs;
  ClientPtr client;  // whose job it is at, if something belongs to that one
  bool idle = false;
  bool end_left = false;      // it is idle, but for greenlets that it has left, whose jobs are to end
  bool left = false;          // something is left on it, by what CPython knows
  bool touched = false;       // or by what C code does; as of when it last came to rest
  bool rested = false;        // it has come to rest since its last job, so that `touched` is true to fact
  bool settled = false;       // its owner has come back to it
  bool unchecked = false;     // its next job is a new owner's, and it has not rested since the last
  bool handed_on = true;      // its next job is the first for its owner
  bool reset = false;         // of the main thread, before its next job or when it is idle
  bool renew = false;         // its thread state, before its next job
  bool ending = false;        // it is to retire
  bool copy_context = false;  // the job in hand begins in a copy of `context`
  bool initial = false;       // the context is the one that every process begins with

  // What is as it was for most jobs.
  alignas(64) ClientPtr owner;
  ContextPtr context;  // of the process of the job in hand; this belongs to the thread then
  // When it was new; of the main thread, when its owner got it, or at its first rest after that, if it had none before.
  std::uint64_t c_state = 0;
  bool baseline = true;  // it is that

  // What the thread itself writes.
  alignas(64) std::atomic<PyThreadState*> state{nullptr};  // once it has attached
  bool exception_sent = false;  // an interrupt may be pending in Python; belongs to the GIL
  bool share = false;           // see share_state
  bool ran = false;
  bool left_something = false;
  ClientPtr to_watch;
  // The last possible time until the thread itself has looked at the clock, when nobody waits for it.
  std::atomic<std::chrono::steady_clock::time_point> idle_since{};
};

struct PoolLimits {
  std::size_t max_threads = 2048;
  std::size_t own_threads = 256;
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

  // A process to which something belongs has ended.
  void client_down(const ErlNifPid& pid);

  // What the process of the calling thread's job has set of context variables is what all others begin with from now on, and
  // its thread is free for them. For a VM that has nothing else to do than what this process prepares.
  static void share_state();

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

  // pool_owners.cpp
  Worker* pick(const Job* job);
  Worker* pick_own(const Client* client, const Job* job);
  Worker* pick_free(const Job* job);
  Worker* pick_shared();
  Worker* take_from_owner(const Job* job);
  bool is_given_up(const Worker* worker);
  bool main_is_free();
  ClientPtr find_client(const ErlNifPid& pid);
  ClientPtr make_client(const ErlNifPid& pid);
  void adopt(Worker* worker, const Job* job);
  ClientPtr own(Worker* worker, ClientPtr client, const ErlNifPid* pid);
  static bool is_forgotten(const Client* client, std::size_t threads);
  void disown(Worker* worker);
  void end(Worker* worker);
  void end_if_left(Worker* worker);
  void start_spare();
  void note_rest(Worker* worker, std::uint64_t c_state);
  void begin_state(Worker* worker);
  void end_state(Worker* worker, const Job* job);
  void settle(Worker* worker);
  void pass_on(Worker* worker, Job* job);
  void watch(const ClientPtr& client);
  void give_up_jobs(Worker* worker);
  Job* take_waiting(const Worker* worker);
  Worker* spawn();
  void assign(Worker* worker, Job* job);
  void serve(Worker* worker);
  void announce(const Worker* worker, Term what);
  Job* next_or_idle(Worker* worker, Job* ended);
  void serve_waiting();
  Job* await_job(Worker* worker);
  void tidy_up(Worker* worker, std::unique_lock<std::mutex>& lock);
  void say_farewell(std::unique_lock<std::mutex>& lock);
  void spin(Worker* worker);
  bool leaves_interrupted(Worker* worker, const Job* ended);
  void end_left_jobs(Worker* worker, bool all = false);
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
  static std::uint64_t key_of(const ErlNifPid& pid) { return static_cast<std::uint64_t>(pid.pid); }
  Call* host_of(const ErlNifPid& caller);
  static void tell(Call* call);
  void spin_for_news(const Call* call);
  // Threads that wait for Elixir do not count: what they wait for may need one itself.
  bool may_spawn() const { return workers_.size() - blocked_ < limits_.max_threads; }
  void run_handlers(const CallPtr& call);
  Job* begin_wait(const CallPtr& call);
  static void end_wait(Job* job, const CallPtr& call);
  void interrupt_call(const CallPtr& call);
  void run_nested(const CallPtr& call, Job* job);
  Term run_attached(Worker* worker, Job* job);
  static bool remove(Worker* worker, Job* job);
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
  Worker* main_ = nullptr;
  std::deque<Job*> waiting_;
  std::unordered_map<std::uint64_t, ClientPtr> clients_;  // those that live, or are not known to have ended
  std::size_t owned_ = 0;                                 // threads that belong to somebody
  std::size_t blocked_ = 0;                               // threads that wait for Elixir
  ContextPtr initial_context_;  // what every process begins with a copy of; see share_state
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

// Registers the resource type by which the pool hears of the death of processes. Called whenever the library is loaded.
bool open_client_type(ErlNifEnv* env);

}  // namespace pythonx
