// The atoms that this process knows: never freed, and so bounded. Their names are UTF-8.
#pragma once

#include <string_view>

#include "heap.hpp"

namespace pythonx::worker {

struct Atom {
  const unsigned char* name;
  std::size_t size;
  std::size_t characters;
};

// The atom of a name. 0 for what is no name of an atom, for one that is new where `may_be_new` is false, and when there are too many.
Term find_atom(const unsigned char* name, std::size_t size, bool may_be_new = true);
inline Term find_atom(std::string_view name) {
  return find_atom(reinterpret_cast<const unsigned char*>(name.data()), name.size());
}

const Atom& atom_of(Term term);

inline std::string_view name_of(Term term) {
  const Atom& atom = atom_of(term);
  return {reinterpret_cast<const char*>(atom.name), atom.size};
}

}  // namespace pythonx::worker
