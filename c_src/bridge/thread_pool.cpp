#include "thread_pool.hpp"

#include <frameobject.h>
#include <signal.h>
#include <time.h>

#include <algorithm>
#include <utility>

#include "gil.hpp"
#include "object.hpp"
#include "pause.hpp"
#include "safe_point.hpp"
#include "signal_right.hpp"

namespace pythonx {
namespace {

constexpr std::size_t stack_size = 16 << 20;

constexpr auto spin_time = std::chrono::microseconds(30);

thread_local Worker* this_worker = nullptr;

// How long code has to end after an interrupt before it gets the next.
constexpr auto interrupt_interval = std::chrono::milliseconds(50);

// How long a thread has to take an exception before it is looked whether it waits in C, how long it is then given to run
// the handler of a signal, and how often that is tried in vain: what holds out is no wait, and gets no more signals.
constexpr auto look_interval = std::chrono::milliseconds(10);
constexpr auto handler_time = std::chrono::milliseconds(10);
constexpr int fruitless_limit = 10;

// How often an interrupt is put off: at risky places for about a second, in imports for five.
constexpr int put_off_limit(Safety safety) { return safety == Safety::loading ? 100 : 20; }

// How long a thread may go on after it was interrupted before somebody is told.
constexpr auto patience = std::chrono::seconds(1);

constexpr auto never = std::chrono::steady_clock::time_point::max();

Term elapsed_us(ErlNifEnv* env, std::chrono::steady_clock::time_point since) {
  const auto elapsed = std::chrono::steady_clock::now() - since;
  return enif_make_int64(env, std::chrono::duration_cast<std::chrono::microseconds>(elapsed).count());
}

// Asynchronous exceptions are addressed by the thread's number. Up to Python 3.11 a thread that Python code starts has the
// number of the one that starts it until it runs, and is the first to be found: it would die instead, and whoever waits for
// it to have started would wait for ever. So there the exception is put where it belongs. The thread finds it: it has to take
// the GIL, which is held here, before it goes on, and looks for one then. A thread that has not attached yet runs nothing.
void send_exception(Worker* worker) {
#if PY_VERSION_HEX < 0x030C0000
  PyThreadState* state = worker->state;
  if (state == nullptr || state->async_exc != nullptr) return;
  Py_INCREF(PyExc_KeyboardInterrupt);
  state->async_exc = PyExc_KeyboardInterrupt;
#else
  PyThreadState_SetAsyncExc(worker->python_id, PyExc_KeyboardInterrupt);
#endif
}

// On the worker's own thread.
void take_back_exception(Worker* worker) {
#if PY_VERSION_HEX < 0x030C0000
  PyThreadState* state = worker->state;
  PyObject* pending = state->async_exc;
  state->async_exc = nullptr;
  Py_XDECREF(pending);
#else
  PyThreadState_SetAsyncExc(worker->python_id, nullptr);
#endif
}

int instruction_of([[maybe_unused]] PyFrameObject* frame) {
#if PY_VERSION_HEX >= 0x030B0000
  return frame == nullptr ? 0 : PyFrame_GetLasti(frame);
#else
  return frame == nullptr ? 0 : frame->f_lasti;
#endif
}

}  // namespace

Worker* ThreadPool::current_worker() { return this_worker; }

void name_thread(const char* name) {
#ifdef __APPLE__
  pthread_setname_np(name);
#else
  pthread_setname_np(pthread_self(), name);
#endif
}

int interrupt_signal() {
#ifdef SIGRTMIN
  return SIGRTMIN + 6;
#else
  return SIGUSR2;  // macOS has no real-time signals; the VM does not use this one.
#endif
}

ThreadPool& ThreadPool::instance() {
  static ThreadPool* pool = new ThreadPool;
  return *pool;
}

void ThreadPool::configure(const PoolLimits& limits) {
  std::lock_guard<std::mutex> lock(mutex_);
  limits_ = limits;
}

// --- Handing out work ----------------------------------------------------------------------------------------------

bool ThreadPool::submit(Job* job) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (Call* call = host_of(job->caller_)) {
    call->inbox.push_back(job);
    tell(call);
    return false;
  }
  Worker* worker = pick(job->caller_);
  if (worker == nullptr) {
    waiting_.push_back(job);
    return false;
  }
  const bool awake = worker->awake;
  assign(worker, job);
  return awake;
}

Worker* ThreadPool::pick(const ErlNifPid& caller) {
  const auto found = affinity_.find(key_of(caller));
  if (found != affinity_.end() && found->second->idle) return found->second;
  if (main_ != nullptr && main_->idle) return main_;
  if (!idle_.empty()) return idle_.back();
  return workers_.size() < limits_.max_threads ? spawn() : nullptr;
}

void ThreadPool::assign(Worker* worker, Job* job) {
  if (worker->idle) take_from_idle(worker);
  affinity_.try_emplace(key_of(job->caller_), worker);
  if (affinity_.size() > affinity_limit_) forget_dead_callers();
  worker->current = job;
  worker->inbox = job;
  worker->wake.notify_one();
}

Worker* ThreadPool::spawn() {
  auto* worker = new Worker;
  worker->id = ++next_id_;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, stack_size);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  const int failed = pthread_create(&worker->thread, &attributes, thread_main, worker);
  pthread_attr_destroy(&attributes);
  if (failed != 0) {
    // The system has no thread left: the job waits for one of those that there are.
    delete worker;
    return nullptr;
  }
  workers_.push_back(worker);
  return worker;
}

void ThreadPool::make_idle(Worker* worker) {
  worker->idle = true;
  idle_.push_back(worker);
}

void ThreadPool::take_from_idle(Worker* worker) {
  worker->idle = false;
  idle_.erase(std::find(idle_.rbegin(), idle_.rend(), worker).base() - 1);
}

void ThreadPool::forget_dead_callers() {
  ErlNifEnv* env = enif_alloc_env();
  for (auto it = affinity_.begin(); it != affinity_.end();) {
    ErlNifPid pid{static_cast<Term>(it->first)};
    it = enif_is_process_alive(env, &pid) ? std::next(it) : affinity_.erase(it);
  }
  enif_free_env(env);
  // With that many processes alive, the next look is to be as rare.
  affinity_limit_ = std::max(affinity_limit_, 2 * affinity_.size());
}

// --- The life of a thread ------------------------------------------------------------------------------------------

void* ThreadPool::thread_main(void* worker) {
  instance().serve(static_cast<Worker*>(worker));
  return nullptr;
}

void ThreadPool::serve_as_main() {
  auto* worker = new Worker;
  worker->is_main = true;
  worker->thread = pthread_self();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    main_ = worker;
    workers_.push_back(worker);
    make_idle(worker);
  }
  serve(worker);
  std::abort();  // The main thread never retires.
}

void ThreadPool::serve(Worker* worker) {
  name_thread(worker->is_main ? "python_main" : "python_worker");
  worker->python_id = PyThread_get_thread_ident();
  this_worker = worker;
  announce(worker, atoms.started);
  Job* job = await_job(worker);
  while (job != nullptr) {
    Job* next = run(worker, job);
    job = next == nullptr ? await_job(worker) : next;
  }
  discard_thread_state();
  announce(worker, atoms.retired);
  delete worker;
}

// Sends {:pythonx_event, :started | :retired, thread, main?, threads there are now} to Pythonx.Watch.
void ThreadPool::announce(const Worker* worker, Term what) {
  ErlNifPid watch;
  if (!enif_whereis_pid(nullptr, atoms.watch, &watch)) return;
  ErlNifEnv* env = enif_alloc_env();
  enif_send(nullptr, &watch, env,
            make_tuple(env, atoms.pythonx_event, what, enif_make_uint64(env, worker->id),
                       worker->is_main ? atoms.true_ : atoms.false_, enif_make_uint64(env, thread_count())));
  enif_free_env(env);
}

// The next job in line, or nullptr after making the thread idle.
Job* ThreadPool::next_or_idle(Worker* worker) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (waiting_.empty()) {
    worker->current = nullptr;
    make_idle(worker);
    return nullptr;
  }
  Job* job = waiting_.front();
  waiting_.pop_front();
  worker->current = job;
  affinity_.try_emplace(key_of(job->caller_), worker);
  return job;
}

// Waits for a job; nullptr when the thread is to end. A thread is idle, or has a job in its inbox, when this is called.
Job* ThreadPool::await_job(Worker* worker) {
  spin(worker);
  if (Job* job = worker->inbox.exchange(nullptr)) return job;
  std::unique_lock<std::mutex> lock(mutex_);
  while (worker->inbox == nullptr) {
    if (worker->is_main) {
      if (farewell_ != nullptr) {
        say_farewell(lock);
        continue;  // A job may have come meanwhile.
      }
      worker->wake.wait(lock);
    } else if (worker->wake.wait_for(lock, limits_.idle_time) == std::cv_status::timeout &&
               worker->inbox == nullptr && may_retire(worker)) {
      retire(worker);
      return nullptr;
    }
  }
  return worker->inbox.exchange(nullptr);
}

// A caller that evaluates in a loop is back within microseconds, less than it takes to sleep and be woken. One thread
// at a time may wait for that awake: with more of them eight callers became nine times slower.
void ThreadPool::spin(Worker* worker) {
  if (spinner_.exchange(true)) return;
  worker->awake = true;
  const auto deadline = std::chrono::steady_clock::now() + spin_time;
  do {
    for (int i = 0; i < 16 && worker->inbox.load(std::memory_order_relaxed) == nullptr; ++i)
      pause_processor();
  } while (worker->inbox.load(std::memory_order_relaxed) == nullptr &&
           std::chrono::steady_clock::now() < deadline);
  worker->awake = false;
  spinner_ = false;
}

// A thread stays while a living process is tied to it: its connections and thread-locals are still wanted.
bool ThreadPool::may_retire(Worker* worker) {
  ErlNifEnv* env = enif_alloc_env();
  bool wanted = false;
  for (auto it = affinity_.begin(); it != affinity_.end() && !wanted;) {
    ErlNifPid pid{static_cast<Term>(it->first)};
    if (it->second != worker) {
      ++it;
    } else if (enif_is_process_alive(env, &pid)) {
      wanted = true;
    } else {
      it = affinity_.erase(it);
    }
  }
  enif_free_env(env);
  return !wanted;
}

void ThreadPool::retire(Worker* worker) {
  take_from_idle(worker);
  workers_.erase(std::find(workers_.begin(), workers_.end(), worker));
}

// --- The life of a job ---------------------------------------------------------------------------------------------

// Returns the next job in line, if there is one. The thread is free before the reply is sent: a caller that comes
// back at once must find its own thread idle, or it would be given another.
Job* ThreadPool::run(Worker* worker, Job* job) {
  Term reply;
  if (start(worker, job)) {
    Attach attached;
    worker->state = PyThreadState_Get();
    job->note_attached();
    // What has not begun need not be interrupted.
    reply = job->is_abandoned() ? cancelled_reply(job) : job->run();
    finish(worker, job);
    if (has_pending()) drop_pending(drop_budget_us);
  } else {
    reply = cancelled_reply(job);
  }
  Job* next = next_or_idle(worker);
  deliver(job, reply);
  return next;
}

// Returns false for a job that was cancelled while it waited.
bool ThreadPool::start(Worker* worker, Job* job) {
  std::lock_guard<std::mutex> lock(job->mutex);
  if (job->cancelled_ || shut_down_) return false;
  job->worker_ = worker;
  job->thread_id_ = worker->id;
  job->started_at_ = std::chrono::steady_clock::now();
  job->state_ = Job::State::running;
  return true;
}

Term ThreadPool::cancelled_reply(Job* job) { return make_tuple(job->env(), atoms.error, atoms.cancelled); }

// Ends the job, attached. After this no interrupt can be meant for it, and one that was sent and has not fired is
// cleared: it would kill the next job on this thread.
void ThreadPool::finish(Worker* worker, Job* job) {
  {
    std::lock_guard<std::mutex> lock(job->mutex);
    job->state_ = Job::State::done;
    job->worker_ = nullptr;
  }
  if (!worker->exception_sent) return;
  worker->exception_sent = false;
  take_back_exception(worker);
}

void ThreadPool::deliver(Job* job, Term reply) {
  void* resource = nullptr;
  bool monitored;
  {
    std::lock_guard<std::mutex> lock(job->mutex);
    job->state_ = Job::State::done;
    job->reply_ = reply;
    monitored = job->monitored_;
    auto expected = Job::Handoff::lingering;
    if (!job->handoff_.compare_exchange_strong(expected, Job::Handoff::taken)) {
      resource = job->resource_;
      // Sent under the lock: once `cancel` returned, the caller finds the reply in its mailbox or never gets one.
      if (!job->mute_) send_reply(job);
    }
  }
  if (monitored) enif_demonitor_process(nullptr, resource, &job->monitor_);
  if (resource != nullptr) enif_release_resource(resource);
  job->release();
}

void ThreadPool::send_reply(Job* job) {
  ErlNifEnv* env = job->env_ == nullptr ? job->message_env_ : job->env_;
  const Term reference = env == job->message_env_ ? job->reference_ : enif_make_copy(env, job->reference_);
  enif_send(nullptr, &job->caller_, env, make_tuple(env, reference, job->take_reply(env)));
}

// --- Cancelling ----------------------------------------------------------------------------------------------------

bool ThreadPool::cancel(Job* job, bool mute) {
  bool running;
  const auto now = std::chrono::steady_clock::now();
  auto due = now;
  {
    std::lock_guard<std::mutex> lock(job->mutex);
    if (mute) job->mute_ = true;
    if (job->state_ == Job::State::done) return false;
    job->cancelled_ = true;
    running = job->state_ == Job::State::running;
    if (running && job->worker_->is_main && job->call_ == nullptr) {
      signal_thread(job);
      due += interrupt_interval;  // A second one at once would hit the code's own `finally`.
    }
  }
  if (!running) return true;
  job->retain();
  {
    std::lock_guard<std::mutex> lock(interrupts_mutex_);
    interrupts_.push_back({job, now, due, never});
  }
  interrupts_wake_.notify_one();
  return true;
}

bool ThreadPool::interrupt(const ErlNifPid& pid) {
  std::vector<Job*> jobs;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (Worker* worker : workers_) {
      for (Job* job = worker->current.load(); job != nullptr; job = job->outer_) {
        if (job->state_ != Job::State::running || enif_compare_pids(&job->caller_, &pid) != 0) continue;
        job->retain();
        jobs.push_back(job);
      }
    }
  }
  bool any = false;
  for (Job* job : jobs) {
    any = cancel(job, false) || any;
    job->release();
  }
  return any;
}

void ThreadPool::serve_interrupts() {
  std::vector<Cancelled> active;
  for (;;) {
    take_cancelled(&active);
    let_go_of_ended(&active);
    interrupt_again(&active);
  }
}

// Waits for news, or until it is time to send interrupts again: code under a bare `except:` swallows one, so
// each is sent until its job has ended.
void ThreadPool::take_cancelled(std::vector<Cancelled>* active) {
  auto due = never;
  for (const Cancelled& cancelled : *active) due = std::min({due, cancelled.due, cancelled.look_due});
  std::unique_lock<std::mutex> lock(interrupts_mutex_);
  const auto news = [this] { return !interrupts_.empty(); };
  if (active->empty()) {
    interrupts_wake_.wait(lock, news);
  } else {
    interrupts_wake_.wait_until(lock, due, news);
  }
  for (const Cancelled& cancelled : interrupts_) {
    const auto same = [&](const Cancelled& other) { return other.job == cancelled.job; };
    if (std::none_of(active->begin(), active->end(), same)) {
      active->push_back(cancelled);
    } else {
      cancelled.job->release();  // cancelled twice: by a caller that gave up, and died
    }
  }
  interrupts_.clear();
}

void ThreadPool::let_go_of_ended(std::vector<Cancelled>* active) {
  const auto ended = std::partition(active->begin(), active->end(), [](const Cancelled& cancelled) {
    return cancelled.job->state_ != Job::State::done;
  });
  for (auto it = ended; it != active->end(); ++it) {
    if (it->reported) report(*it, atoms.freed);
    it->job->release();
  }
  active->erase(ended, active->end());
}

// One hold of the GIL serves all: with a hundred threads that are stuck in C code, one for each would take
// long where others compute. What needs no GIL comes first.
void ThreadPool::interrupt_again(std::vector<Cancelled>* active) {
  const auto now = std::chrono::steady_clock::now();
  std::vector<Job*> on_workers;
  std::vector<Cancelled*> waiting;
  for (Cancelled& cancelled : *active) {
    if (cancelled.look_due <= now) waiting.push_back(&cancelled);
    if (cancelled.look_due <= now) cancelled.look_due = never;
    if (cancelled.due > now) continue;
    cancelled.due = now + interrupt_interval;
    if (!raise_detached(cancelled.job)) {
      on_workers.push_back(cancelled.job);
      if (can_lend_signal_right() && cancelled.fruitless < fruitless_limit)
        cancelled.look_due = now + look_interval;
    }
    if (cancelled.reported || now - cancelled.since <= patience) continue;
    cancelled.reported = true;
    report(cancelled, atoms.stuck);
  }
  if (on_workers.empty() && waiting.empty()) return;
  Attach attached;
  for (Job* job : on_workers) raise_on_worker(job);
  for (Cancelled* cancelled : waiting) end_wait_in_c(cancelled);
}

// A thread that has not taken its exception yet runs no Python code: it waits in C, or for the GIL. A signal ends the
// wait, and its handler raises, if this thread may run it meanwhile. Attached, but for the time that is given to it.
void ThreadPool::end_wait_in_c(Cancelled* cancelled) {
  Job* job = cancelled->job;
  unsigned long python_id;
  {
    std::lock_guard<std::mutex> lock(job->mutex);
    if (shut_down_ || !waits_below_exception(job)) return;
    python_id = job->worker_->python_id;
  }
  const SignalRight right(python_id);
  {
    // It may have begun to wait for Elixir, which takes no GIL.
    std::lock_guard<std::mutex> lock(job->mutex);
    if (!waits_below_exception(job)) return;
    signal_thread(job);
  }
  const Detach detached;
  const auto deadline = std::chrono::steady_clock::now() + handler_time;
  const auto answered = [job] {
    return job->signals_seen_ == job->signals_ || job->state_ == Job::State::done;
  };
  while (!answered() && std::chrono::steady_clock::now() < deadline) {
    const timespec moment{0, 100000};
    nanosleep(&moment, nullptr);
  }
  cancelled->fruitless = answered() ? 0 : cancelled->fruitless + 1;
  cancelled->due = std::chrono::steady_clock::now() + interrupt_interval;
}

// Attached, with the job's mutex held: whether an exception that was sent to it has not been taken.
bool ThreadPool::waits_below_exception(const Job* job) {
  if (job->state_ != Job::State::running || job->call_ != nullptr) return false;
  const Worker* worker = job->worker_;
  const PyThreadState* state = worker->state;
  return !worker->is_main && worker->current == job && worker->exception_sent && state != nullptr &&
         state->async_exc != nullptr;
}

// Sends {:pythonx_event, :stuck | :freed, thread, caller, elapsed_us, code} to Pythonx.Watch.
void ThreadPool::report(const Cancelled& cancelled, Term what) {
  ErlNifPid watch;
  if (!enif_whereis_pid(nullptr, atoms.watch, &watch)) return;
  ErlNifEnv* env = enif_alloc_env();
  const Job* job = cancelled.job;
  enif_send(nullptr, &watch, env,
            make_tuple(env, atoms.pythonx_event, what, enif_make_uint64(env, job->thread_id_),
                       enif_make_pid(env, &job->caller_), elapsed_us(env, cancelled.since),
                       make_binary(env, job->label())));
  enif_free_env(env);
}

// False for a job that can be reached with the GIL only.
bool ThreadPool::raise_detached(Job* job) {
  CallPtr call;
  {
    std::lock_guard<std::mutex> lock(job->mutex);
    if (job->state_ == Job::State::done) return true;
    call = job->call_;
    if (call == nullptr && !job->worker_->is_main) return false;
    if (call == nullptr) signal_thread(job);
  }
  if (call != nullptr) interrupt_call(call);
  return true;
}

// With the mutex of the job held, which runs. Counted first: the handler must not take a signal that it has seen for a new
// one.
void ThreadPool::signal_thread(Job* job) {
  ++job->signals_;
  pthread_kill(job->worker_->thread, interrupt_signal());
}

// Attached, as SetAsyncExc needs the GIL, which may not be waited for under the lock: hence another look at the
// state.
void ThreadPool::raise_on_worker(Job* job) {
  [[maybe_unused]] const StoppedWorld stopped;
  std::lock_guard<std::mutex> lock(job->mutex);
  if (job->state_ == Job::State::done || job->worker_->state == nullptr) return;
  // It waits below another job by now, which the exception would hit.
  if (job->call_ != nullptr || job->worker_->current != job) return;
  if (put_off(job)) return;
  job->worker_->exception_sent = true;
  send_exception(job->worker_);
}

// Whether a worker's job is to be left alone for now. Code that imports a lot is seen in the import system nearly
// always, as that is where it lets the GIL go; so it looks itself whether it is owed an interrupt.
bool ThreadPool::put_off(Job* job) {
  auto owed = Job::Owed::paid;
  if (job->owed_.compare_exchange_strong(owed, Job::Owed::nothing)) return true;  // It has got one just now.
  const Safety safety = safety_of(job->worker_->state.load());
  const bool off =
      safety == Safety::unsafe || (safety != Safety::safe && job->put_off_ < put_off_limit(safety));
  if (off) ++job->put_off_;
  job->owed_ = off ? Job::Owed::due : Job::Owed::nothing;
  return off;
}

bool ThreadPool::take_owed_interrupt() {
  Job* job = this_worker == nullptr ? nullptr : this_worker->current.load();
  if (job == nullptr || job->owed_ != Job::Owed::due) return false;
  if (job->put_off_ < put_off_limit(Safety::loading) && is_in_module_body(PyEval_GetFrame())) return false;
  auto owed = Job::Owed::due;
  return job->owed_.compare_exchange_strong(owed, Job::Owed::paid);
}

// The handler is called between instructions and, where code waits in C, within one. An interrupt that is put off
// is looked at again after each instruction that looks at all. So when a new signal finds the thread where it was
// before, it waits there for something that it has not got yet, such as a lock: no harm is done, and it might wait
// for ever.
bool ThreadPool::may_interrupt(PyFrameObject* frame) {
  Job* job = this_worker == nullptr ? nullptr : this_worker->current.load();
  if (job == nullptr || !job->cancelled_ || job->state_ != Job::State::running) return false;
  const int signals = job->signals_;
  const bool is_new = job->signals_seen_.exchange(signals) != signals;
  const int instruction = instruction_of(frame);
  const bool waits = is_new && job->put_off_at_ == frame && job->put_off_instruction_ == instruction;
  const Safety safety = safety_of(frame);
  const bool loads = safety == Safety::loading;
  const bool late =
      safety != Safety::safe && safety != Safety::unsafe && is_new && ++job->put_off_ > put_off_limit(safety);
  const bool strike = safety == Safety::safe || (waits && !loads) || late;
  job->put_off_at_ = strike ? nullptr : frame;
  job->put_off_instruction_ = instruction;
  if (!this_worker->is_main) {
    // The same interrupt, and no second one. Where it does not strike it is tried again when the next is due.
    if (strike) take_back_exception(this_worker);
  } else if (!strike && !loads) {
    PyErr_SetInterruptEx(interrupt_signal());
  }
  return strike;
}

void ThreadPool::shut_down() {
  std::vector<Job*> jobs;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    shut_down_ = true;
    for (Worker* worker : workers_) {
      for (Job* job = worker->current.load(); job != nullptr; job = job->outer_) {
        job->retain();
        jobs.push_back(job);
      }
    }
  }
  for (Job* job : jobs) {
    cancel(job, true);
    job->release();
  }
}

void ThreadPool::run_last(void (*farewell)(), std::chrono::milliseconds deadline) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (main_ == nullptr) return;
  farewell_ = farewell;
  main_->wake.notify_one();
  farewell_wake_.wait_for(lock, deadline, [this] { return farewell_said_; });
}

void ThreadPool::say_farewell(std::unique_lock<std::mutex>& lock) {
  void (*farewell)() = std::exchange(farewell_, nullptr);
  lock.unlock();
  {
    Attach attached;
    farewell();
  }
  lock.lock();
  farewell_said_ = true;
  farewell_wake_.notify_all();
}

// --- Looking at it -------------------------------------------------------------------------------------------------

std::size_t ThreadPool::thread_count() {
  std::lock_guard<std::mutex> lock(mutex_);
  return workers_.size();
}

Term ThreadPool::running(ErlNifEnv* env) {
  Term list = enif_make_list(env, 0);
  std::lock_guard<std::mutex> lock(mutex_);
  for (Worker* worker : workers_) {
    for (Job* job = worker->current.load(); job != nullptr; job = job->outer_) {
      if (job->state_ != Job::State::running) continue;
      const Term entry = make_tuple(env, enif_make_pid(env, &job->caller_), enif_make_uint64(env, worker->id),
                                    worker->is_main ? atoms.true_ : atoms.false_,
                                    elapsed_us(env, job->started_at_), make_binary(env, job->label()));
      list = enif_make_list_cell(env, entry, list);
    }
  }
  return list;
}

}  // namespace pythonx
