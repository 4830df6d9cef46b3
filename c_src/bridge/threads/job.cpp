#include "threads/job.hpp"

#include "conversion/object.hpp"
#include "python/pause.hpp"
#include "threads/pool.hpp"
#include "vm/resource.hpp"

namespace pythonx {
namespace {

constexpr auto linger_time = std::chrono::microseconds(5);

struct JobResource {
  Job* job;

  void collected(ErlNifEnv*) { job->release(); }

  // The caller died. Cancelling only marks and wakes, so it never waits for the GIL.
  void down(ErlNifEnv*) { ThreadPool::instance().cancel(job, true); }
};

ResourceType<JobResource> job_type;
std::atomic<bool> observing{false};

}  // namespace

Job::Job(ErlNifEnv* caller_env) : observed_(is_observing()) {
  enif_self(caller_env, &caller_);
  if (observed_) submitted_at_ = std::chrono::steady_clock::now();
}

Job::Job(const ErlNifPid& caller) : caller_(caller), observed_(false) {}

Job::~Job() {
  if (env_ != nullptr) enif_free_env(env_);
  if (message_env_ != nullptr) enif_free_env(message_env_);
}

ErlNifEnv* Job::env() {
  if (env_ == nullptr) env_ = enif_alloc_env();
  return env_;
}

bool Job::is_abandoned() {
  if (!cancelled_) return false;
  std::lock_guard<std::mutex> lock(mutex);
  return mute_;
}

void Job::note_attached() {
  begun_.store(true, std::memory_order_relaxed);
  if (observed_) attached_at_ = std::chrono::steady_clock::now();
}

Term Job::take_reply(ErlNifEnv* env) {
  const Term reply = reply_ == 0   ? reply_or_raise([env] { return env; }, [=] { return make_reply(env); })
                     : env == env_ ? reply_
                                   : enif_make_copy(env, reply_);
  return with_times(env, reply);
}

Term Job::with_times(ErlNifEnv* env, Term reply) const {
  if (!observed_ || attached_at_ < submitted_at_) return reply;
  return make_observed(env, reply, started_at_ - submitted_at_, attached_at_ - started_at_,
                       enif_make_uint64(env, thread_id_));
}

void observe(bool wanted) { observing = wanted; }

bool is_observing() { return observing.load(std::memory_order_relaxed); }

Term make_observed(ErlNifEnv* env, Term reply, std::chrono::nanoseconds queued,
                   std::chrono::nanoseconds waited, Term thread) {
  const Term times =
      make_tuple(env, enif_make_int64(env, queued.count()), enif_make_int64(env, waited.count()), thread);
  return make_tuple(env, atoms.observed, reply, times);
}

bool open_job_type(ErlNifEnv* env) { return job_type.open(env, "pythonx_job") && open_client_type(env); }

// True when the job has ended and its reply is ours to take.
bool linger(Job* job, bool awake) {
  using clock = std::chrono::steady_clock;
  if (!awake) return false;
  const auto deadline = clock::now() + linger_time;
  do {
    for (int i = 0; i < 32; ++i) {
      if (job->handoff_.load(std::memory_order_acquire) == Job::Handoff::taken) return true;
      pause_processor();
    }
  } while (clock::now() < deadline);
  return false;
}

// The job's resource and the environment of its message. Two references to the resource: one is the caller's.
void make_messenger(Job* job, Term reference) {
  JobResource* resource = job_type.make(job);
  job->retain();
  enif_keep_resource(resource);
  job->resource_ = resource;
  job->message_env_ = enif_alloc_env();
  job->reference_ = enif_make_copy(job->message_env_, reference);
}

// Asks for the reply as a message; false when the job has ended meanwhile.
bool let_go(Job* job, Term reference) {
  make_messenger(job, reference);
  auto expected = Job::Handoff::lingering;
  if (job->handoff_.compare_exchange_strong(expected, Job::Handoff::gone)) return true;
  enif_release_resource(job->resource_);
  enif_release_resource(job->resource_);
  return false;
}

// The caller cannot die while it is in here, so it needs to be watched only from now on.
void watch_caller(ErlNifEnv* env, Job* job) {
  std::lock_guard<std::mutex> lock(job->mutex);
  if (job->state_ == Job::State::done) return;
  job->monitored_ = enif_monitor_process(env, job->resource_, &job->caller_, &job->monitor_) == 0;
}

// Whether a reply may hold a term twice. To copy it would unfold it: one of n doublings takes 2^n.
bool may_share(ErlNifEnv* env, Term reply) {
  const Term* parts;
  int arity;
  if (!enif_get_tuple(env, reply, &arity, &parts) || arity < 2 || get_object(env, parts[1]) != nullptr)
    return false;
  return enif_is_list(env, parts[1]) || enif_is_map(env, parts[1]) || enif_is_tuple(env, parts[1]);
}

// The reply that was left to be taken: {:reply, reply}, or a message after all, which takes the environment as it is.
Term hand_over(ErlNifEnv* env, Term reference, Job* job) {
  if (job->reply_ == 0 || !may_share(job->env_, job->reply_))
    return make_tuple(env, atoms.reply, job->take_reply(env));
  const Term tag = enif_make_copy(job->env_, reference);
  enif_send(env, &job->caller_, job->env_, make_tuple(job->env_, tag, job->take_reply(job->env_)));
  return atoms.ok;
}

Term submit(ErlNifEnv* env, Term reference, Job* job) {
  job->retain();  // The reference that it was made with passes to the pool.
  const bool awake = ThreadPool::instance().submit(job);
  Term result;
  if (linger(job, awake) || !let_go(job, reference)) {
    result = hand_over(env, reference, job);
  } else {
    watch_caller(env, job);
    result = enif_make_resource(env, job->resource_);
    enif_release_resource(job->resource_);
  }
  job->release();
  return result;
}

Job* get_job(ErlNifEnv* env, Term term) {
  const JobResource* resource = job_type.get(env, term);
  return resource == nullptr ? nullptr : resource->job;
}

}  // namespace pythonx
