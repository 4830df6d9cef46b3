#include "threads/reaper.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <utility>
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
    PyObject* object = nullptr;
    while (!is_cancelled() && drop_pending(&turn_, &object)) {
      if (object == nullptr) continue;
      begin(object);
      // A large container takes its time, and is not stuck.
      drop_in_portions(std::exchange(object, nullptr), [this] { count_steps(2); });
      count_steps(1);
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

  // How many steps it has made. As long as the number is the same and odd, it is at the same object, or portion of one.
  std::uint64_t steps() const { return steps_.load(std::memory_order_relaxed); }

 private:
  // The label may be read at any time, without a lock: at worst it is of two names. Most objects are of the type of the one
  // before.
  void begin(PyObject* object) {
    const char* name = Py_TYPE(object)->tp_name;
    for (std::size_t i = 0; i + 1 < type_.size(); ++i) {
      const char character = (name[i] & 0x80) != 0 ? '?' : name[i];
      if (type_[i].load(std::memory_order_relaxed) != character)
        type_[i].store(character, std::memory_order_relaxed);
      if (character == '\0') break;
    }
    count_steps(1);
  }

  void count_steps(std::uint64_t count) { steps_.store(steps() + count, std::memory_order_relaxed); }

  pythonx::Handoff turn_{pythonx::Handoff::begins_later};
  std::array<std::atomic<char>, 80> type_{};
  std::atomic<std::uint64_t> steps_{0};
};

// The release in hand, as seen from outside: no clock is read for each of a million objects.
class Watched {
 public:
  explicit operator bool() const { return release_ != nullptr; }

  void begin(Release* release) {
    release_ = release;
    steps_ = 0;
  }

  Release* end() { return std::exchange(release_, nullptr); }

  bool is_done() const { return release_->is_done(); }

  // Looks how far it is. Whether it has been at the same object for too long.
  bool is_stuck() {
    const std::uint64_t steps = release_->steps();
    if (steps != std::exchange(steps_, steps)) since_ = Clock::now();
    return steps % 2 == 1 && Clock::now() - since_ > reaper_patience;
  }

  Clock::time_point since() const { return since_; }

 private:
  Release* release_ = nullptr;
  std::uint64_t steps_ = 0;
  Clock::time_point since_{};
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
  Watched release;
  std::vector<Stuck> stuck;
  auto interval = shortest_interval;
  for (;;) {
    if (!release) wait_for_pending(stuck.empty() ? forever : longest_interval);
    const std::size_t looks = looks_at_pending();
    // A moment's patience makes one batch of what a collection drops, and leaves to jobs what these drop as they end.
    std::this_thread::sleep_for(interval);
    look_after(&stuck);
    if (release && release.is_done()) {
      release.end()->release();
    } else if (release && release.is_stuck()) {
      stuck.push_back({release.end(), release.since()});
      report(*stuck.back().release, atoms.release_stuck, stuck.back().since);
    }
    interval = release ? std::min(2 * interval, longest_interval) : shortest_interval;
    if (!release && is_left_pending(looks)) release.begin(begin_release());
  }
}

}  // namespace pythonx
