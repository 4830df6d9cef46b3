#include "processes.hpp"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <unordered_map>
#include <unordered_set>

#include "atoms.hpp"
#include "connection.hpp"
#include "maps.hpp"

namespace pythonx::worker {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t most_dead = 4096;
// A process that was alive is not asked for again so soon.
constexpr auto ask_interval = std::chrono::milliseconds(20);

// A question. Answers are words, which need no environment.
struct Ask {
  Term pid = 0;  // whose life it is about; 0 when a thread waits
  Term answer = 0;
  bool answered = false;
};

// Leaked: threads may wait in here when the process ends.
struct Known {
  std::mutex mutex;
  std::condition_variable answered;
  std::unordered_map<Term, Term> names;
  std::uint32_t last_ask = 0;
  std::unordered_map<std::uint32_t, Ask> asks;
  std::unordered_map<Term, Clock::time_point> asked;  // when, by process
  std::unordered_set<Term> dead;
  std::deque<Term> dead_order;
};

Known& known() {
  static auto* instance = new Known;
  return *instance;
}

void write_ask(std::uint32_t number, const char* what, Term about) {
  const Term box[] = {header(Kind::tuple, 2), find_atom(what), about};
  write_frame(From::ask, number, box_term(box));
}

// With the mutex held.
void note_dead(Known* all, Term pid) {
  if (!all->dead.insert(pid).second) return;
  all->dead_order.push_back(pid);
  if (all->dead_order.size() <= most_dead) return;
  all->dead.erase(all->dead_order.front());
  all->dead_order.pop_front();
}

// With the mutex held, which is let go meanwhile. The reader would wait for itself, and a child of fork() for nobody.
Term wait_for_answer(Known* all, std::unique_lock<std::mutex>* lock, const char* what, Term about) {
  if (is_reader() || is_forked()) return 0;
  const std::uint32_t number = ++all->last_ask;
  // References to elements of such a map stay.
  Ask& ask = all->asks[number];
  lock->unlock();
  write_ask(number, what, about);
  lock->lock();
  all->answered.wait(*lock, [&ask] { return ask.answered; });
  const Term answer = ask.answer;
  all->asks.erase(number);
  return answer;
}

}  // namespace

void set_names(Term map) {
  Known& all = known();
  const std::lock_guard<std::mutex> lock(all.mutex);
  all.names.clear();
  if (!is_map(map)) return;
  const Term* box = box_of(map);
  for (std::size_t i = 0; i < size_of(box); ++i)
    if (is_pid(box[2 + 2 * i])) all.names[box[1 + 2 * i]] = box[2 + 2 * i];
}

Term whereis(Term name) {
  Known& all = known();
  std::unique_lock<std::mutex> lock(all.mutex);
  const auto found = all.names.find(name);
  if (found != all.names.end()) return found->second;
  const Term answer = wait_for_answer(&all, &lock, "whereis", name);
  return is_pid(answer) ? answer : 0;
}

bool is_atom_of_vm(Term name) {
  static const Term yes = find_atom("true");
  Known& all = known();
  std::unique_lock<std::mutex> lock(all.mutex);
  return wait_for_answer(&all, &lock, "atom", name) == yes;
}

bool is_known_dead(Term pid) {
  Known& all = known();
  const std::lock_guard<std::mutex> lock(all.mutex);
  return all.dead.count(pid) != 0;
}

bool is_alive(Term pid) {
  Known& all = known();
  std::uint32_t number = 0;
  {
    const std::lock_guard<std::mutex> lock(all.mutex);
    if (all.dead.count(pid) != 0) return false;
    const auto now = Clock::now();
    const auto before = all.asked.find(pid);
    if (is_forked() || (before != all.asked.end() && now - before->second < ask_interval)) return true;
    if (all.asked.size() >= most_dead) all.asked.clear();
    all.asked[pid] = now;
    number = ++all.last_ask;
    all.asks[number].pid = pid;
  }
  write_ask(number, "alive", pid);
  return true;
}

void take_answer(std::uint32_t number, Term answer) {
  static const Term no = find_atom("false");
  Known& all = known();
  const std::lock_guard<std::mutex> lock(all.mutex);
  const auto found = all.asks.find(number);
  if (found == all.asks.end()) return;
  Ask& ask = found->second;
  if (ask.pid == 0) {
    ask.answer = answer;
    ask.answered = true;
    all.answered.notify_all();
    return;
  }
  if (answer == no) {
    note_dead(&all, ask.pid);
    all.asked.erase(ask.pid);
  }
  all.asks.erase(found);
}

}  // namespace pythonx::worker
