#include "functions.hpp"

#include <mutex>
#include <utility>

#include "connection.hpp"

namespace pythonx::worker {
namespace {

struct Dropped {
  std::mutex mutex;
  std::vector<std::uint64_t> numbers;
  std::atomic<bool> any{false};
};

Dropped& dropped() {
  static auto* instance = new Dropped;
  return *instance;
}

void drop_function(Counted* object) {
  auto* function = static_cast<Function*>(object);
  {
    Dropped& list = dropped();
    const std::lock_guard<std::mutex> lock(list.mutex);
    list.numbers.push_back(function->number);
    list.any.store(true, std::memory_order_release);
  }
  delete function;
  wake_reader();
}

}  // namespace

Term make_function(Env* env, std::uint32_t creation, std::uint64_t number, std::uint32_t last) {
  auto* function = new Function;
  function->destroy = drop_function;
  function->number = number;
  function->creation = creation;
  function->last = last;
  env->own(function);
  Term* box = env->allocate(2);
  box[0] = header(Kind::function, sizeof(Term));
  box[1] = reinterpret_cast<Term>(static_cast<Counted*>(function));
  return box_term(box);
}

std::vector<std::uint64_t> take_dropped_functions() {
  Dropped& list = dropped();
  const std::lock_guard<std::mutex> lock(list.mutex);
  list.any.store(false, std::memory_order_relaxed);
  return std::exchange(list.numbers, {});
}

bool has_dropped_functions() { return dropped().any.load(std::memory_order_acquire); }

}  // namespace pythonx::worker
