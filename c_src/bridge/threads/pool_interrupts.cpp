// The part of the thread pool that stops jobs: by interrupts, which are sent until a job has ended.
#include <Python.h>
#include <frameobject.h>
#include <signal.h>

#include <algorithm>
#include <utility>

#include "python/gil.hpp"
#include "threads/pool.hpp"
#include "threads/safe_point.hpp"
#include "threads/signal_right.hpp"
#include "threads/signals.hpp"
#include "vm/system.hpp"

namespace pythonx {
namespace {

// How long a thread has to take an exception before it is looked whether it waits in C, and how often that is tried in vain: what holds out is no wait, and gets no more signals.
constexpr auto look_interval = std::chrono::milliseconds(10);
constexpr int fruitless_limit = 10;

// How often an interrupt is put off: at risky places for about a second, in imports for five.
constexpr int put_off_limit(Safety safety) { return safety == Safety::loading ? 100 : 20; }

// How long a thread may go on after it was interrupted before somebody is told.
constexpr auto patience = std::chrono::seconds(1);

constexpr auto never = std::chrono::steady_clock::time_point::max();

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

int instruction_of([[maybe_unused]] PyFrameObject* frame) {
#if PY_VERSION_HEX >= 0x030B0000
  return frame == nullptr ? 0 : PyFrame_GetLasti(frame);
#else
  return frame == nullptr ? 0 : frame->f_lasti;
#endif
}

}  // namespace

// On the worker's own thread.
void ThreadPool::take_back_exception(Worker* worker) {
#if PY_VERSION_HEX < 0x030C0000
  PyThreadState* state = worker->state;
  PyObject* pending = state->async_exc;
  state->async_exc = nullptr;
  Py_XDECREF(pending);
#else
  PyThreadState_SetAsyncExc(worker->python_id, nullptr);
#endif
}

bool ThreadPool::cancel(Job* job, bool mute) {
  const auto now = std::chrono::steady_clock::now();
  Cancelled cancelled{job, now, now, never};
  {
    std::lock_guard<std::mutex> lock(job->mutex);
    if (mute) job->mute_ = true;
    if (job->state_ == Job::State::done) return false;
    job->cancelled_ = true;
    if (job->state_ != Job::State::running) return true;
    cancelled.code = job->label();
    // Without greenlets it is known that the main thread is at it.
    if (job->worker_->is_main && job->calls_.empty() && !greenlets_in_use() && signal_thread(job)) {
      cancelled.due += interrupt_interval;  // A second one at once would hit the code's own `finally`.
    }
  }
  job->retain();
  {
    std::lock_guard<std::mutex> lock(interrupts_mutex_);
    interrupts_.push_back(std::move(cancelled));
  }
  interrupts_wake_.notify_one();
  return true;
}

bool ThreadPool::interrupt(const ErlNifPid& pid) {
  std::vector<Job*> jobs;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (Worker* worker : workers_) {
      for (Job* job : worker->jobs) {
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

void ThreadPool::shut_down() {
  std::vector<Job*> jobs;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    shut_down_ = true;
    for (Worker* worker : workers_) {
      for (Job* job : worker->jobs) {
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

void ThreadPool::serve_interrupts() {
  std::vector<Cancelled> active;
  for (;;) {
    take_cancelled(&active);
    let_go_of_ended(&active);
    interrupt_again(&active);
    deliver_signals();
  }
}

// Waits for news, or until it is time to send interrupts again: code under a bare `except:` swallows one, so
// each is sent until its job has ended.
void ThreadPool::take_cancelled(std::vector<Cancelled>* active) {
  auto due = signals_due_;
  for (const Cancelled& cancelled : *active) due = std::min({due, cancelled.due, cancelled.look_due});
  std::unique_lock<std::mutex> lock(interrupts_mutex_);
  const auto news = [this] { return !interrupts_.empty() || signals_came_; };
  if (due == never) {
    interrupts_wake_.wait(lock, news);
  } else {
    interrupts_wake_.wait_until(lock, due, news);
  }
  for (Cancelled& cancelled : interrupts_) {
    const auto same = [&](const Cancelled& other) { return other.job == cancelled.job; };
    if (std::none_of(active->begin(), active->end(), same)) {
      active->push_back(std::move(cancelled));
    } else {
      cancelled.job->release();  // cancelled twice: by a caller that gave up, and died
    }
  }
  interrupts_.clear();
  if (signals_came_) signals_due_ = std::chrono::steady_clock::now();
  signals_came_ = false;
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
  std::vector<Job*> signalled;
  std::vector<Cancelled*> waiting;
  for (Cancelled& cancelled : *active) {
    if (cancelled.look_due <= now) waiting.push_back(&cancelled);
    if (cancelled.look_due <= now) cancelled.look_due = never;
    if (cancelled.due > now) continue;
    cancelled.due = now + interrupt_interval;
    if (wake_idle(cancelled.job)) continue;
    if (raise_detached(cancelled.job)) {
      if (hubs_in_use()) signalled.push_back(cancelled.job);
    } else {
      on_workers.push_back(cancelled.job);
      if (can_lend_signal_right() && cancelled.fruitless < fruitless_limit)
        cancelled.look_due = now + look_interval;
    }
    // What still waits for the GIL will not begin; it is another that does not end.
    if (cancelled.reported || !cancelled.job->begun_ || now - cancelled.since <= patience) continue;
    cancelled.reported = true;
    report(cancelled, atoms.stuck);
  }
  if (on_workers.empty() && waiting.empty() && signalled.empty()) return;
  Attach attached;
  for (Job* job : signalled) throw_in_hub(job);
  for (Job* job : on_workers)
    if (!throw_in_hub(job)) raise_on_worker(job);
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

// Whether a job's thread can be at it: one that waits for Elixir it can have left only for another greenlet.
bool ThreadPool::may_run(const Job* job) { return job->calls_.empty() || greenlets_in_use(); }

// Attached, with the job's mutex held: whether an exception that was sent to it has not been taken.
bool ThreadPool::waits_below_exception(const Job* job) {
  if (!runs(job)) return false;
  const Worker* worker = job->worker_;
  const PyThreadState* state = worker->state;
  return !worker->is_main && worker->exception_sent && state != nullptr && state->async_exc != nullptr;
}

// Sends {:pythonx_event, :stuck | :freed, thread, caller, elapsed_us, code} to Pythonx.Calls.Watch.
void ThreadPool::report(const Cancelled& cancelled, Term what) {
  ErlNifPid watch;
  if (!enif_whereis_pid(nullptr, atoms.watch, &watch)) return;
  ErlNifEnv* env = enif_alloc_env();
  const Job* job = cancelled.job;
  enif_send(nullptr, &watch, env,
            make_tuple(env, atoms.pythonx_event, what, enif_make_uint64(env, job->thread_id_),
                       enif_make_pid(env, &job->caller_), elapsed_us(env, cancelled.since),
                       make_binary(env, cancelled.code)));
  enif_free_env(env);
}

// False for a job that can be reached with the GIL only. The main thread is not: where it gives the GIL away it is in the import
// system or waits, more often than elsewhere, and that is where a signal that is sent by who has the GIL would find it.
bool ThreadPool::raise_detached(Job* job) {
  std::vector<CallPtr> calls;
  bool reached;
  {
    std::lock_guard<std::mutex> lock(job->mutex);
    if (job->state_ == Job::State::done) return true;
    calls = job->calls_;
    reached = !may_run(job) || (job->worker_->is_main && signal_thread(job));
  }
  for (const CallPtr& call : calls) interrupt_call(call);
  return reached;
}

// With the mutex of the job held, which runs. Counted first: the handler must not take a signal that it has seen for a new
// one. False where other code has the signal: then only what needs none can be done.
bool ThreadPool::signal_thread(Job* job) {
  ++job->signals_;
  return send_interrupt(job->worker_->thread);
}

// Attached, as SetAsyncExc needs the GIL, which may not be waited for under the lock: hence another look at the
// state.
void ThreadPool::raise_on_worker(Job* job) {
  [[maybe_unused]] const StoppedWorld stopped;
  std::lock_guard<std::mutex> lock(job->mutex);
  if (job->state_ == Job::State::done || job->worker_->state == nullptr) return;
  if (!runs(job)) return;
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
  Job* job = current_job();
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
  Worker* worker = current_worker();
  Job* job = current_job();
  if (job == nullptr || !job->cancelled_ || job->state_ != Job::State::running) return false;
  if (hub_interrupts(job, frame)) return false;
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
  if (!worker->is_main) {
    // The same interrupt, and no second one. Where it does not strike it is tried again when the next is due.
    if (strike) take_back_exception(worker);
  } else if (!strike && !loads) {
    PyErr_SetInterruptEx(interrupt_signal());
  }
  return strike;
}

}  // namespace pythonx
