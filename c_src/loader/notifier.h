#pragma once

#include <erl_nif.h>

// Registers the resource type of notifiers. Returns 0 when that worked.
int notifier_load(ErlNifEnv* env);

// gc_notifier(pid, message) -> reference. When its last copy on this node has been garbage collected,
// `message` is sent to `pid`, a process of this node.
ERL_NIF_TERM nif_gc_notifier(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]);
