#include "nif/interpreters.hpp"

#include "interpreters/interpreter.hpp"
#include "interpreters/object.hpp"
#include "interpreters/registry.hpp"
#include "python/runtime.hpp"
#include "vm/resource.hpp"

namespace pythonx::nif {
namespace {

struct Resource {
  std::shared_ptr<Subinterpreter> interpreter;

  // Nothing refers to the interpreter any more.
  void collected(ErlNifEnv* env) { interpreter->close(env); }

  // Its owner has died.
  void down(ErlNifEnv* env) { interpreter->close(env); }
};

ResourceType<Resource> interpreter_type;

// The interpreter of a resource: its own or a handle's. Empty for anything else, such as a resource of another node.
std::shared_ptr<Subinterpreter> find(ErlNifEnv* env, Term term) {
  const Resource* resource = interpreter_type.get(env, term);
  return resource != nullptr ? resource->interpreter : pythonx::interpreter_of(env, term);
}

}  // namespace

bool open_subinterpreter_types(ErlNifEnv* env) {
  return interpreter_type.open(env, "pythonx_interpreter") && open_handle_type(env) &&
         SubinterpreterJob::open_type(env);
}

std::variant<std::tuple<Term, Term, std::string>, Error<Term>, Error<std::string>> open_interpreter(
    ErlNifEnv* env, const std::string& wanted_name, std::optional<ErlNifPid> owner, Term reference) {
  if (!is_booted()) return Error{atoms.not_initialized};
  if (!has_own_gil_interpreters) return Error{atoms.unsupported};
  std::string failure;
  const std::shared_ptr<Subinterpreter> interpreter = enroll(wanted_name, &failure);
  if (interpreter == nullptr && failure == Subinterpreter::name_taken) return Error{atoms.taken};
  if (interpreter == nullptr) return Error{std::move(failure)};
  Resource* resource = interpreter_type.make(interpreter);
  interpreter->set_resource(resource);
  const Term term = enif_make_resource(env, resource);
  enif_release_resource(resource);
  if (owner && enif_monitor_process(env, resource, &*owner, nullptr) != 0) {
    strike_off(interpreter.get());
    return Error{atoms.not_alive};
  }
  if (!interpreter->open(env, reference)) return Error<std::string>{"cannot start a thread"};
  return std::tuple(atoms.ok, term, interpreter->name());
}

std::variant<Term, Error<Term>> submit_to_interpreter(ErlNifEnv* env, Term reference, Term resource,
                                                      const std::string& operation_name, Term label,
                                                      Term arguments, Term out, Term err, Term relay) {
  if (!is_booted()) return Error{atoms.not_initialized};
  const std::shared_ptr<Subinterpreter> interpreter = find(env, resource);
  if (interpreter == nullptr) return Error{atoms.not_local};
  const SubinterpreterJob::Operation operation = SubinterpreterJob::find(operation_name);
  if (operation == nullptr || !enif_is_tuple(env, arguments)) throw BadArgument();
  return SubinterpreterJob::submit(env, reference, interpreter, operation, label, arguments,
                                   Devices(env, out, err, relay));
}

bool cancel_in_interpreter(const SubinterpreterJobPtr& job, bool mute) {
  return job->interpreter().cancel(job, mute);
}

std::variant<Term, Error<Term>> close_interpreter(ErlNifEnv* env, Term resource, Term reference) {
  const std::shared_ptr<Subinterpreter> interpreter = find(env, resource);
  if (interpreter == nullptr) return Error{atoms.not_local};
  interpreter->announce_end(env, reference);
  return interpreter->close(env) ? atoms.ok : atoms.closed;
}

std::optional<std::tuple<std::string, bool>> interpreter_of(ErlNifEnv* env, Term resource) {
  const std::shared_ptr<Subinterpreter> interpreter = find(env, resource);
  if (interpreter == nullptr) return std::nullopt;
  return std::tuple(interpreter->name(), !interpreter->closing());
}

bool interrupt_in_interpreters(ErlNifPid pid) {
  bool any = false;
  for (const auto& interpreter : all_subinterpreters()) any = interpreter->interrupt(pid) || any;
  return any;
}

Term running_in_interpreters(ErlNifEnv* env) {
  Term list = enif_make_list(env, 0);
  for (const auto& interpreter : all_subinterpreters()) list = interpreter->running(env, list);
  return list;
}

std::tuple<long, long> interpreter_stats() {
  return {static_cast<long>(all_subinterpreters().size()), static_cast<long>(live_subinterpreter_handles())};
}

}  // namespace pythonx::nif
