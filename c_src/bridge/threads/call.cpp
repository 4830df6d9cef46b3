#include "threads/call.hpp"

#include "conversion/object.hpp"

namespace pythonx {
namespace {

std::atomic<std::uint64_t> next_id{0};

}  // namespace

Call::Call() : id(++next_id), request_env(enif_alloc_env()) {}

Call::~Call() {
  enif_free_env(request_env);
  if (answer_env != nullptr) enif_free_env(answer_env);
  if (PyObject* unused = resolver.exchange(nullptr)) drop_later(unused);
  if (raised != nullptr) drop_later(raised);
}

void cancel_call(std::uint64_t id) {
  ErlNifPid server;
  if (!enif_whereis_pid(nullptr, atoms.callbacks, &server)) return;
  ErlNifEnv* env = enif_alloc_env();
  enif_send(nullptr, &server, env, make_tuple(env, atoms.pythonx_cancel, enif_make_uint64(env, id)));
  enif_free_env(env);
}

}  // namespace pythonx
