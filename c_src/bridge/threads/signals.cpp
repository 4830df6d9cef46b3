#include "threads/signals.hpp"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <mutex>
#include <utility>

#include "threads/pool.hpp"
#include "threads/signal_table.hpp"
#include "vm/system.hpp"

namespace pythonx {

SignalTable signal_table;

namespace {

using Kind = SignalHandler::Kind;
using Handler = void (*)(int, siginfo_t*, void*);

struct sigaction interrupt_action;
std::atomic<int> wakeup_fd{-1};
Semaphore arrivals;

constexpr std::array<int, 3> alarms{SIGALRM, SIGVTALRM, SIGPROF};

void on_signal(int number, siginfo_t* info, void* context) {
  const int error = errno;
  SignalEntry& entry = signal_table[number];
  const Kind kind = entry.kind;
  const bool own = is_sent_by_self(info);
  const bool called = kind == Kind::call;
  if (!signal_table.closed && (called || (kind != Kind::ignore && strikes_by_itself(number, own)))) {
    entry.due = true;
    const int fd = wakeup_fd;
    const auto byte = static_cast<unsigned char>(number);
    if (called && fd != -1) [[maybe_unused]]
      const ssize_t written = write(fd, &byte, 1);
    trip_interrupt();
    arrivals.post();
  }
  const Handler below = entry.below;
  const bool between_python = own && number != SIGTERM && (called || number == SIGINT);
  if (below != nullptr && !between_python) below(number, info, context);
  errno = error;
}

// --- Dispositions --------------------------------------------------------------------------------------------------

bool is_ours(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) != 0 && action.sa_sigaction == on_signal;
}

bool is_function(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) != 0 ||
         (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN);
}

bool is_default(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) == 0 && action.sa_handler == SIG_DFL;
}

bool is_interrupt(const struct sigaction& action) {
  return action.sa_handler == interrupt_action.sa_handler && (action.sa_flags & SA_RESTART) == 0;
}

int install(int number, const struct sigaction& action) {
  return sigaction(number, &action, nullptr) == 0 ? 0 : errno;
}

int install(int number, void (*handler)(int)) {
  struct sigaction action{};
  action.sa_handler = handler;
  return install(number, action);
}

int install_ours(int number) {
  struct sigaction action{};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  return install(number, action);
}

// What the signal would do without Python.
struct sigaction vm_action(const SignalEntry& entry, const struct sigaction& current) {
  return is_ours(current) ? entry.vm : current;
}

void note_vm(SignalEntry* entry, const struct sigaction& action) {
  entry->vm = action;
  Handler below = nullptr;
  if ((action.sa_flags & SA_SIGINFO) != 0) {
    below = action.sa_sigaction;
  } else if (is_function(action)) {
    below = reinterpret_cast<Handler>(reinterpret_cast<void (*)()>(action.sa_handler));
  }
  entry->below = below;
}

// Whether Python may add to what the signal does, but not replace it. Children that nobody waits for would be lost with
// SIGCHLD ignored, and an alarm would end the VM.
bool is_borrowed(int number, const struct sigaction& vm) {
  if (signal_table.is_copy) return false;
  return !is_default(vm) || number == SIGCHLD || is_alarm(number);
}

// What has a pipe of the VM's behind it in a copy of the process.
bool is_of_vm(int number) {
  switch (number) {
    case SIGHUP:
    case SIGINT:
    case SIGQUIT:
    case SIGUSR1:
    case SIGUSR2:
    case SIGPIPE:
    case SIGTERM:
    case SIGCHLD:
      return true;
    default:
      return false;
  }
}

// Ours stays installed, whether Python has a handler or not.
bool is_held(int number, const struct sigaction& vm) {
  if (signal_table.is_copy) return false;
  return (number == SIGINT && is_function(vm)) || (is_alarm(number) && is_default(vm));
}

void hold(int number) {
  struct sigaction current;
  if (sigaction(number, nullptr, &current) != 0 || is_ours(current) || !is_held(number, current)) return;
  note_vm(&signal_table[number], current);
  install_ours(number);
}

// With the mutex held. Has the signal do what the kind says; 0, or an errno.
int apply(int number, Kind kind, SignalEntry* entry) {
  struct sigaction current;
  if (sigaction(number, nullptr, &current) != 0) return errno;
  const struct sigaction vm = vm_action(*entry, current);
  if (kind == Kind::call) {
    if (!is_ours(current)) note_vm(entry, current);
    return install_ours(number);
  }
  if (is_borrowed(number, vm) || kind == Kind::none) {
    return is_ours(current) && !is_held(number, vm) ? install(number, vm) : 0;
  }
  return install(number, kind == Kind::ignore ? SIG_IGN : SIG_DFL);
}

// --- The relay -----------------------------------------------------------------------------------------------------

[[noreturn]] void* relay(void*) {
  name_thread("python_signals");
  for (;;) {
    arrivals.wait();
    ThreadPool::instance().note_signals();
  }
}

// Started when first needed: most VMs never do. Without it handlers run when the next interrupt is sent.
void start_relay() {
  static const bool started = [] { return start_detached(relay, nullptr, small_stack_size); }();
  static_cast<void>(started);
}

}  // namespace

void take_signals() {
  sigaction(interrupt_signal(), nullptr, &interrupt_action);
  arrivals.init();
  hold(SIGINT);
  for (const int number : alarms) hold(number);
}

bool send_interrupt(pthread_t thread) {
  struct sigaction current;
  if (sigaction(interrupt_signal(), nullptr, &current) != 0) return false;
  if (!is_interrupt(current)) {
    // That of another library is not ours to take. (One with SA_RESTART is ours, changed.)
    if (is_function(current) && current.sa_handler != interrupt_action.sa_handler) return false;
    if (install(interrupt_signal(), interrupt_action) != 0) return false;
  }
  return pthread_kill(thread, interrupt_signal()) == 0;
}

void trip_interrupt() { PyErr_SetInterruptEx(interrupt_signal()); }

int set_signal_handler(int number, const SignalHandler& handler, PyObject** old) {
  PyObject* before = get_signal_handler(number);
  if (handler.kind == Kind::call) start_relay();
  PyObject* function = nullptr;
  PyObject* context = nullptr;
  int error = 0;
  {
    std::lock_guard<std::mutex> lock(signal_table.mutex);
    SignalEntry& entry = signal_table[number];
    // That of the interrupt is noted, and nothing else.
    error = number == interrupt_signal() ? 0 : apply(number, handler.kind, &entry);
    if (error == 0) {
      entry.kind = handler.kind;
      if (handler.kind != Kind::call) entry.due = false;
      function = std::exchange(entry.function, handler.function);
      context = std::exchange(entry.context, handler.context);
      Py_XINCREF(handler.function);
      Py_XINCREF(handler.context);
      entry.setter.set(handler.has_process ? &handler.process : nullptr);
    }
  }
  Py_XDECREF(function);
  Py_XDECREF(context);
  if (error != 0) {
    Py_DECREF(before);
    return error;
  }
  *old = before;
  return 0;
}

PyObject* get_signal_handler(int number) {
  std::lock_guard<std::mutex> lock(signal_table.mutex);
  const SignalEntry& entry = signal_table[number];
  struct sigaction current;
  switch (entry.kind) {
    case Kind::call:
      Py_INCREF(entry.function);
      return entry.function;
    case Kind::standard:
      return PyLong_FromLong(0);
    case Kind::ignore:
      return PyLong_FromLong(1);
    default:
      break;
  }
  if (number != interrupt_signal() && sigaction(number, nullptr, &current) == 0) {
    const struct sigaction vm = vm_action(entry, current);
    if (!is_function(vm)) return PyLong_FromLong(vm.sa_handler == SIG_IGN ? 1 : 0);
  }
  Py_INCREF(Py_None);
  return Py_None;
}

void set_signal_sender(int number, const ErlNifPid* process) {
  if (number == SIGINT) start_relay();
  std::lock_guard<std::mutex> lock(signal_table.mutex);
  signal_table[number].sender.set(process);
}

void set_alarm_owner(int number, const ErlNifPid* process) {
  start_relay();
  std::lock_guard<std::mutex> lock(signal_table.mutex);
  signal_table[number].alarm.set(process);
}

void simulate_signal(int number) {
  if (signal_table.closed) return;
  signal_table[number].due = true;
  trip_interrupt();
  arrivals.post();
}

int exchange_wakeup_fd(int fd) { return wakeup_fd.exchange(fd); }

void close_signals() { signal_table.closed = true; }

void lock_signals() { signal_table.mutex.lock(); }

void unlock_signals() { signal_table.mutex.unlock(); }

void disown_signals() {
  signal_table.is_copy = true;
  for (int number = 1; number < NSIG; ++number) {
    SignalEntry& entry = signal_table[number];
    struct sigaction current;
    if (sigaction(number, nullptr, &current) != 0) continue;
    entry.below = nullptr;
    entry.due = false;
    entry.vm = {};
    const bool kept = is_ours(current) && entry.kind == Kind::call;
    if (!kept && (is_ours(current) || is_of_vm(number))) install(number, SIG_DFL);
  }
}

}  // namespace pythonx
