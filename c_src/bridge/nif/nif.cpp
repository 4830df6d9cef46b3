// The table of native functions: each entry is a few lines over a function that knows nothing of NIFs.
#include <erl_nif.h>

#include <chrono>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "boot/boot.hpp"
#include "conversion/decode.hpp"
#include "conversion/encode.hpp"
#include "conversion/object.hpp"
#include "memory/view.hpp"
#include "nif/interpreters.hpp"
#include "nif/parameters.hpp"
#include "nif/tables.hpp"
#include "python/gil.hpp"
#include "python/pacer.hpp"
#include "tables/arrow_atoms.hpp"
#include "tables/pending.hpp"
#include "tables/read.hpp"
#include "threads/pool.hpp"
#include "vm/system.hpp"
#include "work/callback.hpp"
#include "work/eval.hpp"
#include "work/object_operations.hpp"
#include "work/operations.hpp"
#include "work/value_eval.hpp"

namespace pythonx::nif {
namespace {

Term not_initialized(ErlNifEnv* env) { return to_term(env, Error{atoms.not_initialized}); }

// init(executable, home, python_dir, sys_paths) :: :ok | {:error, :already_initialized | text}
std::variant<Term, Error<Term>, Error<std::string>> init(std::string executable, std::string home,
                                                         std::string python_dir,
                                                         std::vector<std::string> sys_paths) {
  if (is_booted()) return Error{atoms.already_initialized};
  std::string failure =
      boot({std::move(executable), std::move(home), std::move(python_dir), std::move(sys_paths)});
  if (failure.empty()) return atoms.ok;
  return Error{std::move(failure)};
}

// initialized?() :: boolean
bool initialized() { return is_booted(); }

// submit_eval(reference, code, file, line, globals, stdout, stderr, relay) :: job
Term submit_eval(ErlNifEnv* env, Term reference, std::string_view code, std::string_view file, long line,
                 Term globals, Term out, Term err, Term relay) {
  if (!is_booted()) return not_initialized(env);
  return submit(env, reference, new EvalJob(env, Source(code, file, line), globals, out, err, relay));
}

// submit_values(reference, code, file, line, values, how, stdout, stderr, relay) :: job
Term submit_values(ErlNifEnv* env, Term reference, std::string_view code, std::string_view file, long line,
                   Term values, Term how, Term out, Term err, Term relay) {
  if (!is_booted()) return not_initialized(env);
  return submit(env, reference,
                new ValueEvalJob(env, Source(code, file, line), values, how, out, err, relay));
}

// submit_call(reference, operation, arguments) :: job
Term submit_call(ErlNifEnv* env, Term reference, const std::string& operation, Term arguments) {
  if (!is_booted()) return not_initialized(env);
  const char* name;
  const CallJob::Function function = find_operation(operation, &name);
  if (function == nullptr) throw BadArgument();
  return submit(env, reference, new CallJob(env, name, function, arguments));
}

// submit_object(reference, operation, arguments, stdout, stderr, relay) :: job
Term submit_object(ErlNifEnv* env, Term reference, Term operation_name, Term arguments, Term out, Term err,
                   Term relay) {
  if (!is_booted()) return not_initialized(env);
  const ObjectOperation* operation = find_object_operation(operation_name);
  if (operation == nullptr) throw BadArgument();
  return submit(env, reference, new ObjectJob(env, operation, arguments, out, err, relay));
}

// How long a call on a scheduler waits for the GIL, while somebody listens.
class GilWait {
 public:
  GilWait() : begun_(is_observing() ? clock::now() : clock::time_point()) {}

  // The attempt that follows is done.
  void end() {
    if (begun_ != clock::time_point()) waited_ = clock::now() - begun_;
  }

  Term with_times(ErlNifEnv* env, Term result) const {
    if (begun_ == clock::time_point()) return result;
    return make_observed(env, result, std::chrono::nanoseconds(0), waited_, atoms.nil);
  }

 private:
  using clock = std::chrono::steady_clock;
  clock::time_point begun_;
  clock::duration waited_{};
};

// {:ok, object} | {:deferred, terms} | :needs_thread
std::variant<Ok<Object>, std::tuple<Term, std::vector<Term>>, Term> encode_here(
    ErlNifEnv* env, Term term, bool binaries_as_str, long own, const std::vector<PyObject*>& replacements) {
  EncodeOptions options;
  options.binaries_as_str = binaries_as_str;
  options.own = static_cast<unsigned>(own);
  options.caller_env = true;
  std::vector<Term> deferred;
  PyObject* object = nullptr;
  switch (pythonx::encode(env, term, options, replacements, &object, &deferred)) {
    case EncodeStatus::ok:
      return Ok<Object>{Object(object)};
    case EncodeStatus::deferred:
      return std::tuple(atoms.deferred, std::move(deferred));
    default:
      return atoms.needs_thread;
  }
}

// encode(term, binaries_as_str, own, replacements): what encode_here returns, {:observed, that, times} while somebody listens
Term encode(ErlNifEnv* env, Term term, bool binaries_as_str, long own,
            const std::vector<PyObject*>& replacements) {
  if (!is_booted()) return not_initialized(env);
  GilWait wait;
  TryAttach attached;
  wait.end();
  if (!attached) return atoms.needs_thread;
  return wait.with_times(env, to_term(env, encode_here(env, term, binaries_as_str, own, replacements)));
}

// {:ok, term} | :unchanged | :needs_thread | {:argument_error, text}
std::variant<Ok<Term>, Term, std::tuple<Term, std::string>> decode_here(ErlNifEnv* env, PyObject* object) {
  DecodeOptions options;
  options.caller_env = true;
  Term term;
  std::string message;
  switch (pythonx::decode(env, object, options, &term, &message)) {
    case DecodeStatus::ok:
      return Ok{term};
    case DecodeStatus::object:
      return atoms.unchanged;
    case DecodeStatus::refused:
      return std::tuple(atoms.argument_error, std::move(message));
    default:
      return atoms.needs_thread;
  }
}

// decode(object): what decode_here returns, :error for what is no object of this interpreter, or {:observed, that, times} while
// somebody listens
Term decode(ErlNifEnv* env, Term term) {
  if (!is_booted()) return not_initialized(env);
  PyObject* object = get_object(env, term);
  if (object == nullptr) return atoms.error;
  GilWait wait;
  TryAttach attached;
  wait.end();
  if (!attached) return atoms.needs_thread;
  return wait.with_times(env, to_term(env, decode_here(env, object)));
}

// observe(wanted) :: :ok
void observe(bool wanted) { pythonx::observe(wanted); }

// memoryview(binary) :: {:ok, object} | :no_memory | :needs_thread
std::variant<Ok<Object>, Error<Term>, Term> memoryview(Binary binary) {
  if (!is_booted()) return Error{atoms.not_initialized};
  TryAttach attached;
  if (!attached) return atoms.needs_thread;
  const CollectorPause no_user_code(false);
  PyObject* view = make_memoryview(binary.term);
  if (view != nullptr) return Ok<Object>{Object(view)};
  PyErr_Clear();
  return atoms.no_memory;
}

// local_object?(term) :: boolean
bool is_local_object(ErlNifEnv* env, Term term) { return get_object(env, term) != nullptr; }

// cancel(job, mute) :: boolean
bool cancel(Job& job, bool mute) { return ThreadPool::instance().cancel(&job, mute); }

// interrupt(pid) :: boolean
bool interrupt(ErlNifPid pid) { return ThreadPool::instance().interrupt(pid); }

// running() :: [{pid, thread, main?, elapsed_us, label}]
Term running(ErlNifEnv* env) { return ThreadPool::instance().running(env); }

// stats() :: {threads, handles}
std::tuple<long, long> stats() {
  return {static_cast<long>(ThreadPool::instance().thread_count()), static_cast<long>(live_handles())};
}

bool open_types(ErlNifEnv* env) {
  return open_object_types(env) && open_job_type(env) && open_call_type(env) && open_column_type(env) &&
         open_pending_table_type(env) && open_subinterpreter_types(env);
}

// Loading, again and again. Python and its threads live as long as the process, and so does this library (see the Makefile):
// when the module is loaded again it finds the same library, which goes on with all that it knows.
bool is_loaded = false;

int load(ErlNifEnv* env, void**, Term map_set) {
  bool opened = false;
  contain([=, &opened] {
    if (!is_loaded) {
      keep_library(&is_loaded);
      init_atoms(env);
      init_object_operations(env);
      init_arrow_atoms(env);
      set_map_set_template(env, map_set);
    }
    opened = open_types(env);
  });
  if (!opened) return 1;
  is_loaded = true;
  ask_vm_for_halt(env);
  return 0;
}

// Takes the place of the version of the module that was loaded before.
int upgrade(ErlNifEnv* env, void** data, void**, Term map_set) { return load(env, data, map_set); }

constexpr auto io_bound = ERL_NIF_DIRTY_JOB_IO_BOUND;
constexpr auto cpu_bound = ERL_NIF_DIRTY_JOB_CPU_BOUND;

ErlNifFunc functions[] = {
    native<init>("nif_init", io_bound),
    native<initialized>("initialized?"),
    native<submit_eval>("submit_eval"),
    native<submit_values>("submit_values"),
    native<submit_call>("submit_call"),
    native<submit_object>("submit_object"),
    native<encode>("nif_encode", cpu_bound),
    native<decode>("nif_decode", cpu_bound),
    native<memoryview>("nif_memoryview", cpu_bound),
    native<is_local_object>("local_object?"),
    native<cancel>("cancel"),
    native<interrupt>("interrupt"),
    native<begin_call>("begin_call"),
    native<answer_call>("answer_call"),
    native<caller_waits>("caller_waits?"),
    native<running>("running"),
    native<observe>("observe"),
    native<become_worker>("become_worker"),
    native<stats>("stats"),
    native<table_info>("table_info"),
    native<table_new>("table_new", cpu_bound),
    native<table_part>("table_part", cpu_bound),
    native<table_column>("table_column", cpu_bound),
    native<table_rows>("table_rows", cpu_bound),
    native<table_binaries>("table_binaries", cpu_bound),
    native<table_chunks>("table_chunks", cpu_bound),
    native<table_arrays>("table_arrays"),
    native<open_interpreter>("open_interpreter"),
    native<submit_to_interpreter>("submit_to_interpreter"),
    native<cancel_in_interpreter>("cancel_in_interpreter"),
    native<close_interpreter>("close_interpreter"),
    native<interpreter_of>("interpreter_of"),
    native<interrupt_in_interpreters>("interrupt_in_interpreters"),
    native<running_in_interpreters>("running_in_interpreters"),
    native<interpreter_stats>("interpreter_stats"),
};

}  // namespace
}  // namespace pythonx::nif

extern "C" {
ERL_NIF_INIT(Elixir.Pythonx.NIF, pythonx::nif::functions, pythonx::nif::load, nullptr, pythonx::nif::upgrade,
             nullptr)
}
