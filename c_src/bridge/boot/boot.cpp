#include "boot/boot.hpp"

#include <pthread.h>
#include <pybind11/embed.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>

#include "boot/allocator.hpp"
#include "boot/farewell.hpp"
#include "conversion/atom.hpp"
#include "conversion/error.hpp"
#include "conversion/function.hpp"
#include "conversion/object.hpp"
#include "conversion/pid.hpp"
#include "interpreters/interpreter.hpp"
#include "memory/view.hpp"
#include "python/gil.hpp"
#include "python/package.hpp"
#include "tables/table.hpp"
#include "threads/leavings.hpp"
#include "threads/place.hpp"
#include "threads/pool.hpp"
#include "threads/reaper.hpp"
#include "threads/signal_right.hpp"
#include "threads/signals.hpp"
#include "vm/exception.hpp"
#include "vm/system.hpp"
#include "work/callback.hpp"
#include "work/leftovers.hpp"
#include "work/main_module.hpp"
#include "work/output.hpp"
#include "work/source.hpp"

#if ERL_NIF_MAJOR_VERSION == 2 && ERL_NIF_MINOR_VERSION < 17
// As the headers of OTP 26 declare them. The VM exports its functions, and this one is null where it has none.
extern "C" __attribute__((weak)) int enif_set_option(ErlNifEnv* env, int option, ...);
constexpr int ERL_NIF_OPT_ON_HALT = 2;
#define HAS_ENIF_SET_OPTION (&enif_set_option != nullptr)
#else
#define HAS_ENIF_SET_OPTION true
#endif

namespace py = pybind11;

namespace pythonx {
namespace {

constexpr auto halt_deadline = std::chrono::milliseconds(2000);

// Whether this VM calls at halt. A library from a wheel was compiled with the headers of an older one, so the VM is asked.
std::atomic<bool> vm_tells_of_halt{false};

// What the starting call and the main thread tell each other. Leaked: the main thread may outlive the call.
struct Boot {
  BootConfig config;
  std::mutex mutex;
  std::condition_variable condition;
  bool done = false;
  std::string failure;

  void report(const std::string& text) {
    std::lock_guard<std::mutex> lock(mutex);
    failure = text;
    done = true;
    condition.notify_one();
  }
};

std::string text_of(const PyStatus& status) {
  std::string text = status.func == nullptr ? "" : std::string(status.func) + ": ";
  return text + (status.err_msg == nullptr ? "unknown error" : status.err_msg);
}

bool failed(const PyStatus& status) { return PyStatus_Exception(status) != 0; }

// Anything but exactly one language runtime's defaults is set here, with the reason.
PyStatus preinitialize() {
  PyPreConfig pre;
  PyPreConfig_InitPythonConfig(&pre);
  pre.parse_argv = 0;
  pre.utf8_mode = 1;  // Paths and the text of subprocesses are UTF-8, as everywhere in Elixir.
  pre.coerce_c_locale = 0;
  pre.allocator = preferred_allocator();
  PyStatus status = Py_PreInitialize(&pre);
  if (failed(status) && pre.allocator != PYMEM_ALLOCATOR_NOT_SET) {
    // This Python was built without mimalloc.
    pre.allocator = PYMEM_ALLOCATOR_NOT_SET;
    status = Py_PreInitialize(&pre);
  }
  return status;
}

PyStatus set_paths(PyConfig* config, const BootConfig& boot) {
  PyStatus status = PyConfig_SetBytesString(config, &config->executable, boot.executable.c_str());
  if (failed(status) || boot.home.empty()) return status;
  return PyConfig_SetBytesString(config, &config->home, boot.home.c_str());
}

PyStatus initialize(const BootConfig& boot) {
  PyConfig config;
  PyConfig_InitPythonConfig(&config);
  config.parse_argv = 0;
  config.install_signal_handlers = 0;  // SIGINT belongs to the BEAM.
  PyStatus status = set_paths(&config, boot);
  if (!failed(status)) status = Py_InitializeFromConfig(&config);
  PyConfig_Clear(&config);
  return status;
}

// A child made by fork() inherits the BEAM's handlers with the pipe behind them: a SIGTERM meant for the child would shut
// down the VM. So the child gets the default handlers, and no signal reaches it before it has them.
thread_local sigset_t mask_before_fork;

void before_fork() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &mask_before_fork);
  lock_signals();
}

void after_fork_in_parent() {
  unlock_signals();
  pthread_sigmask(SIG_SETMASK, &mask_before_fork, nullptr);
}

void after_fork_in_child() {
  set_forked();
  disown_signals();
  unlock_signals();
  pthread_sigmask(SIG_SETMASK, &mask_before_fork, nullptr);
}

// The Python side of the boot: priv/python/pythonx/_boot.py.
void boot_python_side(const BootConfig& config) {
  set_package_folder(config.python_dir);
  if (!init_package(config.python_dir)) throw py::error_already_set();
  const auto boot_module = py::reinterpret_steal<py::object>(package_module("pythonx._boot"));
  if (!boot_module) throw py::error_already_set();
  py::list extra;
  for (const std::string& path : config.sys_paths) extra.append(py::str(path));
  boot_module.attr("boot")(extra, interrupt_signal());
  take_signals();
  if (!vm_tells_of_halt.load()) boot_module.attr("call_after_loading")(py::cpp_function(&halt_at_exit));
}

std::string start(const BootConfig& config) {
  // Both would be read by this Python and by every one that it starts, and can only lead them astray.
  unsetenv("PYTHONHOME");
  unsetenv("PYTHONSTARTUP");
  cache_arenas();
  PyStatus status = preinitialize();
  if (!failed(status)) status = initialize(config);
  if (failed(status)) return text_of(status);
  if (const std::size_t size = stack_size_for_python_code(); size != 0) PyThread_set_stacksize(size);
  try {
    if (!init_pid_type() || !init_function_type({call_elixir, start_call}) || !init_atom_type() ||
        !init_view_types() || !init_table_type() || !init_output() || !init_places() || !init_sources())
      throw py::error_already_set();
    boot_python_side(config);
    if (!init_main_module() || !init_leftovers()) throw py::error_already_set();
  } catch (std::exception& error) {
    return error.what();
  }
  return "";
}

void* main_thread(void* memory) {
  auto* boot = static_cast<Boot*>(memory);
  const std::string failure = start(boot->config);
  if (!failure.empty()) {
    // This thread is Python's main thread, half-started as it is: it may not end.
    boot->report(failure);
    for (;;) pause();
  }
  adopt_thread_state(PyThreadState_Get());
  note_thread_as_booted();
  find_signal_right();
  PyEval_SaveThread();
  set_booted(&boot->config);
  boot->report("");
  ThreadPool::instance().serve_as_main();
}

[[noreturn]] void* reap(void*) { serve_releases(); }

[[noreturn]] void* serve_interrupts(void*) {
  name_thread("python_breaker");
  ThreadPool::instance().serve_interrupts();
}

}  // namespace

std::string boot(const BootConfig& config) {
  auto* state = new Boot;
  state->config = config;
  // Once, also when a boot that failed is tried again: the second mask to be saved would be the first's full
  // one.
  [[maybe_unused]] static const int registered =
      pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
  ::signal(SIGCHLD, SIG_DFL);  // With SIG_IGN, every exit status that Python waits for would read as 0.
  if (!start_detached(main_thread, state)) return "cannot start a thread";
  std::unique_lock<std::mutex> lock(state->mutex);
  state->condition.wait(lock, [state] { return state->done; });
  if (state->failure.empty() &&
      !(start_detached(reap, nullptr) && start_detached(serve_interrupts, nullptr))) {
    return "cannot start a thread";
  }
  return state->failure;
}

void halt() {
  // Two versions of the module each have the VM call.
  static std::atomic<bool> begun{false};
  if (!is_booted() || begun.exchange(true)) return;
  const auto deadline = std::chrono::steady_clock::now() + halt_deadline;
  print_to_process();
  close_signals();
  ThreadPool::instance().shut_down();
  Subinterpreter::begin_halt();
  say_farewell(deadline);
  Subinterpreter::await_halt(deadline);
  // The destructors of static objects in packages are written for a process whose Python has ended, on a thread that had the
  // GIL: they call Python (duckdb's does), or take away what threads that still run are using. Nobody needs them.
  skip_destructors_at_exit();
}

void ask_vm_for_halt(ErlNifEnv* env) {
  using Callback = void(void*);
  Callback* on_halt = [](void*) { contain([] { halt(); }); };
  if (HAS_ENIF_SET_OPTION && enif_set_option(env, ERL_NIF_OPT_ON_HALT, on_halt) == 0) vm_tells_of_halt = true;
}

void halt_at_exit() { std::atexit(halt); }

}  // namespace pythonx
