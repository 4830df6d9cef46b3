#include "vm/term.hpp"

#include <array>
#include <cstdlib>

namespace pythonx {

namespace {

// Before OTP 27.3, 26.2.5.9 and 25.3.2.18 a map of more entries than these that is made at once takes the thread for a
// scheduler, and ends the VM on one that is none, as ours are (erlang/otp GH-8208).
constexpr std::size_t safe_entries = 128;

bool needs_scheduler_for_maps() {
  ErlNifSysInfo info;
  enif_system_info(&info, sizeof(info));
  std::array<long, 4> version{};
  char* rest = info.erts_version;
  for (long& number : version) {
    number = std::strtol(rest, &rest, 10);
    if (*rest == '.') ++rest;
  }
  if (version[0] == 13) return version < std::array<long, 4>{13, 2, 2, 14};
  if (version[0] == 14) return version < std::array<long, 4>{14, 2, 5, 8};
  return version < std::array<long, 4>{15, 2, 3};
}

bool may_make_at_once(std::size_t count) {
  static const bool needs_scheduler = needs_scheduler_for_maps();
  return count <= safe_entries || !needs_scheduler || enif_thread_type() != ERL_NIF_THR_UNDEFINED;
}

bool has_size(ErlNifEnv* env, Term map, std::size_t count) {
  std::size_t size;
  return enif_get_map_size(env, map, &size) != 0 && size == count;
}

}  // namespace

Atoms atoms;

void init_atoms(ErlNifEnv* env) {
#define X(name, text) atoms.name = enif_make_atom(env, text);
  PYTHONX_ATOMS(X)
#undef X
}

bool make_distinct_map(ErlNifEnv* env, const Term* keys, const Term* values, std::size_t count, Term* out) {
  const std::size_t at_once = may_make_at_once(count) ? count : safe_entries;
  // It changes neither.
  if (!enif_make_map_from_arrays(env, const_cast<Term*>(keys), const_cast<Term*>(values), at_once, out))
    return false;
  if (!has_size(env, *out, at_once)) return false;
  // Each of these copies a path of the tree, which stays in the environment until that is freed.
  for (std::size_t i = at_once; i < count; ++i) enif_make_map_put(env, *out, keys[i], values[i], out);
  return at_once == count || has_size(env, *out, count);
}

Term make_map(ErlNifEnv* env, const std::vector<Term>& keys, const std::vector<Term>& values) {
  Term map;
  if (make_distinct_map(env, keys.data(), values.data(), keys.size(), &map)) return map;
  map = enif_make_new_map(env);
  for (std::size_t i = 0; i < keys.size(); ++i) enif_make_map_put(env, map, keys[i], values[i], &map);
  return map;
}

}  // namespace pythonx
