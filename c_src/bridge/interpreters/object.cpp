#include "interpreters/object.hpp"

#include <atomic>

#include "interpreters/interpreter.hpp"
#include "vm/resource.hpp"

namespace pythonx {
namespace {

std::atomic<std::size_t> live{0};

struct Handle {
  std::shared_ptr<Subinterpreter> interpreter;
  HandleNode* node;

  // Only hands the node over. The resource of the interpreter is kept by us until it is released, and by that the interpreter.
  void collected(ErlNifEnv*) {
    void* resource = interpreter->resource();
    interpreter->forget(node);
    interpreter.reset();
    live.fetch_sub(1, std::memory_order_relaxed);
    enif_release_resource(resource);
  }
};

ResourceType<Handle> handle_type;

Handle* get(ErlNifEnv* env, Term term) {
  Term name;
  const bool is_struct = enif_get_map_value(env, term, atoms.struct_, &name) != 0;
  if (is_struct && (name != atoms.object || !enif_get_map_value(env, term, atoms.resource, &term)))
    return nullptr;
  return handle_type.get(env, term);
}

}  // namespace

bool open_handle_type(ErlNifEnv* env) { return handle_type.open(env, "pythonx_interpreter_object"); }

Term Subinterpreter::make_handle(ErlNifEnv* env, PyObject* object) {
  Handle* handle = handle_type.make(shared_from_this(), new HandleNode{object, nullptr, nullptr, nullptr});
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
