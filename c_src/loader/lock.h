#pragma once

#include <erl_nif.h>

// Registers the resource type of held locks. Returns 0 when that worked.
int lock_load(ErlNifEnv* env);

// lock_file(path) -> {:ok, handle} | :busy | {:error, reason}. Never waits.
ERL_NIF_TERM nif_lock_file(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]);

// unlock_file(handle) -> :ok, also for a handle that was unlocked before.
ERL_NIF_TERM nif_unlock_file(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]);
