#include "resources.hpp"

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <new>
#include <string>
#include <unordered_map>
#include <utility>

#include "connection.hpp"

namespace pythonx::worker {
namespace {

using Clock = std::chrono::steady_clock;

struct Monitor {
  Resource* resource;  // without a reference
  Term pid;
  Clock::time_point since;
  bool told;
};

struct Registry {
  std::mutex mutex;
  std::uint64_t last_serial = 0;
  std::unordered_map<std::uint64_t, Resource*> lent;
  std::unordered_map<std::uint32_t, Resource*> jobs;  // without references
  std::uint64_t last_monitor = 0;
  std::unordered_map<std::uint64_t, Monitor> monitors;
  std::deque<std::uint64_t> untold;      // that have begun, in order; some may have ended
  std::vector<std::uint64_t> cancelled;  // that the VM still watches for
  Clock::time_point cancelled_since;
  std::atomic<bool> news{false};
};

Registry& registry() {
  static auto* instance = new Registry;
  return *instance;
}

// With the mutex held. Whether the VM has to be told.
bool forget_monitor(Registry* known, std::uint64_t number, Resource** of) {
  const auto found = known->monitors.find(number);
  if (found == known->monitors.end()) return false;
  *of = found->second.resource;
  if (found->second.told) {
    if (known->cancelled.empty()) known->cancelled_since = Clock::now();
    known->cancelled.push_back(number);
    known->news.store(true, std::memory_order_release);
  }
  known->monitors.erase(found);
  return true;
}

// With the mutex held. Those that nobody was told of are in order, so that this keeps the list as short as what is there.
void drop_ended(Registry* known) {
  while (!known->untold.empty() && known->monitors.count(known->untold.front()) == 0)
    known->untold.pop_front();
}

void destroy_resource(Counted* object) {
  auto* resource = static_cast<Resource*>(object);
  {
    Registry& known = registry();
    const std::lock_guard<std::mutex> lock(known.mutex);
    Resource* same = nullptr;
    for (const std::uint64_t number : resource->monitors) forget_monitor(&known, number, &same);
    const auto job = resource->job == 0 ? known.jobs.end() : known.jobs.find(resource->job);
    if (job != known.jobs.end() && job->second == resource) known.jobs.erase(job);
  }
  if (resource->type->destructor != nullptr) {
    Env env;
    resource->type->destructor(&env, memory_of(resource));
  }
  resource->~Resource();
  std::free(resource);
}

}  // namespace

ResourceType* open_type(const char* name, const ErlNifResourceTypeInit& callbacks) {
  static auto* types = new std::unordered_map<std::string, ResourceType>;
  Registry& known = registry();
  const std::lock_guard<std::mutex> lock(known.mutex);
  const auto [entry, is_new] = types->try_emplace(name);
  entry->second = {entry->first.c_str(), callbacks.dtor, callbacks.down};
  return &entry->second;
}

Resource* make_resource(ResourceType* type, std::size_t size) {
  void* memory = std::malloc(sizeof(Resource) + size);
  if (memory == nullptr) throw std::bad_alloc();
  auto* resource = new (memory) Resource;
  resource->type = type;
  resource->destroy = destroy_resource;
  return resource;
}

Term make_resource_term(Env* env, Resource* resource) {
  env->refer_to(resource);
  Term* box = env->allocate(2);
  box[0] = header(Kind::resource, sizeof(Term));
  box[1] = reinterpret_cast<Term>(static_cast<Counted*>(resource));
  return box_term(box);
}

std::uint64_t serial_of(Resource* resource) {
  Registry& known = registry();
  const std::lock_guard<std::mutex> lock(known.mutex);
  if (resource->serial == 0) resource->serial = ++known.last_serial;
  return resource->serial;
}

void lend(const std::vector<Resource*>& resources) {
  if (resources.empty()) return;
  Registry& known = registry();
  const std::lock_guard<std::mutex> lock(known.mutex);
  for (Resource* resource : resources) {
    if (resource->lent == 0) {
      known.lent.emplace(resource->serial, resource);
      keep(resource);
    }
    ++resource->lent;
  }
}

void give_back(std::uint64_t serial, std::uint64_t count) {
  Registry& known = registry();
  Resource* done = nullptr;
  {
    const std::lock_guard<std::mutex> lock(known.mutex);
    const auto found = known.lent.find(serial);
    if (found == known.lent.end()) return;
    Resource* resource = found->second;
    resource->lent -= std::min(count, resource->lent);
    if (resource->lent > 0) return;
    known.lent.erase(found);
    done = resource;
  }
  release(done);
}

Term find_lent(Env* env, std::uint64_t serial) {
  Registry& known = registry();
  const std::lock_guard<std::mutex> lock(known.mutex);
  const auto found = known.lent.find(serial);
  return found == known.lent.end() ? 0 : make_resource_term(env, found->second);
}

void name_job(Resource* resource, std::uint32_t number) {
  Registry& known = registry();
  const std::lock_guard<std::mutex> lock(known.mutex);
  resource->job = number;
  known.jobs[number] = resource;
}

Term find_job(Env* env, std::uint32_t number) {
  Registry& known = registry();
  Resource* resource = nullptr;
  {
    const std::lock_guard<std::mutex> lock(known.mutex);
    const auto found = known.jobs.find(number);
    if (found == known.jobs.end() || !keep_if_alive(found->second)) return 0;
    resource = found->second;
  }
  const Term term = make_resource_term(env, resource);
  release(resource);
  return term;
}

std::uint64_t begin_monitor(Resource* resource, Term pid) {
  Registry& known = registry();
  bool first = false;
  std::uint64_t number = 0;
  {
    const std::lock_guard<std::mutex> lock(known.mutex);
    number = ++known.last_monitor;
    known.monitors.emplace(number, Monitor{resource, pid, Clock::now(), false});
    resource->monitors.push_back(number);
    known.untold.push_back(number);
    first = !known.news.exchange(true, std::memory_order_acq_rel);
  }
  if (first) wake_reader();
  return number;
}

bool end_monitor(std::uint64_t number) {
  Registry& known = registry();
  const std::lock_guard<std::mutex> lock(known.mutex);
  Resource* resource = nullptr;
  if (!forget_monitor(&known, number, &resource)) return false;
  auto& own = resource->monitors;
  own.erase(std::remove(own.begin(), own.end(), number), own.end());
  drop_ended(&known);
  if (known.untold.empty() && known.cancelled.empty()) known.news.store(false, std::memory_order_relaxed);
  return true;
}

Clock::time_point monitor_news_since() {
  Registry& known = registry();
  if (!known.news.load(std::memory_order_acquire)) return never;
  const std::lock_guard<std::mutex> lock(known.mutex);
  drop_ended(&known);
  Clock::time_point since = known.cancelled.empty() ? never : known.cancelled_since;
  if (!known.untold.empty()) since = std::min(since, known.monitors.at(known.untold.front()).since);
  return since;
}

MonitorNews take_monitor_news() {
  Registry& known = registry();
  MonitorNews news;
  const std::lock_guard<std::mutex> lock(known.mutex);
  known.news.store(false, std::memory_order_relaxed);
  for (const std::uint64_t number : known.untold) {
    const auto found = known.monitors.find(number);
    if (found == known.monitors.end()) continue;
    found->second.told = true;
    news.begun.emplace_back(number, found->second.pid);
  }
  known.untold.clear();
  news.ended = std::exchange(known.cancelled, {});
  return news;
}

void monitor_down(std::uint64_t number) {
  Registry& known = registry();
  Resource* resource = nullptr;
  ErlNifPid pid{};
  {
    const std::lock_guard<std::mutex> lock(known.mutex);
    const auto found = known.monitors.find(number);
    if (found == known.monitors.end()) return;
    pid.pid = found->second.pid;
    resource = found->second.resource;
    if (!keep_if_alive(resource)) return;
    known.monitors.erase(found);
    auto& own = resource->monitors;
    own.erase(std::remove(own.begin(), own.end(), number), own.end());
  }
  ErlNifMonitor monitor{};
  std::memcpy(&monitor, &number, sizeof(number));
  {
    Env env;
    resource->type->down(&env, memory_of(resource), &pid, &monitor);
  }
  release(resource);
}

}  // namespace pythonx::worker
