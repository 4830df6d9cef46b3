// The functions of erl_nif.h that have to do with processes, resources and the VM itself.
#include <cstdarg>
#include <cstring>

#include "atoms.hpp"
#include "calls.hpp"
#include "connection.hpp"
#include "external.hpp"
#include "messages.hpp"
#include "pids.hpp"
#include "processes.hpp"
#include "resources.hpp"

using namespace pythonx::worker;

#if ERL_NIF_MAJOR_VERSION == 2 && ERL_NIF_MINOR_VERSION < 17
// As the headers of OTP 26 declare it.
using ErlNifOption = int;
constexpr int ERL_NIF_OPT_ON_HALT = 2;
extern "C" __attribute__((visibility("default"))) int enif_set_option(ErlNifEnv* env, ErlNifOption option,
                                                                      ...);
#endif

namespace {

Term undefined() {
  static const Term atom = find_atom("undefined");
  return atom;
}

std::uint64_t number_of(const ErlNifMonitor* monitor) {
  std::uint64_t number = 0;
  std::memcpy(&number, monitor, sizeof(number));
  return number;
}

}  // namespace

extern "C" {

// --- Processes -------------------------------------------------------------------------------------------------------

ErlNifPid* enif_self(ErlNifEnv* env, ErlNifPid* out) {
  if (env->caller == 0) return nullptr;
  out->pid = env->caller;
  return out;
}

int enif_get_local_pid(ErlNifEnv*, ERL_NIF_TERM term, ErlNifPid* out) {
  if (!is_pid(term) || !is_local_pid(term)) return 0;
  out->pid = term;
  return 1;
}

void enif_set_pid_undefined(ErlNifPid* pid) { pid->pid = undefined(); }
int enif_is_pid_undefined(const ErlNifPid* pid) { return pid->pid == undefined(); }

int enif_is_process_alive(ErlNifEnv*, ErlNifPid* pid) { return is_pid(pid->pid) && is_alive(pid->pid); }

int enif_is_current_process_alive(ErlNifEnv* env) { return env->caller == 0 || !is_known_dead(env->caller); }

int enif_whereis_pid(ErlNifEnv*, ERL_NIF_TERM name, ErlNifPid* out) {
  const Term pid = is_atom(name) ? whereis(name) : 0;
  if (pid == 0) return 0;
  out->pid = pid;
  return 1;
}

// The terms of the environment of the message end with this.
int enif_send(ErlNifEnv*, const ErlNifPid* to, ErlNifEnv* message_env, ERL_NIF_TERM message) {
  if (!is_pid(to->pid)) return 0;
  send_message(to->pid, message);
  if (message_env != nullptr) message_env->clear();
  return 1;
}

ERL_NIF_TERM enif_make_ref(ErlNifEnv* env) {
  static std::atomic<std::uint64_t> last{0};
  const std::uint64_t number = ++last;
  Output output;
  const unsigned char head[] = {static_cast<unsigned char>(Tag::newer_reference), 0, 3,
                                static_cast<unsigned char>(Tag::small_atom_utf8),
                                static_cast<unsigned char>(std::strlen(worker_node))};
  output.put(head, sizeof(head));
  output.put(worker_node, std::strlen(worker_node));
  output.put_32(creation());
  output.put_32(static_cast<std::uint32_t>(number));
  output.put_32(static_cast<std::uint32_t>(number >> 32));
  output.put_32(static_cast<std::uint32_t>(Made::reference));
  return make_opaque(env, ERL_NIF_TERM_TYPE_REFERENCE, output.data(), output.total());
}

// --- Resources -------------------------------------------------------------------------------------------------------

ErlNifResourceType* enif_open_resource_type_x(ErlNifEnv*, const char* name,
                                              const ErlNifResourceTypeInit* callbacks,
                                              ErlNifResourceFlags flags, ErlNifResourceFlags* tried) {
  if (tried != nullptr) *tried = flags;
  return open_type(name, *callbacks);
}

void* enif_alloc_resource(ErlNifResourceType* type, size_t size) {
  return memory_of(make_resource(type, size));
}
void enif_release_resource(void* memory) { release(resource_of(memory)); }
void enif_keep_resource(void* memory) { keep(resource_of(memory)); }

ERL_NIF_TERM enif_make_resource(ErlNifEnv* env, void* memory) {
  return make_resource_term(env, resource_of(memory));
}

ERL_NIF_TERM enif_make_resource_binary(ErlNifEnv* env, void* memory, const void* data, size_t size) {
  return make_binary(env, resource_of(memory), static_cast<const unsigned char*>(data), size);
}

int enif_get_resource(ErlNifEnv*, ERL_NIF_TERM term, ErlNifResourceType* type, void** out) {
  if (!is_kind(term, Kind::resource)) return 0;
  Resource* resource = resource_in(box_of(term));
  if (resource->type != type) return 0;
  *out = memory_of(resource);
  return 1;
}

int enif_monitor_process(ErlNifEnv*, void* memory, const ErlNifPid* pid, ErlNifMonitor* monitor) {
  Resource* resource = resource_of(memory);
  if (resource->type->down == nullptr) return -1;
  if (!is_pid(pid->pid) || is_known_dead(pid->pid)) return 1;
  const std::uint64_t number = begin_monitor(resource, pid->pid);
  if (monitor != nullptr) std::memcpy(monitor, &number, sizeof(number));
  return 0;
}

int enif_demonitor_process(ErlNifEnv*, void*, const ErlNifMonitor* monitor) {
  return end_monitor(number_of(monitor)) ? 0 : 1;
}

// --- The VM ----------------------------------------------------------------------------------------------------------

// The version is asked for only because of mistakes that this is free of.
void enif_system_info(ErlNifSysInfo* info, size_t size) {
  static char version[] = "99.0";
  std::memset(info, 0, size);
  info->erts_version = version;
  info->nif_major_version = ERL_NIF_MAJOR_VERSION;
  info->nif_minor_version = ERL_NIF_MINOR_VERSION;
}

int enif_thread_type() { return is_reader() ? ERL_NIF_THR_NORMAL_SCHEDULER : ERL_NIF_THR_UNDEFINED; }

int enif_set_option(ErlNifEnv*, ErlNifOption option, ...) {
  if (option != ERL_NIF_OPT_ON_HALT) return -1;
  va_list arguments;
  // As erl_nif.h has it.
  va_start(arguments, option);  // NOLINT(clang-diagnostic-varargs)
  set_on_halt(va_arg(arguments, void (*)(void*)));
  va_end(arguments);
  return 0;
}

}  // extern "C"
