#include "interpreters/object.hpp"

#include <atomic>
#include <new>

#include "interpreters/interpreter.hpp"

namespace pythonx {
namespace {

struct Handle {
  std::shared_ptr<Subinterpreter> interpreter;
  HandleNode* node;
};

ErlNifResourceType* handle_type = nullptr;
std::atomic<std::size_t> live{0};

// Runs on whichever scheduler collected the last term, and so only hands the node over.
void destroy(ErlNifEnv*, void* memory) {
  auto* handle = static_cast<Handle*>(memory);
  void* resource = handle->interpreter->resource();
  handle->interpreter->forget(handle->node);
  handle->~Handle();
  live.fetch_sub(1, std::memory_order_relaxed);
  enif_release_resource(resource);
}

Handle* get(ErlNifEnv* env, Term term) {
  Term name;
  void* memory;
  const bool is_struct = enif_get_map_value(env, term, atoms.struct_, &name) != 0;
  if (is_struct && (name != atoms.object || !enif_get_map_value(env, term, atoms.resource, &term)))
    return nullptr;
  return enif_get_resource(env, term, handle_type, &memory) ? static_cast<Handle*>(memory) : nullptr;
}

}  // namespace

bool open_handle_type(ErlNifEnv* env) {
  const auto flags = static_cast<ErlNifResourceFlags>(ERL_NIF_RT_CREATE);
  handle_type = enif_open_resource_type(env, nullptr, "pythonx_interpreter_object", destroy, flags, nullptr);
  return handle_type != nullptr;
}

Term Subinterpreter::make_handle(ErlNifEnv* env, PyObject* object) {
  auto* handle = new (enif_alloc_resource(handle_type, sizeof(Handle)))
      Handle{shared_from_this(), new HandleNode{object, nullptr, nullptr, nullptr}};
  Py_INCREF(object);
  add(handle->node);
  enif_keep_resource(resource());
  live.fetch_add(1, std::memory_order_relaxed);
  Term keys[] = {atoms.struct_, atoms.remote_info, atoms.resource};
  Term values[] = {atoms.object, atoms.nil, enif_make_resource(env, handle)};
  enif_release_resource(handle);
  Term map;
  enif_make_map_from_arrays(env, keys, values, 3, &map);
  return map;
}

PyObject* Subinterpreter::get_handle(ErlNifEnv* env, Term term) const {
  const Handle* handle = get(env, term);
  return handle == nullptr || handle->interpreter.get() != this ? nullptr : handle->node->object;
}

std::shared_ptr<Subinterpreter> interpreter_of(ErlNifEnv* env, Term term) {
  const Handle* handle = get(env, term);
  return handle == nullptr ? nullptr : handle->interpreter;
}

std::size_t live_subinterpreter_handles() { return live.load(std::memory_order_relaxed); }

}  // namespace pythonx
