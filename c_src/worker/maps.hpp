// Maps: pairs in the order in which they were put in, and an index of their keys where looking at each would take long.
#pragma once

#include "heap.hpp"

namespace pythonx::worker {

// Up to this many pairs are looked through. The index has room for twice as many as there are pairs, rounded up to a power of 2: 32-bit
// words, the number of a pair plus one, or 0.
constexpr std::size_t most_without_index = 16;

std::size_t index_size(std::size_t count);

// How many words the box of a map takes.
inline std::size_t map_words(std::size_t count) {
  const std::size_t index = count > most_without_index ? index_size(count) : 0;
  return 1 + 2 * count + (index * sizeof(std::uint32_t) + sizeof(Term) - 1) / sizeof(Term);
}

// The box of a map whose pairs are still to be put in, after which `finish_map` makes it one.
Term* new_map(Env* env, std::size_t count);

// False when two keys are the same term.
bool finish_map(Term* box);

inline bool is_map(Term term) { return is_kind(term, Kind::map); }

// The value of a key, or 0.
Term map_value(const Term* box, Term key);

// A map with one more pair, or with another value for a key.
Term map_with(Env* env, Term map, Term key, Term value);

}  // namespace pythonx::worker
