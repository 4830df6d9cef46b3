#include "vm/term.hpp"

namespace pythonx {

Atoms atoms;

void init_atoms(ErlNifEnv* env) {
#define X(name, text) atoms.name = enif_make_atom(env, text);
  PYTHONX_ATOMS(X)
#undef X
}

bool make_distinct_map(ErlNifEnv* env, const Term* keys, const Term* values, std::size_t count, Term* out) {
  std::size_t size;
  // It changes neither.
  return enif_make_map_from_arrays(env, const_cast<Term*>(keys), const_cast<Term*>(values), count, out) !=
             0 &&
         enif_get_map_size(env, *out, &size) && size == count;
}

Term make_map(ErlNifEnv* env, const std::vector<Term>& keys, const std::vector<Term>& values) {
  Term map;
  if (make_distinct_map(env, keys.data(), values.data(), keys.size(), &map)) return map;
  map = enif_make_new_map(env);
  for (std::size_t i = 0; i < keys.size(); ++i) enif_make_map_put(env, map, keys[i], values[i], &map);
  return map;
}

}  // namespace pythonx
