#include "maps.hpp"

#include <new>

#include "order.hpp"

namespace pythonx::worker {
namespace {

constexpr std::size_t most_pairs = std::size_t{1} << 31;

std::uint32_t* index_of(Term* box) { return reinterpret_cast<std::uint32_t*>(box + 1 + 2 * size_of(box)); }

const std::uint32_t* index_of(const Term* box) {
  return reinterpret_cast<const std::uint32_t*>(box + 1 + 2 * size_of(box));
}

const Term* pair_at(const Term* box, std::size_t number) { return box + 1 + 2 * number; }

// Where a key is, or how many pairs there are.
std::size_t find_pair(const Term* box, Term key) {
  const std::size_t count = size_of(box);
  if (count <= most_without_index) {
    std::size_t i = 0;
    while (i < count && !is_same(*pair_at(box, i), key)) ++i;
    return i;
  }
  const std::uint32_t* index = index_of(box);
  const std::size_t mask = index_size(count) - 1;
  for (std::size_t slot = hash_term(key) & mask; index[slot] != 0; slot = (slot + 1) & mask) {
    const std::size_t number = index[slot] - 1;
    if (is_same(*pair_at(box, number), key)) return number;
  }
  return count;
}

}  // namespace

std::size_t index_size(std::size_t count) {
  std::size_t size = 1;
  while (size < 2 * count) size *= 2;
  return size;
}

Term* new_map(Env* env, std::size_t count) {
  if (count >= most_pairs) throw std::bad_alloc();
  Term* box = env->allocate(map_words(count));
  box[0] = header(Kind::map, count);
  return box;
}

bool finish_map(Term* box) {
  const std::size_t count = size_of(box);
  if (count <= most_without_index) {
    for (std::size_t i = 1; i < count; ++i)
      for (std::size_t j = 0; j < i; ++j)
        if (is_same(*pair_at(box, i), *pair_at(box, j))) return false;
    return true;
  }
  std::uint32_t* index = index_of(box);
  const std::size_t mask = index_size(count) - 1;
  std::memset(index, 0, (mask + 1) * sizeof(*index));
  for (std::size_t number = 0; number < count; ++number) {
    const Term key = *pair_at(box, number);
    std::size_t slot = hash_term(key) & mask;
    for (; index[slot] != 0; slot = (slot + 1) & mask)
      if (is_same(*pair_at(box, index[slot] - 1), key)) return false;
    index[slot] = static_cast<std::uint32_t>(number + 1);
  }
  return true;
}

Term map_value(const Term* box, Term key) {
  const std::size_t number = find_pair(box, key);
  return number < size_of(box) ? pair_at(box, number)[1] : 0;
}

Term map_with(Env* env, Term map, Term key, Term value) {
  const Term* from = box_of(map);
  const std::size_t count = size_of(from);
  const std::size_t number = find_pair(from, key);
  const std::size_t new_count = number < count ? count : count + 1;
  Term* box = new_map(env, new_count);
  std::memcpy(box + 1, from + 1, 2 * count * sizeof(Term));
  box[1 + 2 * number] = key;
  box[2 + 2 * number] = value;
  if (new_count > most_without_index) finish_map(box);
  return box_term(box);
}

}  // namespace pythonx::worker
