// The functions of erl_nif.h for maps.
#include "maps.hpp"

using namespace pythonx::worker;

extern "C" {

int enif_is_map(ErlNifEnv*, ERL_NIF_TERM term) { return is_map(term); }

int enif_get_map_size(ErlNifEnv*, ERL_NIF_TERM term, size_t* out) {
  if (!is_map(term)) return 0;
  *out = size_of(box_of(term));
  return 1;
}

int enif_get_map_value(ErlNifEnv*, ERL_NIF_TERM map, ERL_NIF_TERM key, ERL_NIF_TERM* out) {
  const Term value = is_map(map) ? map_value(box_of(map), key) : 0;
  if (value == 0) return 0;
  *out = value;
  return 1;
}

ERL_NIF_TERM enif_make_new_map(ErlNifEnv* env) { return box_term(new_map(env, 0)); }

int enif_make_map_from_arrays(ErlNifEnv* env, ERL_NIF_TERM keys[], ERL_NIF_TERM values[], size_t count,
                              ERL_NIF_TERM* out) {
  Term* box = new_map(env, count);
  for (size_t i = 0; i < count; ++i) {
    box[1 + 2 * i] = keys[i];
    box[2 + 2 * i] = values[i];
  }
  *out = box_term(box);
  return finish_map(box);
}

int enif_make_map_put(ErlNifEnv* env, ERL_NIF_TERM map, ERL_NIF_TERM key, ERL_NIF_TERM value,
                      ERL_NIF_TERM* out) {
  if (!is_map(map)) return 0;
  *out = map_with(env, map, key, value);
  return 1;
}

int enif_make_map_update(ErlNifEnv* env, ERL_NIF_TERM map, ERL_NIF_TERM key, ERL_NIF_TERM value,
                         ERL_NIF_TERM* out) {
  if (!is_map(map) || map_value(box_of(map), key) == 0) return 0;
  *out = map_with(env, map, key, value);
  return 1;
}

// `idx` counts from 1, as 0 is before the first.
int enif_map_iterator_create(ErlNifEnv*, ERL_NIF_TERM map, ErlNifMapIterator* iterator,
                             ErlNifMapIteratorEntry entry) {
  if (!is_map(map)) return 0;
  iterator->map = map;
  iterator->size = size_of(box_of(map));
  iterator->idx = entry == ERL_NIF_MAP_ITERATOR_FIRST ? 1 : iterator->size;
  return 1;
}

void enif_map_iterator_destroy(ErlNifEnv*, ErlNifMapIterator*) {}

int enif_map_iterator_get_pair(ErlNifEnv*, ErlNifMapIterator* iterator, ERL_NIF_TERM* key,
                               ERL_NIF_TERM* value) {
  if (iterator->idx < 1 || iterator->idx > iterator->size) return 0;
  const Term* pair = box_of(iterator->map) + 2 * iterator->idx - 1;
  *key = pair[0];
  *value = pair[1];
  return 1;
}

int enif_map_iterator_next(ErlNifEnv*, ErlNifMapIterator* iterator) {
  if (iterator->idx <= iterator->size) ++iterator->idx;
  return iterator->idx <= iterator->size;
}

}  // extern "C"
