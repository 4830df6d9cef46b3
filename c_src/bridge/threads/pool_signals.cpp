// The part of the thread pool that brings signals to those whom they concern; see signals.hpp.
#include <Python.h>

#include "python/gil.hpp"
#include "threads/pool.hpp"
#include "threads/signal_right.hpp"
#include "threads/signals.hpp"
#include "vm/system.hpp"

namespace pythonx {
namespace {

using Clock = std::chrono::steady_clock;

// A thread that is about to wait when it is woken waits all the same, so it is woken again: soon at first, as an alarm has to
// be felt within a tenth of a second; code that computes in C for long is left in peace.
constexpr int soon_count = 20;
constexpr auto soon = std::chrono::milliseconds(10);
constexpr auto later = std::chrono::milliseconds(50);

// From 3.13 on each thread has bits of its own for what to look after between two instructions, and only the main thread is
// told of signals.
void have_look([[maybe_unused]] PyThreadState* state) {
#if PY_VERSION_HEX >= 0x030D0000
  constexpr std::uintptr_t signals_pending = 1U << 1;
  __atomic_fetch_or(&state->eval_breaker, signals_pending, __ATOMIC_SEQ_CST);
#endif
}

}  // namespace

void ThreadPool::note_signals() {
  {
    std::lock_guard<std::mutex> lock(interrupts_mutex_);
    signals_came_ = true;
  }
  interrupts_wake_.notify_one();
}

bool ThreadPool::current_process(ErlNifPid* pid) {
  const Job* job = instance().current_job();
  if (job == nullptr) return false;
  *pid = job->caller_;
  return true;
}

// With the mutex held.
bool ThreadPool::works_for(const Worker* worker, const ErlNifPid& pid) {
  for (const Job* job : worker->jobs) {
    if (job->state_ == Job::State::running && enif_compare_pids(&job->caller_, &pid) == 0) return true;
  }
  return false;
}

bool ThreadPool::works_for(const ErlNifPid& pid) {
  const Worker* worker = current_worker();
  if (worker == nullptr) return false;
  std::lock_guard<std::mutex> lock(mutex_);
  return works_for(worker, pid);
}

// The innermost job of a thread that works for the process, with a reference; nullptr where there is none.
Job* ThreadPool::job_for(const ErlNifPid& pid) {
  std::lock_guard<std::mutex> lock(mutex_);
  for (const Worker* worker : workers_) {
    if (!works_for(worker, pid)) continue;
    Job* job = worker->jobs.back();
    job->retain();
    return job;
  }
  return nullptr;
}

// On the thread that sends interrupts, detached.
void ThreadPool::deliver_signals() {
  if (Clock::now() < signals_due_) return;
  signals_due_ = Clock::time_point::max();
  bool again = false;
  for (const DueSignal& signal : due_signals()) {
    Job* job = signal.has_process ? job_for(signal.process) : nullptr;
    if (job == nullptr) {
      run_alone(signal.number);
    } else {
      bring_signal(job, signal.number);
      job->release();
      again = again || is_due(signal.number);
    }
  }
  signal_tries_ = again ? signal_tries_ + 1 : 0;
  if (again) signals_due_ = Clock::now() + (signal_tries_ < soon_count ? soon : later);
}

void ThreadPool::bring_signal(Job* job, int number) {
  CallPtr call;
  {
    std::lock_guard<std::mutex> lock(job->mutex);
    if (job->state_ != Job::State::running) return;
    if (!job->calls_.empty()) call = job->calls_.back();
    if (call == nullptr && job->worker_->is_main) {
      trip_interrupt();
      send_interrupt(job->worker_->thread);
      return;
    }
  }
  if (call != nullptr) {
    std::lock_guard<std::mutex> lock(mutex_);
    call->signalled = true;
    tell(call.get());
  } else if (can_lend_signal_right()) {
    lend_right(job, number);
  }
}

// Gives the job's thread the right to run handlers, until it has run this one or for some milliseconds.
void ThreadPool::lend_right(Job* job, int number) {
  const Attach attached;
  unsigned long python_id;
  PyThreadState* state;
  {
    std::lock_guard<std::mutex> lock(job->mutex);
    if (!is_in_python(job)) return;
    python_id = job->worker_->python_id;
    state = job->worker_->state;
  }
  const SignalRight right(python_id);
  {
    std::lock_guard<std::mutex> lock(job->mutex);
    if (!is_in_python(job)) return;
    have_look(state);
    trip_interrupt();
    send_interrupt(job->worker_->thread);
  }
  const Detach detached;
  const auto deadline = Clock::now() + handler_time;
  while (is_due(number) && job->state_ != Job::State::done && Clock::now() < deadline) {
    const timespec moment{0, 100000};
    nanosleep(&moment, nullptr);
  }
}

// With the job's mutex held: whether it runs on a thread that has been attached, and does not wait for Elixir.
bool ThreadPool::is_in_python(const Job* job) {
  return job->state_ == Job::State::running && job->worker_->state != nullptr && runs(job);
}

// --- Handlers for nobody -------------------------------------------------------------------------------------------
// They have a thread of their own: one that does not return keeps the others waiting, and nobody else.

void ThreadPool::run_alone(int number) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!has_handlers_thread_) has_handlers_thread_ = start_detached(serve_handlers, nullptr);
  lone_signals_.push_back(number);
  handlers_wake_.notify_one();
}

void* ThreadPool::serve_handlers(void*) {
  name_thread("python_handlers");
  instance().run_handlers_alone();
}

void ThreadPool::run_handlers_alone() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    handlers_wake_.wait(lock, [this] { return !lone_signals_.empty(); });
    std::vector<int> numbers;
    numbers.swap(lone_signals_);
    lock.unlock();
    {
      const Attach attached;
      for (const int number : numbers) run_signal_handler_alone(number);
    }
    lock.lock();
  }
}

}  // namespace pythonx
