#include "term.h"

#include <stdlib.h>
#include <string.h>

ERL_NIF_TERM make_binary(ErlNifEnv* env, const char* text) {
  ERL_NIF_TERM term;
  size_t size = strlen(text);
  unsigned char* bytes = enif_make_new_binary(env, size, &term);
  memcpy(bytes, text, size);
  return term;
}

ERL_NIF_TERM make_error(ErlNifEnv* env, ERL_NIF_TERM reason) {
  return enif_make_tuple2(env, enif_make_atom(env, "error"), reason);
}

char* copy_path(ErlNifEnv* env, ERL_NIF_TERM term) {
  ErlNifBinary binary;
  if (!enif_inspect_binary(env, term, &binary) || memchr(binary.data, 0, binary.size) != NULL) return NULL;
  char* path = malloc(binary.size + 1);
  if (path == NULL) return NULL;
  memcpy(path, binary.data, binary.size);
  path[binary.size] = 0;
  return path;
}
