#pragma once

#include <erl_nif.h>

// scan(bytes) :: {:ok, flags, pids} | {:error, reason}; see external.c
ERL_NIF_TERM nif_scan(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]);
