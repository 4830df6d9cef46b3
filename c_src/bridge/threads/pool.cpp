// Above 400 lines: the life of a thread, and of a job on it from being handed out to its reply, whose steps follow from each other.
#include "threads/pool.hpp"

#include <algorithm>
#include <new>
#include <utility>

#include "conversion/error.hpp"
#include "conversion/object.hpp"
#include "python/gil.hpp"
#include "python/pause.hpp"
#include "python/runtime.hpp"
#include "threads/leavings.hpp"
#include "vm/exception.hpp"
#include "vm/system.hpp"

namespace pythonx {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto spin_time = std::chrono::microseconds(30);

thread_local Worker* this_worker = nullptr;

}  // namespace

Worker* ThreadPool::current_worker() { return this_worker; }

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
  Worker* worker = pick(job);
  if (worker == nullptr) {
    waiting_.push_back(job);
    return false;
  }
  const bool awake = worker->awake;
  assign(worker, job);
  return awake;
}

void ThreadPool::assign(Worker* worker, Job* job) {
  adopt(worker, job);  // First: it may find no memory.
  if (worker->idle) take_from_idle(worker);
  worker->jobs.push_back(job);
  worker->inbox = job;
  worker->wake.notify_one();
}

Worker* ThreadPool::spawn() {
  auto* worker = new Worker;
  worker->id = ++next_id_;
  if (!start_detached(thread_main, worker, python_stack_size, &worker->thread)) {
    // The system has no thread left: the job waits for one of those that there are.
    delete worker;
    return nullptr;
  }
  workers_.push_back(worker);
  return worker;
}

void ThreadPool::make_idle(Worker* worker) {
  worker->idle = true;
  worker->idle_since = Clock::time_point::max();
  idle_.push_back(worker);
}

void ThreadPool::take_from_idle(Worker* worker) {
  worker->idle = false;
  idle_.erase(std::find(idle_.rbegin(), idle_.rend(), worker).base() - 1);
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
  worker->c_state = worker->c_state_at_rest = c_state_of_thread();
  announce(worker, atoms.started);
  Job* job = await_job(worker);
  while (job != nullptr) {
    Job* next = run(worker, job);
    job = next == nullptr ? await_job(worker) : next;
  }
  give_up_jobs(worker);
  if (greenlets_in_use() && worker->state != nullptr) {
    const Attach attached;
    destroy_hub();
  }
  discard_thread_state();
  announce(worker, atoms.retired);
  delete worker;
}

// Sends {:pythonx_event, :started | :retired, thread, main?, threads there are now} to Pythonx.Calls.Watch.
void ThreadPool::announce(const Worker* worker, Term what) {
  ErlNifPid watch;
  if (!enif_whereis_pid(nullptr, atoms.watch, &watch)) return;
  ErlNifEnv* env = enif_alloc_env();
  enif_send(nullptr, &watch, env,
            make_tuple(env, atoms.pythonx_event, what, enif_make_uint64(env, worker->id),
                       worker->is_main ? atoms.true_ : atoms.false_, enif_make_uint64(env, thread_count())));
  enif_free_env(env);
}

// With the mutex held. False for a job that was given up with what its thread has left.
bool ThreadPool::remove(Worker* worker, Job* job) {
  const auto found = std::find(worker->jobs.begin(), worker->jobs.end(), job);
  if (found == worker->jobs.end()) return false;
  worker->jobs.erase(found);
  return true;
}

// The first job in line that the thread may run, or nullptr.
Job* ThreadPool::take_waiting(const Worker* worker) {
  if (waiting_.empty()) return nullptr;
  const auto first = std::find_if(waiting_.begin(), waiting_.end(), [worker](const Job* job) {
    return !worker->is_main || job->may_run_on_main();
  });
  if (first == waiting_.end()) return nullptr;
  Job* job = *first;
  waiting_.erase(first);
  return job;
}

// The next job in line, or nullptr after making the thread idle, unless it is to end.
Job* ThreadPool::next_or_idle(Worker* worker, Job* ended) {
  std::lock_guard<std::mutex> lock(mutex_);
  remove(worker, ended);
  settle(worker);
  end_if_left(worker);
  if (worker->ending) return nullptr;
  Job* job = take_waiting(worker);
  if (job == nullptr) {
    make_idle(worker);
    return nullptr;
  }
  adopt(worker, job);
  worker->jobs.push_back(job);
  return job;
}

// Waits for a job; nullptr when the thread is to end. A thread is idle, has a job in its inbox, or is to end, when this is
// called.
Job* ThreadPool::await_job(Worker* worker) {
  spin(worker);
  if (Job* job = worker->inbox.exchange(nullptr)) return job;
  const std::uint64_t c_state = c_state_of_thread();
  std::unique_lock<std::mutex> lock(mutex_);
  if (worker->inbox == nullptr) note_rest(worker, c_state);
  while (worker->inbox == nullptr) {
    if (worker->ending) {
      retire(worker);
      return nullptr;
    }
    if (worker->reset || worker->end_left) {
      tidy_up(worker, lock);
    } else if (worker->is_main && farewell_ != nullptr) {
      say_farewell(lock);
    } else if (worker->is_main) {
      worker->wake.wait(lock);
    } else if (worker->wake.wait_for(lock, limits_.idle_time) == std::cv_status::timeout &&
               worker->inbox == nullptr && is_given_up(worker)) {
      worker->ending = true;
    }
  }
  return worker->inbox.exchange(nullptr);
}

// What ends greenlets may run code of users, so the thread is not idle meanwhile. The rest takes some microseconds.
void ThreadPool::tidy_up(Worker* worker, std::unique_lock<std::mutex>& lock) {
  const bool reset = std::exchange(worker->reset, false);
  const bool greenlets = !worker->jobs.empty();
  worker->end_left = false;
  if (greenlets) take_from_idle(worker);
  lock.unlock();
  if (reset && greenlets) give_up_jobs(worker);
  if (!reset && greenlets) end_left_jobs(worker);
  if (reset) {
    const Attach attached;
    destroy_hub();
    reset_thread();
  }
  lock.lock();
  if (!greenlets) return;
  make_idle(worker);
  worker->idle_since = Clock::now();
}

// A caller that evaluates in a loop is back within microseconds, less than it takes to sleep and be woken. One thread
// at a time may wait for that awake: with more of them eight callers became nine times slower.
void ThreadPool::spin(Worker* worker) {
  const auto begun = Clock::now();
  worker->idle_since = begun;
  if (spinner_.exchange(true)) return;
  worker->awake = true;
  const auto deadline = begun + spin_time;
  do {
    for (int i = 0; i < 16 && worker->inbox.load(std::memory_order_relaxed) == nullptr; ++i)
      pause_processor();
  } while (worker->inbox.load(std::memory_order_relaxed) == nullptr && Clock::now() < deadline);
  worker->awake = false;
  spinner_ = false;
}

void ThreadPool::retire(Worker* worker) {
  if (worker->idle) take_from_idle(worker);
  disown(worker);
  workers_.erase(std::find(workers_.begin(), workers_.end(), worker));
  serve_waiting();
}

// --- The life of a job ---------------------------------------------------------------------------------------------

// Returns the next job in line, if there is one. The thread is free before the reply is sent: a caller that comes
// back at once must find its own thread idle, or it would be given another.
Job* ThreadPool::run(Worker* worker, Job* job) {
  if (std::exchange(worker->unchecked, false) && c_state_of_thread() != worker->c_state) {
    pass_on(worker, job);
    return nullptr;
  }
  if (worker->reset || worker->renew) give_up_jobs(worker);
  if (std::exchange(worker->renew, false)) {
    worker->state = nullptr;
    discard_thread_state();
  }
  const Term reply = perform(worker, job);
  const bool left = leaves_interrupted(worker, job);
  if (left) {
    job->retain();  // What greenlets still print is its evaluation's.
    deliver(job, reply);
    end_left_jobs(worker);
  }
  Job* next = next_or_idle(worker, job);
  if (left) {
    job->release();
  } else {
    deliver(job, reply);
  }
  if (const ClientPtr client = std::exchange(worker->to_watch, nullptr)) watch(client);
  return next;
}

Term ThreadPool::perform(Worker* worker, Job* job) {
  if (!start(worker, job)) return cancelled_reply(job);
  const Attach attached(Attach::in_line);
  worker->state = PyThreadState_Get();
  begin_state(worker);
  const Term reply = run_attached(worker, job);
  end_state(worker, job);
  return reply;
}

Term ThreadPool::run_attached(Worker* worker, Job* job) {
  job->note_attached();
  // What has not begun need not be interrupted.
  const Term reply = job->is_abandoned() ? cancelled_reply(job) : reply_of(job);
  finish(worker, job);
  if (has_pending()) drop_harmless(drop_budget_us);
  return reply;
}

Term ThreadPool::reply_of(Job* job) {
  const auto env = [job] {
    // A copy of the process that the job's code has made ends with it, as after any other exception.
    if (PyErr_Occurred() == nullptr) PyErr_NoMemory();
    end_if_forked();
    PyErr_Clear();
    return job->env();
  };
  return reply_or_raise(env, [job] {
    try {
      return job->run();
    } catch (const std::bad_alloc&) {
      // To Python code it is what a lack of memory is anywhere. Where there is none to say so, the next handler is told.
      if (PyErr_Occurred() == nullptr) PyErr_NoMemory();
      end_if_forked();
      return error_reply(job->env());
    }
  });
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

// --- Halt ----------------------------------------------------------------------------------------------------------

bool ThreadPool::run_last(void (*farewell)()) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (main_ == nullptr) return false;
  farewell_ = farewell;
  main_->wake.notify_one();
  return true;
}

void ThreadPool::say_farewell(std::unique_lock<std::mutex>& lock) {
  void (*farewell)() = std::exchange(farewell_, nullptr);
  lock.unlock();
  {
    Attach attached;
    farewell();
  }
  lock.lock();
}

// --- Looking at it -------------------------------------------------------------------------------------------------

std::size_t ThreadPool::thread_count() {
  std::lock_guard<std::mutex> lock(mutex_);
  return workers_.size();
}

Term elapsed_us(ErlNifEnv* env, std::chrono::steady_clock::time_point since) {
  const auto elapsed = std::chrono::steady_clock::now() - since;
  return enif_make_int64(env, std::chrono::duration_cast<std::chrono::microseconds>(elapsed).count());
}

Term ThreadPool::running(ErlNifEnv* env) {
  Term list = enif_make_list(env, 0);
  std::lock_guard<std::mutex> lock(mutex_);
  for (Worker* worker : workers_) {
    for (Job* job : worker->jobs) {
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
