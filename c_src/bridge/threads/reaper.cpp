#include "threads/reaper.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "conversion/object.hpp"
#include "python/gil.hpp"
#include "python/portions.hpp"
#include "threads/pool.hpp"
#include "vm/system.hpp"

namespace pythonx {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto reaper_patience = std::chrono::milliseconds(1000);

// How long to wait before it is looked again how a release fares: a short one has ended by then, a long one takes its time.
constexpr auto shortest_interval = std::chrono::milliseconds(1);
constexpr auto longest_interval = std::chrono::milliseconds(32);
constexpr auto forever = std::chrono::hours(24);

ErlNifPid janitor() {
  ErlNifPid pid;
  if (!enif_whereis_pid(nullptr, atoms.janitor, &pid)) enif_set_pid_undefined(&pid);
  return pid;
}

class Release : public Job {
 public:
  Release() : Job(janitor()) {}

  // Drops what is pending until there is nothing left or it is interrupted, then only the object in hand is given up.
  Term run() override {
    while (!is_cancelled()) {
      PyObject* object = take_pending();
      if (object == nullptr) break;
      begin(object);
      // A large container takes its time, and is not stuck.
      drop_in_portions(object, [this] { note_time(); });
      since_ = Clock::duration::zero().count();
      note_dropped(1);
      turn_.tick();
    }
    return atoms.ok;
  }

  // A finalizer that hangs would keep the main thread from everybody.
  bool may_run_on_main() const override { return false; }

  // Finalizers of many are one process's jobs.
  bool keeps_state() const override { return false; }

  std::string label() const override {
    std::string text = "release of an object of type ";
    for (const std::atomic<char>& character : type_) {
      const char value = character.load(std::memory_order_relaxed);
      if (value == '\0') break;
      text.push_back(value);
    }
    return text;
  }

  // For how long the object in hand has been dropped.
  Clock::duration elapsed() const {
    const Clock::rep since = since_.load(std::memory_order_relaxed);
    return since == 0 ? Clock::duration::zero() : Clock::now() - Clock::time_point(Clock::duration(since));
  }

  bool is_stuck() const { return elapsed() > reaper_patience; }

 private:
  // The label may be read at any time, without a lock: at worst it is of two names.
  void begin(PyObject* object) {
    const char* name = Py_TYPE(object)->tp_name;
    for (std::size_t i = 0; i + 1 < type_.size(); ++i) {
      const char character = (name[i] & 0x80) != 0 ? '?' : name[i];
      type_[i].store(character, std::memory_order_relaxed);
      if (character == '\0') break;
    }
    note_time();
  }

  void note_time() { since_.store(Clock::now().time_since_epoch().count(), std::memory_order_relaxed); }

  pythonx::Handoff turn_;
  std::array<std::atomic<char>, 80> type_{};
  std::atomic<Clock::rep> since_{0};
};

// Sends {:pythonx_event, :release_stuck | :release_freed, thread, elapsed_us, what} to Pythonx.Watch.
void report(const Release& release, Term what, Clock::time_point since) {
  ErlNifPid watch;
  if (!enif_whereis_pid(nullptr, atoms.watch, &watch)) return;
  ErlNifEnv* env = enif_alloc_env();
  enif_send(nullptr, &watch, env,
            make_tuple(env, atoms.pythonx_event, what, enif_make_uint64(env, release.thread_id()),
                       elapsed_us(env, since), make_binary(env, release.label())));
  enif_free_env(env);
}

// A release that was set aside: it is looked after until it ends.
struct Stuck {
  Release* release;
  Clock::time_point since;
};

// Those that have ended are reported, and forgotten.
void look_after(std::vector<Stuck>* stuck) {
  const auto ended = std::partition(stuck->begin(), stuck->end(),
                                    [](const Stuck& entry) { return !entry.release->is_done(); });
  for (auto entry = ended; entry != stuck->end(); ++entry) {
    report(*entry->release, atoms.release_freed, entry->since);
    entry->release->release();
  }
  stuck->erase(ended, stuck->end());
}

Release* begin_release() {
  auto* release = new Release;
  release->retain();  // The reference that it was made with passes to the pool.
  ThreadPool::instance().submit(release);
  return release;
}

}  // namespace

void serve_releases() {
  name_thread("python_reaper");
  Release* release = nullptr;
  std::vector<Stuck> stuck;
  auto interval = shortest_interval;
  for (;;) {
    bool pending = true;
    if (release == nullptr) pending = wait_for_pending(stuck.empty() ? forever : longest_interval);
    // A moment's patience makes one batch of what a collection drops.
    std::this_thread::sleep_for(interval);
    look_after(&stuck);
    if (release != nullptr && release->is_done()) {
      release->release();
      release = nullptr;
      pending = wait_for_pending(std::chrono::milliseconds(0));
    } else if (release != nullptr && release->is_stuck()) {
      stuck.push_back({release, Clock::now() - release->elapsed()});
      report(*release, atoms.release_stuck, stuck.back().since);
      release = nullptr;
    }
    interval = release == nullptr ? shortest_interval : std::min(2 * interval, longest_interval);
    if (release == nullptr && pending) release = begin_release();
  }
}

}  // namespace pythonx
