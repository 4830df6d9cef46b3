#include "interpreters/registry.hpp"

#include <algorithm>
#include <mutex>

#include "interpreters/interpreter.hpp"

namespace pythonx {
namespace {

using Pointer = std::shared_ptr<Subinterpreter>;

// Leaked, as every static with a destructor must be.
struct Registry {
  std::mutex mutex;
  std::vector<Pointer> open;
  std::uint64_t last_number = 0;
  bool halting = false;
};
Registry& registry() {
  static Registry* instance = new Registry;
  return *instance;
}

bool is_taken(const std::string& name) {
  const auto& open = registry().open;
  return std::any_of(open.begin(), open.end(), [&](const Pointer& other) { return other->name() == name; });
}

// With the registry's mutex held.
std::string free_name() {
  std::string name;
  do {
    name = "interpreter-" + std::to_string(++registry().last_number);
  } while (is_taken(name));
  return name;
}

}  // namespace

Pointer enroll(const std::string& wanted, std::string* failure) {
  std::lock_guard<std::mutex> lock(registry().mutex);
  if (registry().halting) {
    *failure = "the VM is halting";
  } else if (is_taken(wanted)) {
    *failure = Subinterpreter::name_taken;
  } else {
    registry().open.push_back(std::make_shared<Subinterpreter>(wanted.empty() ? free_name() : wanted));
    return registry().open.back();
  }
  return nullptr;
}

void strike_off(const Subinterpreter* interpreter) {
  Pointer struck;  // dropped without the mutex
  std::lock_guard<std::mutex> lock(registry().mutex);
  auto& open = registry().open;
  const auto found =
      std::find_if(open.begin(), open.end(), [&](const Pointer& p) { return p.get() == interpreter; });
  if (found == open.end()) return;
  struck = *found;
  open.erase(found);
}

std::vector<Pointer> all_subinterpreters() {
  std::lock_guard<std::mutex> lock(registry().mutex);
  return registry().open;
}

void close_registry() {
  std::lock_guard<std::mutex> lock(registry().mutex);
  registry().halting = true;
}

}  // namespace pythonx
