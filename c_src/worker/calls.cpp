#include "calls.hpp"

#include <dlfcn.h>
#include <pthread.h>
#include <unistd.h>

#include <cstdlib>
#include <new>
#include <string>
#include <unordered_map>

#include "atoms.hpp"
#include "maps.hpp"
#include "messages.hpp"
#include "pids.hpp"
#include "processes.hpp"

namespace pythonx::worker {
namespace {

using NativeFunction = Term (*)(ErlNifEnv*, int, const Term*);

constexpr unsigned most_arguments = 255;

// Written by the reader alone, which alone reads it.
struct Functions {
  std::unordered_map<std::uint64_t, NativeFunction> functions;  // by name and arity
  bool set_up = false;
};

Functions& loaded() {
  static auto* instance = new Functions;
  return *instance;
}

std::atomic<void (*)(void*)> on_halt{nullptr};

std::uint64_t key_of(Term name, std::size_t arity) { return name << 8 | arity; }

void add_function(const char* name, unsigned arity, NativeFunction function) {
  loaded().functions[key_of(find_atom(name), arity)] = function;
}

// --- Functions of our own ----------------------------------------------------------------------------------------------

Term give_back_argument(ErlNifEnv*, int, const Term* arguments) { return arguments[0]; }

// Bytes that are a term, as this worker writes that; an error for those that are none.
Term decode_bytes(ErlNifEnv* env, int, const Term* arguments) {
  const unsigned char* data = nullptr;
  std::size_t size = 0;
  if (!get_bytes(arguments[0], &data, &size)) return enif_make_badarg(env);
  // Exactly as many, so that a sanitizer sees who reads beyond them.
  Bytes* bytes = make_bytes(size);
  if (size > 0) std::memcpy(bytes->data, data, size);
  env->own(bytes);
  Term term = 0;
  std::size_t used = 0;
  const Decoded decoded = decode_term(env, {bytes->data, size, bytes}, &term, &used);
  if (decoded != Decoded::ok || used != size) return find_atom("error");
  ErlNifBinary encoded{};
  if (enif_term_to_binary(env, term, &encoded) == 0) return enif_make_badarg(env);
  Term* box = new_tuple(env, 2);
  box[1] = find_atom("ok");
  box[2] = enif_make_binary(env, &encoded);
  return box_term(box);
}

Term tell_memory(ErlNifEnv* env, int, const Term*) { return make_uint64(env, memory_in_use()); }

Term set_limit(ErlNifEnv* env, int, const Term* arguments) {
  std::uint64_t bytes = 0;
  if (!get_uint64(arguments[0], &bytes)) return enif_make_badarg(env);
  return find_atom(limit_memory(bytes) ? "true" : "false");
}

// --- Setup ---------------------------------------------------------------------------------------------------------------

Term setting(const Term* map, const char* name) { return map_value(map, find_atom(name)); }

std::string path_in(const Term* map, const char* name) {
  const unsigned char* data = nullptr;
  std::size_t size = 0;
  const Term value = setting(map, name);
  if (value == 0 || !get_bytes(value, &data, &size)) return "";
  return {reinterpret_cast<const char*>(data), size};
}

std::string reason_of_linker() {
  const char* text = dlerror();
  return text != nullptr ? text : "unknown reason";
}

// For the life of the process, as in the VM (c_src/loader/loader.c).
void* open_library(const std::string& path, int flags) {
  void* library = dlopen(path.c_str(), flags);
  if (library == nullptr) fail("cannot open " + path + ": " + reason_of_linker());
  return library;
}

// Terms that the library makes when it is loaded may be kept in this environment for good.
void load_bridge(const std::string& path, Term info) {
  using Init = ErlNifEntry*();
  void* library = open_library(path + ".so", RTLD_NOW);
  const auto init = reinterpret_cast<Init*>(dlsym(library, "nif_init"));
  if (init == nullptr) fail(path + ".so has no nif_init");
  const ErlNifEntry* entry = init();
  static auto* env = new Env;
  void* data = nullptr;
  if (entry->load != nullptr && entry->load(env, &data, copy_term(env, info)) != 0)
    fail(path + ".so cannot be loaded");
  for (int i = 0; i < entry->num_of_funcs; ++i) {
    const ErlNifFunc& function = entry->funcs[i];
    add_function(function.name, function.arity, function.fptr);
  }
}

void set_up(Term term) {
  std::int64_t number = 0;
  if (!is_map(term) || loaded().set_up) fail("this is no setup");
  const Term* map = box_of(term);
  const Term version = setting(map, "version");
  if (version != small_term(protocol_version)) fail("the VM speaks another version than this worker");
  const Term own = setting(map, "number");
  if (own == 0 || !get_int64(own, &number) || number < 0 || number > UINT32_MAX)
    fail("the setup has no number");
  set_creation(static_cast<std::uint32_t>(number));
  if (const Term self = setting(map, "self"); self != 0 && is_pid(self)) set_home(self);
  if (const Term names = setting(map, "names"); names != 0) set_names(names);
  add_function("worker_echo", 1, give_back_argument);
  add_function("worker_decode", 1, decode_bytes);
  add_function("worker_memory", 0, tell_memory);
  add_function("worker_limit", 1, set_limit);
  const std::string libpython = path_in(map, "libpython");
  const std::string bridge = path_in(map, "bridge");
  if (!libpython.empty()) open_library(libpython, RTLD_NOW | RTLD_GLOBAL);
  const Term info = setting(map, "load_info");
  if (!bridge.empty()) load_bridge(bridge, info == 0 ? empty_list : info);
  loaded().set_up = true;
  Env env;
  Term* ready = new_map(&env, 2);
  ready[1] = find_atom("version");
  ready[2] = small_term(protocol_version);
  ready[3] = find_atom("os_pid");
  ready[4] = small_term(getpid());
  write_frame(From::ready, 0, box_term(ready));
}

// --- Calls ---------------------------------------------------------------------------------------------------------------

struct Call {
  Term function;
  Term caller;
  Term arguments;
};

bool read_call(Term term, Call* out) {
  if (!is_kind(term, Kind::tuple) || size_of(box_of(term)) != 3) return false;
  const Term* box = box_of(term);
  *out = {box[1], box[2], box[3]};
  return is_atom(out->function) && is_pid(out->caller);
}

struct Result {
  bool raised;
  Term term;
};

// What a native function returns or raises. Exceptions of C++ end in the bridge; what is left is a lack of memory of our own.
Result perform(Env* env, const Call& call) {
  Term arguments[most_arguments];
  std::size_t arity = 0;
  Term rest = call.arguments;
  for (; is_cell(rest) && arity < most_arguments; rest = cell_of(rest)[1])
    arguments[arity++] = cell_of(rest)[0];
  const auto& functions = loaded().functions;
  const auto found = rest == empty_list ? functions.find(key_of(call.function, arity)) : functions.end();
  if (found == functions.end()) return {true, find_atom("undef")};
  env->caller = call.caller;
  env->exception = 0;
  try {
    const Term term = found->second(env, static_cast<int>(arity), arguments);
    if (env->exception != 0) return {true, env->exception};
    return {false, term};
  } catch (const std::bad_alloc&) {
    return {true, find_atom("enomem")};
  }
}

void call(Env* env, const Frame& frame, Term term, Decoded decoded) {
  Call call{};
  if (!read_call(term, &call)) fail("this is no call");
  Result result{true, find_atom("badarg")};
  if (decoded == Decoded::ok) result = perform(env, call);
  if (frame.number != 0) send_result(frame.number, result.raised, result.term);
}

bool is_pair(Term term, const char* name) {
  return is_kind(term, Kind::tuple) && size_of(box_of(term)) == 2 && box_of(term)[1] == find_atom(name);
}

// A job. What it has to say is a message to the caller in any case: by the job itself once it has a resource (or has sent it: :ok),
// and here otherwise.
void submit(Env* env, const Frame& frame, Term term, Decoded decoded) {
  Call call{};
  if (!read_call(term, &call) || !is_cell(call.arguments) || frame.number == 0) fail("this is no job");
  Result result{true, find_atom("badarg")};
  if (decoded == Decoded::ok) result = perform(env, call);
  Term reply = result.term;
  if (result.raised) {
    Term* raise = new_tuple(env, 2);
    raise[1] = find_atom("raise");
    raise[2] = result.term;
    reply = box_term(raise);
  } else if (is_kind(reply, Kind::resource)) {
    name_job(resource_in(box_of(reply)), frame.number);
    return;
  } else if (reply == find_atom("ok")) {
    return;
  } else if (is_pair(reply, "reply")) {
    reply = box_of(reply)[2];
  }
  const Term message[] = {header(Kind::tuple, 2), cell_of(call.arguments)[0], reply};
  send_message(call.caller, box_term(message));
}

void release_all(Term list) {
  for (; is_cell(list); list = cell_of(list)[1]) {
    const Term pair = cell_of(list)[0];
    std::uint64_t serial = 0;
    std::uint64_t count = 0;
    if (!is_kind(pair, Kind::tuple) || size_of(box_of(pair)) != 2) fail("this is no release");
    if (!get_uint64(box_of(pair)[1], &serial) || !get_uint64(box_of(pair)[2], &count))
      fail("this is no release");
    give_back(serial, count);
  }
}

void down(Term term) {
  const bool is_monitor = is_kind(term, Kind::tuple) && size_of(box_of(term)) == 1;
  std::uint64_t number = 0;
  if (!get_uint64(is_monitor ? box_of(term)[1] : term, &number)) fail("this is no monitor");
  monitor_down(number);
}

// --- The end -------------------------------------------------------------------------------------------------------------

void* run_halt(void*) {
  if (auto* callback = on_halt.load()) callback(nullptr);
  std::exit(0);
}

// On a thread of its own: what Python does at its end may need answers of the VM.
void halt() {
  pthread_t thread{};
  if (pthread_create(&thread, nullptr, run_halt, nullptr) != 0) run_halt(nullptr);
  pthread_detach(thread);
}

void dispatch(Env* env, const Frame& frame, Term term, Decoded decoded) {
  if (!loaded().set_up && frame.kind != To::setup) fail("a frame came before setup");
  switch (frame.kind) {
    case To::setup:
      return set_up(term);
    case To::call:
      return call(env, frame, term, decoded);
    case To::submit:
      return submit(env, frame, term, decoded);
    case To::release:
      return release_all(term);
    case To::down:
      return down(term);
    case To::answer:
      return take_answer(frame.number, term);
    case To::names:
      return set_names(term);
    case To::halt:
      return halt();
  }
  fail("a frame of unknown kind came");
}

}  // namespace

void handle_frame(const Frame& frame) {
  static auto* env = new Env;
  env->clear();
  Term term = empty_list;
  Decoded decoded = Decoded::ok;
  if (frame.kind != To::halt || frame.size > 0) {
    std::size_t used = 0;
    decoded = decode_term(env, {frame.payload, frame.size, frame.owner}, &term, &used);
    if (decoded == Decoded::malformed || used != frame.size) fail("a frame came that holds no term");
  }
  dispatch(env, frame, term, decoded);
  env->clear();
}

void set_on_halt(void (*callback)(void*)) { on_halt.store(callback); }

}  // namespace pythonx::worker
