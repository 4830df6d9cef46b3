#include "atoms.hpp"

#include <array>
#include <atomic>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>

namespace pythonx::worker {
namespace {

constexpr std::size_t block_size = 1024;
constexpr std::size_t most_blocks = 1024;
constexpr std::size_t longest_name = 255;  // characters

// Blocks stay where they are, so that an atom is read without the lock: who has its word knows that it is there.
struct AtomTable {
  std::shared_mutex mutex;
  std::unordered_map<std::string_view, Term> by_name;
  std::array<std::atomic<Atom*>, most_blocks> blocks{};
  std::size_t count = 0;
};

AtomTable& atom_table() {
  static auto* instance = new AtomTable;
  return *instance;
}

// How many characters valid UTF-8 has, or more than an atom may have.
std::size_t count_characters(const unsigned char* name, std::size_t size) {
  constexpr std::size_t invalid = longest_name + 1;
  std::size_t count = 0;
  for (std::size_t i = 0; i < size; ++count) {
    const unsigned first = name[i];
    const std::size_t length = first < 0x80   ? 1
                               : first < 0xC2 ? 0
                               : first < 0xE0 ? 2
                               : first < 0xF0 ? 3
                               : first < 0xF5 ? 4
                                              : 0;
    if (length == 0 || length > size - i) return invalid;
    for (std::size_t j = 1; j < length; ++j)
      if ((name[i + j] & 0xC0) != 0x80) return invalid;
    if (length > 2) {
      const unsigned second = name[i + 1];
      const bool wrong = (first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F) ||
                         (first == 0xF0 && second < 0x90) || (first == 0xF4 && second > 0x8F);
      if (wrong) return invalid;
    }
    i += length;
  }
  return count;
}

Term add_atom(AtomTable* table, const unsigned char* name, std::size_t size, std::size_t characters) {
  const std::size_t number = table->count;
  if (number == block_size * most_blocks) return 0;
  std::atomic<Atom*>& block = table->blocks[number / block_size];
  if (block.load(std::memory_order_relaxed) == nullptr)
    block.store(new Atom[block_size], std::memory_order_release);
  auto* copy = new unsigned char[size + 1];
  if (size > 0) std::memcpy(copy, name, size);
  Atom& atom = block.load(std::memory_order_relaxed)[number % block_size];
  atom = {copy, size, characters};
  const Term term = static_cast<Term>(number) << tag_bits | atom_tag;
  table->by_name.emplace(std::string_view(reinterpret_cast<const char*>(copy), size), term);
  ++table->count;
  return term;
}

}  // namespace

Term find_atom(const unsigned char* name, std::size_t size, bool may_be_new) {
  AtomTable& atoms = atom_table();
  const std::string_view key(reinterpret_cast<const char*>(name), size);
  {
    const std::shared_lock<std::shared_mutex> lock(atoms.mutex);
    const auto found = atoms.by_name.find(key);
    if (found != atoms.by_name.end()) return found->second;
  }
  if (!may_be_new || size > 4 * longest_name) return 0;
  const std::size_t characters = count_characters(name, size);
  if (characters > longest_name) return 0;
  const std::unique_lock<std::shared_mutex> lock(atoms.mutex);
  const auto found = atoms.by_name.find(key);
  return found != atoms.by_name.end() ? found->second : add_atom(&atoms, name, size, characters);
}

const Atom& atom_of(Term term) {
  const std::size_t number = term >> tag_bits;
  return atom_table().blocks[number / block_size].load(std::memory_order_acquire)[number % block_size];
}

}  // namespace pythonx::worker
