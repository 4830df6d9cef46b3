#include "notifier.hpp"

namespace pythonx {
namespace {

struct Notifier {
  ErlNifEnv* env;  // holds the message, and is sent with it
  ErlNifPid pid;
  Term message;
};

ErlNifResourceType* notifier_type = nullptr;

// Sending to a process never waits for it; one that is gone drops the message.
void notify(ErlNifEnv* env, void* memory) {
  auto* notifier = static_cast<Notifier*>(memory);
  enif_send(env, &notifier->pid, notifier->env, notifier->message);
  enif_free_env(notifier->env);
}

}  // namespace

bool open_notifier_type(ErlNifEnv* env) {
  notifier_type = enif_open_resource_type(env, nullptr, "pythonx_notifier", notify, ERL_NIF_RT_CREATE, nullptr);
  return notifier_type != nullptr;
}

Term make_notifier(ErlNifEnv* env, const ErlNifPid& pid, Term message) {
  auto* notifier = static_cast<Notifier*>(enif_alloc_resource(notifier_type, sizeof(Notifier)));
  notifier->env = enif_alloc_env();
  notifier->pid = pid;
  notifier->message = enif_make_copy(notifier->env, message);
  const Term term = enif_make_resource(env, notifier);
  enif_release_resource(notifier);
  return term;
}

}  // namespace pythonx
