// What is the same term, and which comes first. Nothing here recurses: terms may be as deep as there is memory.
#pragma once

#include "heap.hpp"

namespace pythonx::worker {

bool is_same_deep(Term a, Term b);

// As =:= has it.
inline bool is_same(Term a, Term b) {
  if (a == b) return true;
  // Words that are no places say all.
  if ((a & tag_mask) != (b & tag_mask) || !(is_box(a) || is_cell(a))) return false;
  return is_same_deep(a, b);
}

// The same for terms that are the same, and everywhere in this process.
std::uint64_t hash_term(Term term);

// The order of the VM: numbers, atoms, references, functions, ports, pids, tuples, maps, lists, bitstrings. Of what has no order
// that anybody could know (references, functions, ports, pids, maps of one size) it is one that stays.
int compare_terms(Term a, Term b);

}  // namespace pythonx::worker
