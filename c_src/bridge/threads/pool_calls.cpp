// The part of the thread pool that concerns calls from Python to Elixir; see call.hpp.
#include <algorithm>

#include "conversion/object.hpp"
#include "python/gil.hpp"
#include "python/pause.hpp"
#include "threads/call.hpp"
#include "threads/pool.hpp"
#include "threads/signals.hpp"

namespace pythonx {
namespace {

constexpr auto answer_spin_time = std::chrono::microseconds(20);

}  // namespace

void ThreadPool::host(const CallPtr& call, const ErlNifPid& handler) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (call->worker == nullptr || call->closed) return;
  call->hosted = true;
  call->handler = handler;
  hosts_[key_of(handler)] = call;
}

// With the mutex held. The call whose thread is to run the jobs of this process, or nullptr.
Call* ThreadPool::host_of(const ErlNifPid& caller) {
  if (hosts_.empty()) return nullptr;
  const auto found = hosts_.find(key_of(caller));
  return found == hosts_.end() || found->second->serving ? nullptr : found->second.get();
}

// With the mutex held. Wakes the thread that waits.
void ThreadPool::tell(Call* call) {
  call->news = true;
  call->wake.notify_one();
}

// Most functions answer within microseconds, less than it takes to sleep and be woken. As with jobs, one thread at a time
// may wait for that awake.
void ThreadPool::spin_for_news(const Call* call) {
  if (spinner_.exchange(true)) return;
  const auto deadline = std::chrono::steady_clock::now() + answer_spin_time;
  do {
    for (int i = 0; i < 16 && !call->news.load(std::memory_order_relaxed); ++i) pause_processor();
  } while (!call->news.load(std::memory_order_relaxed) && std::chrono::steady_clock::now() < deadline);
  spinner_ = false;
}

bool ThreadPool::answer(const CallPtr& call, ErlNifEnv* env, Term answer) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (call->state != CallState::open || call->closed) return false;
  call->state = CallState::answered;
  call->answer_env = env;
  call->answer = answer;
  tell(call.get());
  return true;
}

bool ThreadPool::end_call(const CallPtr& call, CallState state) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (call->state != CallState::open) return false;
  call->state = state;
  tell(call.get());
  return true;
}

// Waits for the answer, and runs what the handler submits meanwhile. Detached. A greenlet may be left while it runs
// something, to be resumed by a later job when that which has begun the call has ended: it is for that one that it waits then.
CallState ThreadPool::await_answer(const CallPtr& call) {
  Job* job = begin_wait(call);
  Worker* worker = call->worker;
  CallState state;
  spin_for_news(call.get());
  {
    std::unique_lock<std::mutex> lock(mutex_);
    if (worker != nullptr) worker->calls.push_back(call);
    for (;;) {
      if (!call->inbox.empty()) {
        Job* inner = call->inbox.front();
        call->inbox.pop_front();
        call->news = call->state != CallState::open || !call->inbox.empty();
        lock.unlock();
        run_nested(call, inner);
        end_wait(job, call);
        job = begin_wait(call);
        spin_for_news(call.get());
        lock.lock();
      } else if (call->state == CallState::open && call->signalled) {
        call->signalled = false;
        lock.unlock();
        run_handlers(call);
        lock.lock();
      } else if (call->state == CallState::open) {
        if (worker != nullptr) ++blocked_;
        serve_waiting();
        call->wake.wait(lock);
        if (worker != nullptr) --blocked_;
      } else {
        break;
      }
    }
    call->closed = true;
    if (worker != nullptr) worker->calls.erase(std::find(worker->calls.begin(), worker->calls.end(), call));
    if (call->hosted) hosts_.erase(key_of(call->handler));
    state = call->state;
  }
  end_wait(job, call);
  return state;
}

// Runs the handlers of signals, of which one may raise: then the wait is over.
void ThreadPool::run_handlers(const CallPtr& call) {
  {
    const Attach attached;
    if (run_signal_handlers()) return;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != nullptr) PyException_SetTraceback(value, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    call->raised = value;
  }
  interrupt_call(call);
}

// Lets a cancellation of the job that waits, which it returns, reach the wait, and keeps the job for as long.
Job* ThreadPool::begin_wait(const CallPtr& call) {
  if (call->worker == nullptr) return nullptr;
  Job* job;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    job = last_of(call->worker, call->lineage);
    if (job == nullptr) return nullptr;
    job->retain();
  }
  bool cancelled;
  {
    std::lock_guard<std::mutex> lock(job->mutex);
    job->calls_.push_back(call);
    cancelled = job->cancelled_ && job->state_ == Job::State::running;
  }
  if (cancelled) interrupt_call(call);
  return job;
}

void ThreadPool::end_wait(Job* job, const CallPtr& call) {
  if (job == nullptr) return;
  {
    std::lock_guard<std::mutex> lock(job->mutex);
    job->calls_.erase(std::find(job->calls_.begin(), job->calls_.end(), call));
  }
  job->release();
}

// Ends the wait. The handler is killed, for nobody wants its answer any more: that cancels the jobs it waits for itself.
void ThreadPool::interrupt_call(const CallPtr& call) {
  if (end_call(call, CallState::interrupted)) cancel_call(call->id);
}

// Runs a job on top of the one that waits on this thread, in the greenlet that waits.
void ThreadPool::run_nested(const CallPtr& call, Job* job) {
  Worker* worker = call->worker;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    job->number_ = ++next_number_;
    job->greenlet_ = call->lineage.front();
    worker->jobs.push_back(job);
    call->serving = true;
  }
  Term reply;
  if (start(worker, job)) {
    Attach attached;
    const JobNumber number(job->number_);
    reply = run_attached(worker, job);
  } else {
    reply = cancelled_reply(job);
  }
  bool given_up;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    given_up = !remove(worker, job);
    call->serving = false;  // before the reply: the handler may be back at once
  }
  // It has got its reply then: see give_up_jobs.
  if (given_up) return job->release();
  deliver(job, reply);
}

}  // namespace pythonx
