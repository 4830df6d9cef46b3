#pragma once

#include <erl_nif.h>

// A new binary with the bytes of a C string.
ERL_NIF_TERM make_binary(ErlNifEnv* env, const char* text);

// {:error, reason}
ERL_NIF_TERM make_error(ErlNifEnv* env, ERL_NIF_TERM reason);

// A NUL-terminated copy of a path, to be freed by the caller. NULL when the term is not a binary, or holds a
// NUL of its own: the C library would open something else than what was asked for.
char* copy_path(ErlNifEnv* env, ERL_NIF_TERM term);
