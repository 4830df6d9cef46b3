// References that tell a process when they have been garbage collected, for Pythonx.ObjectTracker. They live
// in this library because a node may hold objects of other nodes without running a Python of its own.
//
// Ownership: the resource owns an environment with the message. The destructor sends the message together
// with that environment, once, and frees what is left of it.

#include "notifier.h"

typedef struct {
  ErlNifEnv* env;
  ErlNifPid pid;
  ERL_NIF_TERM message;
} notifier;

static ErlNifResourceType* notifier_type;

// Sending never waits, and to a process that is gone nothing is sent. The callback's environment is given
// along because this is no thread of our own.
static void notifier_destructor(ErlNifEnv* env, void* object) {
  notifier* self = object;
  enif_send(env, &self->pid, self->env, self->message);
  enif_free_env(self->env);
}

int notifier_load(ErlNifEnv* env) {
  notifier_type = enif_open_resource_type(
      env, NULL, "pythonx_notifier", notifier_destructor,
      // NOLINTNEXTLINE(clang-analyzer-optin.core.EnumCastOutOfRange): flags, of which both may be set
      ERL_NIF_RT_CREATE | ERL_NIF_RT_TAKEOVER, NULL);
  return notifier_type == NULL;
}

ERL_NIF_TERM nif_gc_notifier(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  (void)argc;
  ErlNifPid pid;
  if (!enif_get_local_pid(env, argv[0], &pid)) return enif_make_badarg(env);
  notifier* self = enif_alloc_resource(notifier_type, sizeof *self);
  self->env = enif_alloc_env();
  self->pid = pid;
  self->message = enif_make_copy(self->env, argv[1]);
  ERL_NIF_TERM reference = enif_make_resource(env, self);
  enif_release_resource(self);
  return reference;
}
