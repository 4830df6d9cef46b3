#include "pids.hpp"

#include <array>
#include <atomic>
#include <deque>
#include <map>
#include <mutex>
#include <tuple>

namespace pythonx::worker {
namespace {

constexpr unsigned id_bits = 28;
constexpr unsigned serial_bits = 30;
constexpr Term table_node = 7;
constexpr std::size_t most_pids_in_table = 1 << 20;

struct PidNode {
  Term name;
  std::uint32_t creation;
};

using PidKey = std::tuple<Term, std::uint32_t, std::uint32_t, std::uint32_t>;

// Nodes are only added, and read without the lock.
struct PidTable {
  std::mutex mutex;
  std::array<PidNode, table_node> nodes{};
  std::atomic<std::size_t> node_count{0};
  std::deque<Pid> pids;
  std::map<PidKey, Term> by_key;
  PidNode home{};
};

PidTable& pid_table() {
  static auto* instance = new PidTable;
  return *instance;
}

// table_node when there are too many.
Term node_number(PidTable* known, Term name, std::uint32_t creation) {
  const auto find = [=](std::size_t from, std::size_t to) {
    while (from < to && (known->nodes[from].name != name || known->nodes[from].creation != creation)) ++from;
    return from;
  };
  const std::size_t count = known->node_count.load(std::memory_order_acquire);
  if (const std::size_t number = find(0, count); number < count) return number;
  const std::lock_guard<std::mutex> lock(known->mutex);
  const std::size_t now = known->node_count.load(std::memory_order_relaxed);
  const std::size_t number = find(count, now);
  if (number < now || now == table_node) return number;
  known->nodes[now] = {name, creation};
  known->node_count.store(now + 1, std::memory_order_release);
  return now;
}

Term pid_word(Term node, Term rest) {
  return ((node << (id_bits + serial_bits)) | rest) << tag_bits | pid_tag;
}

}  // namespace

Term pid_term(const Pid& pid) {
  PidTable& known = pid_table();
  if (pid.id >> id_bits == 0 && pid.serial >> serial_bits == 0) {
    const Term node = node_number(&known, pid.node, pid.creation);
    if (node != table_node) return pid_word(node, Term{pid.serial} << id_bits | pid.id);
  }
  const std::lock_guard<std::mutex> lock(known.mutex);
  const PidKey key(pid.node, pid.creation, pid.id, pid.serial);
  const auto found = known.by_key.find(key);
  if (found != known.by_key.end()) return found->second;
  if (known.pids.size() == most_pids_in_table) return 0;
  const Term term = pid_word(table_node, known.pids.size());
  known.pids.push_back(pid);
  known.by_key.emplace(key, term);
  return term;
}

Pid pid_of(Term term) {
  PidTable& known = pid_table();
  const Term bits = term >> tag_bits;
  const Term node = bits >> (id_bits + serial_bits);
  const Term rest = bits & ((Term{1} << (id_bits + serial_bits)) - 1);
  if (node == table_node) {
    const std::lock_guard<std::mutex> lock(known.mutex);
    return known.pids[rest];
  }
  const PidNode& of = known.nodes[node];
  const auto id = static_cast<std::uint32_t>(rest & ((Term{1} << id_bits) - 1));
  return {of.name, of.creation, id, static_cast<std::uint32_t>(rest >> id_bits)};
}

void set_home(Term pid) {
  const Pid own = pid_of(pid);
  pid_table().home = {own.node, own.creation};
}

bool is_local_pid(Term pid) {
  const Pid other = pid_of(pid);
  const PidNode& home = pid_table().home;
  return other.node == home.name && other.creation == home.creation;
}

}  // namespace pythonx::worker
