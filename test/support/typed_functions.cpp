// Native functions of every kind of argument, result and exception: what test/pythonx/nif/typed_test.exs asks
// c_src/bridge/nif/typed.hpp about, without Python.
#include <new>
#include <stdexcept>

#include "nif/typed.hpp"
#include "vm/resource.hpp"

namespace {

using namespace pythonx;

struct Counter {
  long* collected_count;

  void collected(ErlNifEnv*) {
    ++*collected_count;
    throw std::runtime_error("nobody is there to be told");
  }
  void down(ErlNifEnv* env) {
    ErlNifPid watcher;
    if (enif_whereis_pid(env, enif_make_atom(env, "typed_test"), &watcher))
      enif_send(env, &watcher, nullptr, enif_make_atom(env, "down"));
    throw 1;
  }
};

ResourceType<Counter> counter_type;
long collected_counters = 0;

enum class Color { red, green };

}  // namespace

template <>
struct pythonx::Enumeration<Color> {
  static constexpr AtomOf<Color> atoms_of[] = {{Color::red, &atoms.ok}, {Color::green, &atoms.error}};
};

template <>
struct pythonx::Parameter<Counter&> {
  bool read(ErlNifEnv* env, Term term) { return (counter = counter_type.get(env, term)) != nullptr; }
  Counter& get() { return *counter; }

  Counter* counter = nullptr;
};

namespace {

Term term(Term value) { return value; }
bool boolean(bool value) { return value; }
int integer(int value) { return value; }
std::int64_t wide(std::int64_t value) { return value; }
double real(double value) { return value; }
std::string text(const std::string& value) { return value; }
std::string_view view(std::string_view value) { return value; }
Term binary(Binary value) { return value.term; }
ErlNifPid pid(ErlNifPid value) { return value; }
std::optional<bool> optional(std::optional<bool> value) { return value; }
std::vector<std::string> strings(std::vector<std::string> value) { return value; }
std::tuple<bool, int> tuple(const std::tuple<bool, int>& value) { return value; }
Color color(Color value) { return value; }
void nothing() {}
Term env_first(ErlNifEnv* env, Term left, Term right) { return make_tuple(env, left, right); }

std::variant<Ok<int>, Error<std::string>> either(bool ok) {
  if (ok) return Ok{1};
  return Error<std::string>{"no"};
}

Term new_counter(ErlNifEnv* env, ErlNifPid watched) {
  Counter* counter = counter_type.make(&collected_counters);
  const Term made = enif_make_resource(env, counter);
  enif_monitor_process(env, counter, &watched, nullptr);
  enif_release_resource(counter);
  return made;
}

bool is_counter(Counter& counter) { return counter.collected_count == &collected_counters; }
long collected() { return collected_counters; }

void bad_argument(bool) { throw BadArgument(); }
void bad_alloc() { throw std::bad_alloc(); }
void length_error() { throw std::length_error("too long"); }
void runtime_error() { throw std::runtime_error("zażółć"); }
void unknown() { throw 42; }

int load(ErlNifEnv* env, void**, Term) {
  init_atoms(env);
  return counter_type.open(env, "counter") ? 0 : 1;
}

ErlNifFunc functions[] = {
    native<term>("term"),
    native<boolean>("boolean", ERL_NIF_DIRTY_JOB_CPU_BOUND),
    native<integer>("integer"),
    native<wide>("wide"),
    native<real>("real"),
    native<text>("text"),
    native<view>("view"),
    native<binary>("binary"),
    native<pid>("pid"),
    native<optional>("optional"),
    native<strings>("strings"),
    native<tuple>("tuple"),
    native<color>("color"),
    native<nothing>("nothing"),
    native<env_first>("env_first"),
    native<either>("either"),
    native<new_counter>("new_counter"),
    native<is_counter>("is_counter"),
    native<collected>("collected"),
    native<bad_argument>("bad_argument"),
    native<bad_alloc>("bad_alloc"),
    native<length_error>("length_error"),
    native<runtime_error>("runtime_error"),
    native<unknown>("unknown"),
};

}  // namespace

extern "C" {
ERL_NIF_INIT(Elixir.Pythonx.TypedFunctions, functions, load, nullptr, nullptr, nullptr)
}
