// The part of the thread pool that concerns greenlets: which job of its thread runs, and what becomes of those that a thread
// has left; see place.hpp.
#include <Python.h>

#include <algorithm>
#include <utility>

#include "python/gil.hpp"
#include "threads/pool.hpp"

namespace pythonx {
namespace {

// How often gevent's hub is asked to throw an interrupt before it is raised as in other code: a callback of the hub's own may
// go on for ever.
constexpr int hub_limit = 20;

}  // namespace

// With the mutex held. The job that a greenlet of the thread works for, see place.hpp.
Job* ThreadPool::last_of(const Worker* worker, const std::vector<GreenletId>& lineage) {
  for (const GreenletId greenlet : lineage) {
    const auto in_it = [greenlet](const Job* job) { return job->greenlet_ == greenlet; };
    const auto found = std::find_if(worker->jobs.rbegin(), worker->jobs.rend(), in_it);
    if (found != worker->jobs.rend()) return *found;
  }
  return nullptr;
}

Job* ThreadPool::current_job() {
  Worker* worker = current_worker();
  if (worker == nullptr) return nullptr;
  {
    // To ask for the greenlet leaves something on the thread.
    std::lock_guard<std::mutex> lock(mutex_);
    if (worker->jobs.size() < 2) return worker->jobs.empty() ? nullptr : worker->jobs.front();
  }
  const std::vector<GreenletId> lineage = greenlet_lineage();
  std::lock_guard<std::mutex> lock(mutex_);
  return last_of(worker, lineage);
}

// Whether jobs of greenlets are left that are to end, and nothing of the thread's goes on with them.
bool ThreadPool::leaves_interrupted(Worker* worker, const Job* ended) {
  if (!greenlets_in_use()) return false;
  std::lock_guard<std::mutex> lock(mutex_);
  const auto interrupted = [ended](const Job* job) { return job != ended && job->cancelled_; };
  return std::any_of(worker->jobs.begin(), worker->jobs.end(), interrupted);
}

// Throws KeyboardInterrupt into the greenlets of such jobs, or of all that are left, once into each. Detached, on a thread that
// runs nothing.
void ThreadPool::end_left_jobs(Worker* worker, bool all) {
  const Attach attached;
  for (std::uint64_t last = 0;;) {
    PyObject* greenlet;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      const auto next = [=](const Job* job) { return job->number_ > last && (all || job->cancelled_); };
      const auto found = std::find_if(worker->jobs.begin(), worker->jobs.end(), next);
      if (found == worker->jobs.end()) return;
      last = (*found)->number_;
      greenlet = static_cast<PyObject*>(const_cast<void*>((*found)->greenlet_));
    }
    if (greenlet == nullptr) continue;
    Py_INCREF(greenlet);
    Py_XDECREF(PyObject_CallMethod(greenlet, "throw", "O", PyExc_KeyboardInterrupt));
    PyErr_Clear();  // What the greenlet ends with is raised in its parent.
    Py_DECREF(greenlet);
  }
}

// Attached, with the job's mutex held: whether its thread is at this job rather than at another. That of a thread without
// greenlets is the last.
bool ThreadPool::runs(const Job* job) {
  if (job->state_ != Job::State::running || !may_run(job)) return false;
  const Worker* worker = job->worker_;
  const std::uint64_t number = greenlets_in_use() ? job_number_of(worker->state) : 0;
  std::lock_guard<std::mutex> lock(mutex_);
  if (!greenlets_in_use()) return worker->jobs.back() == job;
  const auto numbered = [number](const Job* other) { return other->number_ == number; };
  const auto found = std::find_if(worker->jobs.begin(), worker->jobs.end(), numbered);
  return number == 0 || found == worker->jobs.end() ? last_of(worker, {nullptr}) == job : *found == job;
}

// True for a job in a greenlet that its thread has left for good, for all that is known: it is idle, and is told to end it.
bool ThreadPool::wake_idle(Job* job) {
  if (!greenlets_in_use()) return false;
  std::lock_guard<std::mutex> lock(job->mutex);
  if (job->state_ != Job::State::running) return false;
  std::lock_guard<std::mutex> pool_lock(mutex_);
  Worker* worker = job->worker_;
  if (!worker->idle) return false;
  worker->end_left = true;
  worker->wake.notify_one();
  return true;
}

// Where the thread waits in the hub of gevent, has that throw the interrupt into the job's greenlet, which waits for it: see
// priv/python/pythonx/_greenlets.py. False where it does not. Attached.
bool ThreadPool::throw_in_hub([[maybe_unused]] Job* job) {
#ifdef Py_GIL_DISABLED
  return false;  // Frames of a thread that runs cannot be read.
#else
  if (!greenlets_in_use()) return false;
  PyThreadState* state;
  PyObject* greenlet;
  std::uint64_t number;
  {
    std::lock_guard<std::mutex> lock(job->mutex);
    if (job->state_ != Job::State::running || job->worker_->state == nullptr) return false;
    state = job->worker_->state;
    std::lock_guard<std::mutex> pool_lock(mutex_);
    if (last_of(job->worker_, {job->greenlet_}) != job || job->in_hub_ > hub_limit) return false;
    if (job->number_ == 0) job->number_ = ++next_number_;
    number = job->number_;
    greenlet =
        job->greenlet_ == nullptr ? Py_None : static_cast<PyObject*>(const_cast<void*>(job->greenlet_));
  }
  PyFrameObject* innermost = PyThreadState_GetFrame(state);
  auto* frame = reinterpret_cast<PyObject*>(hub_frame(innermost));
  Py_XDECREF(reinterpret_cast<PyObject*>(innermost));
  if (frame == nullptr) return false;
  ++job->in_hub_;
  Py_INCREF(greenlet);
  PyObject* module = PyImport_ImportModule("pythonx._greenlets");
  PyObject* done = module == nullptr ? nullptr
                                     : PyObject_CallMethod(module, "interrupt", "OOK", frame, greenlet,
                                                           static_cast<unsigned long long>(number));
  const bool thrown = done != nullptr;
  PyErr_Clear();
  Py_XDECREF(done);
  Py_XDECREF(module);
  Py_DECREF(frame);
  Py_DECREF(greenlet);
  return thrown;
#endif
}

// Whether the calling thread's job of that number is to be interrupted, and nothing is on top of it in its greenlet.
bool ThreadPool::is_interrupted(std::uint64_t number) {
  const Worker* worker = current_worker();
  if (worker == nullptr) return false;
  std::lock_guard<std::mutex> lock(mutex_);
  const auto numbered = [number](const Job* job) { return job->number_ == number; };
  const auto found = std::find_if(worker->jobs.begin(), worker->jobs.end(), numbered);
  return found != worker->jobs.end() && (*found)->cancelled_ &&
         last_of(worker, {(*found)->greenlet_}) == *found;
}

// What the thread has left in greenlets, which nothing will go on with, gets a last exception. What even then does not end
// is answered here, and kept: should it end when Python drops the greenlet, run_nested has nothing to do with it any more.
// Detached, on the thread.
void ThreadPool::give_up_jobs(Worker* worker) {
  std::vector<CallPtr> calls;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    calls = worker->calls;
    if (std::none_of(worker->jobs.begin(), worker->jobs.end(),
                     [](const Job* job) { return job->number_ != 0; }))
      return;
  }
  for (const CallPtr& call : calls) interrupt_call(call);
  end_left_jobs(worker, true);
  std::vector<Job*> jobs;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto nested = std::stable_partition(worker->jobs.begin(), worker->jobs.end(),
                                              [](const Job* job) { return job->number_ == 0; });
    jobs.assign(nested, worker->jobs.end());
    worker->jobs.erase(nested, worker->jobs.end());
    for (const CallPtr& call : worker->calls) {
      call->closed = true;
      if (call->hosted) hosts_.erase(key_of(call->handler));
    }
  }
  for (Job* job : jobs) {
    job->retain();
    deliver(job, cancelled_reply(job));
  }
}

// Whether the calling thread, which is at this frame, is in the hub. That throws the interrupt itself.
bool ThreadPool::hub_interrupts(const Job* job, PyFrameObject* frame) {
  PyFrameObject* hub = hub_frame(frame);
  Py_XDECREF(reinterpret_cast<PyObject*>(hub));
  return hub != nullptr && job->in_hub_ <= hub_limit;
}

}  // namespace pythonx
