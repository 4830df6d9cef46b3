// The table of native functions: each entry is a few lines over a function that knows nothing of NIFs.
#include <erl_nif.h>

#include <chrono>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "boot/boot.hpp"
#include "conversion/decode.hpp"
#include "conversion/encode.hpp"
#include "conversion/object.hpp"
#include "memory/view.hpp"
#include "nif/interpreters.hpp"
#include "nif/tables.hpp"
#include "python/gil.hpp"
#include "python/pacer.hpp"
#include "threads/pool.hpp"
#include "work/callback.hpp"
#include "work/eval.hpp"
#include "work/object_operations.hpp"
#include "work/operations.hpp"

namespace pythonx {
namespace {

std::string get_string(ErlNifEnv* env, Term term) {
  std::string_view text;
  return get_binary(env, term, &text) ? std::string(text) : std::string();
}

std::vector<std::string> get_strings(ErlNifEnv* env, Term list) {
  std::vector<std::string> strings;
  for (Term head; enif_get_list_cell(env, list, &head, &list);) strings.push_back(get_string(env, head));
  return strings;
}

// A native function that asks for as much memory as its arguments say. An exception that left it would end the VM.
template <Term (*nif)(ErlNifEnv*, int, const Term[])>
Term or_enomem(ErlNifEnv* env, int argc, const Term argv[]) {
  const auto refuse = [env] { return enif_raise_exception(env, enif_make_atom(env, "enomem")); };
  try {
    return nif(env, argc, argv);
  } catch (const std::bad_alloc&) {
    return refuse();
  } catch (const std::length_error&) {
    return refuse();
  }
}

Term not_initialized(ErlNifEnv* env) { return make_tuple(env, atoms.error, atoms.not_initialized); }

// init(executable, home, python_dir, sys_paths) :: :ok | {:error, text}
Term nif_init(ErlNifEnv* env, int, const Term argv[]) {
  if (is_booted()) return make_tuple(env, atoms.error, atoms.already_initialized);
  const BootConfig config{get_string(env, argv[0]), get_string(env, argv[1]), get_string(env, argv[2]),
                          get_strings(env, argv[3])};
  const std::string failure = boot(config);
  return failure.empty() ? atoms.ok : make_tuple(env, atoms.error, make_binary(env, failure));
}

Term nif_initialized(ErlNifEnv*, int, const Term[]) { return is_booted() ? atoms.true_ : atoms.false_; }

// submit_eval(reference, code, file, line, globals, stdout, stderr, relay) :: job
Term nif_submit_eval(ErlNifEnv* env, int, const Term argv[]) {
  if (!is_booted()) return not_initialized(env);
  long line;
  if (!enif_get_long(env, argv[3], &line)) return enif_make_badarg(env);
  std::string_view text;
  std::string_view file;
  if (!get_binary(env, argv[1], &text) || !get_binary(env, argv[2], &file)) return enif_make_badarg(env);
  Source source(text, file, line);
  return submit(env, argv[0], new EvalJob(env, std::move(source), argv[4], argv[5], argv[6], argv[7]));
}

// submit_call(reference, operation, arguments) :: job
Term nif_submit_call(ErlNifEnv* env, int, const Term argv[]) {
  if (!is_booted()) return not_initialized(env);
  const char* name;
  CallJob::Function function = find_operation(get_string(env, argv[1]), &name);
  if (function == nullptr) return enif_make_badarg(env);
  return submit(env, argv[0], new CallJob(env, name, function, argv[2]));
}

// submit_object(reference, operation, arguments, stdout, stderr, relay) :: job
Term nif_submit_object(ErlNifEnv* env, int, const Term argv[]) {
  if (!is_booted()) return not_initialized(env);
  const ObjectOperation* operation = find_object_operation(argv[1]);
  if (operation == nullptr) return enif_make_badarg(env);
  return submit(env, argv[0], new ObjectJob(env, operation, argv[2], argv[3], argv[4], argv[5]));
}

// How long a call on a scheduler waits for the GIL, while somebody listens.
class GilWait {
 public:
  GilWait() : begun_(is_observing() ? clock::now() : clock::time_point()) {}

  // The Attach that follows is done.
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
Term encode_here(ErlNifEnv* env, const Term argv[]) {
  EncodeOptions options;
  options.binaries_as_str = argv[1] == atoms.true_;
  enif_get_uint(env, argv[2], &options.own);
  options.caller_env = true;
  std::vector<PyObject*> replacements;
  Term list = argv[3];
  for (Term head; enif_get_list_cell(env, list, &head, &list);) replacements.push_back(get_object(env, head));
  std::vector<Term> deferred;
  PyObject* object = nullptr;
  switch (encode(env, argv[0], options, replacements, &object, &deferred)) {
    case EncodeStatus::ok: {
      const Term term = make_object(env, object);
      Py_DECREF(object);
      return make_tuple(env, atoms.ok, term);
    }
    case EncodeStatus::deferred:
      return make_tuple(
          env, atoms.deferred,
          enif_make_list_from_array(env, deferred.data(), static_cast<unsigned>(deferred.size())));
    default:
      return atoms.needs_thread;
  }
}

// encode(term, binaries_as_str, own, replacements): what encode_here returns, {:observed, that, times} while somebody listens
Term nif_encode(ErlNifEnv* env, int, const Term argv[]) {
  if (!is_booted()) return not_initialized(env);
  GilWait wait;
  Attach attached;
  wait.end();
  return wait.with_times(env, encode_here(env, argv));
}

// {:ok, term} | :unchanged | :needs_thread | {:argument_error, text}
Term decode_here(ErlNifEnv* env, PyObject* object) {
  DecodeOptions options;
  options.caller_env = true;
  Term term;
  std::string message;
  switch (decode(env, object, options, &term, &message)) {
    case DecodeStatus::ok:
      return make_tuple(env, atoms.ok, term);
    case DecodeStatus::object:
      return atoms.unchanged;
    case DecodeStatus::refused:
      return make_tuple(env, atoms.argument_error, make_binary(env, message));
    default:
      return atoms.needs_thread;
  }
}

// decode(object): what decode_here returns, or :error, or {:observed, that, times} while somebody listens
Term nif_decode(ErlNifEnv* env, int, const Term argv[]) {
  if (!is_booted()) return not_initialized(env);
  PyObject* object = get_object(env, argv[0]);
  if (object == nullptr) return atoms.error;
  GilWait wait;
  Attach attached;
  wait.end();
  return wait.with_times(env, decode_here(env, object));
}

// observe(wanted) :: :ok
Term nif_observe(ErlNifEnv*, int, const Term argv[]) {
  observe(argv[0] == atoms.true_);
  return atoms.ok;
}

// nif_memoryview(binary) :: {:ok, object} | :no_memory
Term nif_memoryview(ErlNifEnv* env, int, const Term argv[]) {
  if (!is_booted()) return not_initialized(env);
  if (!enif_is_binary(env, argv[0])) return enif_make_badarg(env);
  const Attach attached;
  const CollectorPause no_user_code(false);
  PyObject* view = make_memoryview(argv[0]);
  if (view == nullptr) {
    PyErr_Clear();
    return atoms.no_memory;
  }
  const Term object = make_object(env, view);
  Py_DECREF(view);
  return make_tuple(env, atoms.ok, object);
}

// local_object?(term) :: boolean
Term nif_is_local_object(ErlNifEnv* env, int, const Term argv[]) {
  return get_object(env, argv[0]) == nullptr ? atoms.false_ : atoms.true_;
}

// cancel(job, mute) :: boolean
Term nif_cancel(ErlNifEnv* env, int, const Term argv[]) {
  Job* job = get_job(env, argv[0]);
  if (job == nullptr) return enif_make_badarg(env);
  return ThreadPool::instance().cancel(job, argv[1] == atoms.true_) ? atoms.true_ : atoms.false_;
}

// interrupt(pid) :: boolean
Term nif_interrupt(ErlNifEnv* env, int, const Term argv[]) {
  ErlNifPid pid;
  if (!enif_get_local_pid(env, argv[0], &pid)) return enif_make_badarg(env);
  return ThreadPool::instance().interrupt(pid) ? atoms.true_ : atoms.false_;
}

// begin_call(call) :: {function, arguments, binaries_as_str}
Term nif_begin_call(ErlNifEnv* env, int, const Term argv[]) { return begin_call(env, argv[0]); }

// answer_call(call, answer) :: boolean
Term nif_answer_call(ErlNifEnv* env, int, const Term argv[]) { return answer_call(env, argv[0], argv[1]); }

// caller_waits?(call) :: boolean
Term nif_caller_waits(ErlNifEnv* env, int, const Term argv[]) { return caller_waits(env, argv[0]); }

// running() :: [{pid, thread, main?, elapsed_us, label}]
Term nif_running(ErlNifEnv* env, int, const Term[]) { return ThreadPool::instance().running(env); }

// stats() :: {threads, handles}
Term nif_stats(ErlNifEnv* env, int, const Term[]) {
  return make_tuple(env, enif_make_uint64(env, ThreadPool::instance().thread_count()),
                    enif_make_uint64(env, live_handles()));
}

void on_halt(void*) { halt(); }

int load(ErlNifEnv* env, void**, Term map_set) {
  init_atoms(env);
  init_object_operations(env);
  if (!open_object_types(env) || !open_job_type(env) || !open_call_type(env) || !open_tables(env) ||
      !open_subinterpreter_types(env))
    return 1;
  set_map_set_template(env, map_set);
#if ERL_NIF_MAJOR_VERSION > 2 || ERL_NIF_MINOR_VERSION >= 17
  enif_set_option(env, ERL_NIF_OPT_ON_HALT, on_halt);
#endif
  return 0;
}

ErlNifFunc functions[] = {
    {"nif_init", 4, nif_init, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"initialized?", 0, nif_initialized, 0},
    {"submit_eval", 8, nif_submit_eval, 0},
    {"submit_call", 3, nif_submit_call, 0},
    {"submit_object", 6, nif_submit_object, 0},
    {"nif_encode", 4, nif_encode, ERL_NIF_DIRTY_JOB_CPU_BOUND},
    {"nif_decode", 1, nif_decode, ERL_NIF_DIRTY_JOB_CPU_BOUND},
    {"nif_memoryview", 1, nif_memoryview, ERL_NIF_DIRTY_JOB_CPU_BOUND},
    {"local_object?", 1, nif_is_local_object, 0},
    {"cancel", 2, nif_cancel, 0},
    {"interrupt", 1, nif_interrupt, 0},
    {"begin_call", 1, nif_begin_call, 0},
    {"answer_call", 2, nif_answer_call, 0},
    {"caller_waits?", 1, nif_caller_waits, 0},
    {"running", 0, nif_running, 0},
    {"observe", 1, nif_observe, 0},
    {"stats", 0, nif_stats, 0},
    {"table_info", 1, or_enomem<nif_table_info>, 0},
    {"table_new", 1, or_enomem<nif_table_new>, ERL_NIF_DIRTY_JOB_CPU_BOUND},
    {"table_part", 4, or_enomem<nif_table_part>, ERL_NIF_DIRTY_JOB_CPU_BOUND},
    {"table_column", 5, or_enomem<nif_table_column>, ERL_NIF_DIRTY_JOB_CPU_BOUND},
    {"table_rows", 4, or_enomem<nif_table_rows>, ERL_NIF_DIRTY_JOB_CPU_BOUND},
    {"table_binaries", 2, or_enomem<nif_table_binaries>, ERL_NIF_DIRTY_JOB_CPU_BOUND},
    {"table_chunks", 2, or_enomem<nif_table_chunks>, ERL_NIF_DIRTY_JOB_CPU_BOUND},
    {"table_arrays", 0, nif_table_arrays, 0},
    {"open_interpreter", 2, nif_open_interpreter, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"submit_to_interpreter", 8, nif_submit_to_interpreter, 0},
    {"cancel_in_interpreter", 2, nif_cancel_in_interpreter, 0},
    {"close_interpreter", 2, nif_close_interpreter, 0},
    {"interpreter_of", 1, nif_interpreter_of, 0},
    {"interrupt_in_interpreters", 1, nif_interrupt_in_interpreters, 0},
    {"running_in_interpreters", 0, nif_running_in_interpreters, 0},
    {"interpreter_stats", 0, nif_interpreter_stats, 0},
};

}  // namespace
}  // namespace pythonx

// Never upgraded, never unloaded: Python and its threads live as long as the process.
extern "C" {
ERL_NIF_INIT(Elixir.Pythonx.NIF, pythonx::functions, pythonx::load, nullptr, nullptr, nullptr)
}
