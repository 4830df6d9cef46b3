#include "nif/interpreters.hpp"

#include <new>
#include <string>
#include <utility>

#include "interpreters/interpreter.hpp"
#include "interpreters/object.hpp"
#include "interpreters/registry.hpp"
#include "python/runtime.hpp"

namespace pythonx {
namespace {

struct Resource {
  std::shared_ptr<Subinterpreter> interpreter;
};

ErlNifResourceType* interpreter_type = nullptr;

// Nothing refers to the interpreter any more.
void destroy(ErlNifEnv* env, void* memory) {
  auto* resource = static_cast<Resource*>(memory);
  resource->interpreter->close(env);
  resource->~Resource();
}

void owner_down(ErlNifEnv* env, void* memory, ErlNifPid*, ErlNifMonitor*) {
  static_cast<Resource*>(memory)->interpreter->close(env);
}

std::string text_of(ErlNifEnv* env, Term term) {
  std::string_view text;
  return get_binary(env, term, &text) ? std::string(text) : std::string();
}

// The interpreter of a resource: its own or a handle's. Empty for anything else, such as a resource of another node.
std::shared_ptr<Subinterpreter> find(ErlNifEnv* env, Term term) {
  void* memory;
  if (enif_get_resource(env, term, interpreter_type, &memory))
    return static_cast<Resource*>(memory)->interpreter;
  return interpreter_of(env, term);
}

Term error(ErlNifEnv* env, Term reason) { return make_tuple(env, atoms.error, reason); }

}  // namespace

bool open_subinterpreter_types(ErlNifEnv* env) {
  ErlNifResourceTypeInit init{};
  init.dtor = destroy;
  init.down = owner_down;
  interpreter_type = enif_open_resource_type_x(env, "pythonx_interpreter", &init, ERL_NIF_RT_CREATE, nullptr);
  return interpreter_type != nullptr && open_handle_type(env) && SubinterpreterJob::open_type(env);
}

Term nif_open_interpreter(ErlNifEnv* env, int, const Term argv[]) {
  if (!is_booted()) return error(env, atoms.not_initialized);
  if (!has_own_gil_interpreters) return error(env, atoms.unsupported);
  ErlNifPid owner;
  const bool owned = enif_get_local_pid(env, argv[1], &owner) != 0;
  std::string failure;
  std::shared_ptr<Subinterpreter> interpreter = Subinterpreter::open(text_of(env, argv[0]), &failure);
  if (interpreter == nullptr)
    return error(env, failure == Subinterpreter::name_taken ? atoms.taken : make_binary(env, failure));
  const Term name = make_binary(env, interpreter->name());
  auto* resource = new (enif_alloc_resource(interpreter_type, sizeof(Resource))) Resource{interpreter};
  interpreter->set_resource(resource);
  const Term term = enif_make_resource(env, resource);
  const bool dead = owned && enif_monitor_process(env, resource, &owner, nullptr) != 0;
  if (dead) interpreter->close(env);
  enif_release_resource(resource);
  return dead ? error(env, atoms.not_alive) : make_tuple(env, atoms.ok, term, name);
}

Term nif_submit_to_interpreter(ErlNifEnv* env, int, const Term argv[]) {
  if (!is_booted()) return error(env, atoms.not_initialized);
  const std::shared_ptr<Subinterpreter> interpreter = find(env, argv[1]);
  if (interpreter == nullptr) return error(env, atoms.not_local);
  const SubinterpreterJob::Operation operation = SubinterpreterJob::find(text_of(env, argv[2]));
  if (operation == nullptr || !enif_is_tuple(env, argv[4])) return enif_make_badarg(env);
  return SubinterpreterJob::submit(env, argv[0], interpreter, operation, argv[3], argv[4],
                                   Devices(env, argv[5], argv[6], argv[7]));
}

Term nif_cancel_in_interpreter(ErlNifEnv* env, int, const Term argv[]) {
  const SubinterpreterJobPtr job = SubinterpreterJob::get(env, argv[0]);
  if (job == nullptr) return enif_make_badarg(env);
  return job->interpreter().cancel(job, argv[1] == atoms.true_) ? atoms.true_ : atoms.false_;
}

Term nif_close_interpreter(ErlNifEnv* env, int, const Term argv[]) {
  const std::shared_ptr<Subinterpreter> interpreter = find(env, argv[0]);
  if (interpreter == nullptr) return error(env, atoms.not_local);
  interpreter->announce_end(env, argv[1]);
  return interpreter->close(env) ? atoms.ok : atoms.closed;
}

Term nif_interpreter_of(ErlNifEnv* env, int, const Term argv[]) {
  const std::shared_ptr<Subinterpreter> interpreter = find(env, argv[0]);
  if (interpreter == nullptr) return atoms.nil;
  return make_tuple(env, make_binary(env, interpreter->name()),
                    interpreter->closing() ? atoms.false_ : atoms.true_);
}

Term nif_interrupt_in_interpreters(ErlNifEnv* env, int, const Term argv[]) {
  ErlNifPid pid;
  if (!enif_get_local_pid(env, argv[0], &pid)) return enif_make_badarg(env);
  bool any = false;
  for (const auto& interpreter : all_subinterpreters()) any = interpreter->interrupt(pid) || any;
  return any ? atoms.true_ : atoms.false_;
}

Term nif_running_in_interpreters(ErlNifEnv* env, int, const Term[]) {
  Term list = enif_make_list(env, 0);
  for (const auto& interpreter : all_subinterpreters()) list = interpreter->running(env, list);
  return list;
}

Term nif_interpreter_stats(ErlNifEnv* env, int, const Term[]) {
  return make_tuple(env, enif_make_uint64(env, all_subinterpreters().size()),
                    enif_make_uint64(env, live_subinterpreter_handles()));
}

}  // namespace pythonx
