// The vocabulary of terms: the atoms the bridge speaks, and small readers and makers over erl_nif.
#pragma once

#include <erl_nif.h>

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace pythonx {

using Term = ERL_NIF_TERM;

// The first byte of the external term format (https://www.erlang.org/doc/apps/erts/erl_ext_dist).
constexpr unsigned char external_version = 131;

// Atoms are immediate values of the VM, the same in every environment, so they may be kept for good.
#define PYTHONX_ATOMS(X)                         \
  X(ok, "ok")                                    \
  X(error, "error")                              \
  X(nil, "nil")                                  \
  X(true_, "true")                               \
  X(false_, "false")                             \
  X(nan, "nan")                                  \
  X(infinity, "infinity")                        \
  X(neg_infinity, "neg_infinity")                \
  X(struct_, "__struct__")                       \
  X(object, "Elixir.Pythonx.Object")             \
  X(unchanged, "unchanged")                      \
  X(map_set, "Elixir.MapSet")                    \
  X(map, "map")                                  \
  X(resource, "resource")                        \
  X(remote_info, "remote_info")                  \
  X(deferred, "deferred")                        \
  X(reply, "reply")                              \
  X(needs_thread, "needs_thread")                \
  X(python_error, "python_error")                \
  X(argument_error, "argument_error")            \
  X(raise, "raise")                              \
  X(enomem, "enomem")                            \
  X(exception, "__exception__")                  \
  X(message, "message")                          \
  X(runtime_error_struct, "Elixir.RuntimeError") \
  X(runtime_error, "runtime_error")              \
  X(io_request, "io_request")                    \
  X(put_chars, "put_chars")                      \
  X(unicode, "unicode")                          \
  X(pythonx_output, "pythonx_output")            \
  X(pythonx_event, "pythonx_event")              \
  X(pythonx_call, "pythonx_call")                \
  X(pythonx_cancel, "pythonx_cancel")            \
  X(callbacks, "Elixir.Pythonx.Calls.Callbacks") \
  X(watch, "Elixir.Pythonx.Calls.Watch")         \
  X(stuck, "stuck")                              \
  X(release_stuck, "release_stuck")              \
  X(release_freed, "release_freed")              \
  X(janitor, "Elixir.Pythonx.Janitor")           \
  X(freed, "freed")                              \
  X(started, "started")                          \
  X(retired, "retired")                          \
  X(observed, "observed")                        \
  X(more, "more")                                \
  X(done, "done")                                \
  X(waiting, "waiting")                          \
  X(async, "async")                              \
  X(python, "python")                            \
  X(type_error, "type_error")                    \
  X(cancelled, "cancelled")                      \
  X(no_memory, "no_memory")                      \
  X(not_initialized, "not_initialized")          \
  X(closed, "closed")                            \
  X(closing, "closing")                          \
  X(refused, "refused")                          \
  X(ended, "ended")                              \
  X(abandoned, "abandoned")                      \
  X(taken, "taken")                              \
  X(not_alive, "not_alive")                      \
  X(not_local, "not_local")                      \
  X(unsupported, "unsupported")                  \
  X(encoding_error, "encoding_error")            \
  X(already_initialized, "already_initialized")

struct Atoms {
#define X(name, text) Term name;
  PYTHONX_ATOMS(X)
#undef X
};

extern Atoms atoms;

// Makes every atom of `atoms`. Called once, when the library is loaded.
void init_atoms(ErlNifEnv* env);

// A binary that holds a copy of `text`.
inline Term make_binary(ErlNifEnv* env, std::string_view text) {
  Term term;
  unsigned char* data = enif_make_new_binary(env, text.size(), &term);
  if (!text.empty()) std::memcpy(data, text.data(), text.size());
  return term;
}

// The bytes of a binary term, valid for as long as its environment; false for anything else.
inline bool get_binary(ErlNifEnv* env, Term term, std::string_view* out) {
  ErlNifBinary bin;
  if (!enif_inspect_binary(env, term, &bin)) return false;
  *out = {reinterpret_cast<const char*>(bin.data), bin.size};
  return true;
}

// A map of keys and their values, on any thread; false when two keys are the same term.
bool make_distinct_map(ErlNifEnv* env, const Term* keys, const Term* values, std::size_t count, Term* out);

// A map of keys and their values. Of keys that are the same term one is kept.
Term make_map(ErlNifEnv* env, const std::vector<Term>& keys, const std::vector<Term>& values);

template <typename... Terms>
Term make_tuple(ErlNifEnv* env, Terms... terms) {
  const Term items[] = {terms...};
  return enif_make_tuple_from_array(env, items, sizeof...(terms));
}

}  // namespace pythonx
