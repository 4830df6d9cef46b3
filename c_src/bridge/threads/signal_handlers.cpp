// The part of signals.hpp that runs Python's handlers.
#include <utility>

#include "python/package.hpp"
#include "threads/pool.hpp"
#include "threads/safe_point.hpp"
#include "threads/signal_table.hpp"
#include "threads/signals.hpp"

namespace pythonx {
namespace {

using Kind = SignalHandler::Kind;

// How often a handler waits for its thread to leave a place where an exception would leave a lock of everyone's taken, or a
// module half imported: some seconds.
constexpr int handler_put_off_limit = 100;

std::atomic<bool> exit_interrupted{false};

// With the mutex held.
const SignalEntry::Process& concerned(int number, const SignalEntry& entry) {
  if (entry.sender.known) return entry.sender;
  if (is_alarm(number) && entry.alarm.known) return entry.alarm;
  return entry.setter;
}

struct Taken {
  bool due = false;
  PyObject* function = nullptr;
  PyObject* context = nullptr;
};

// Takes the signal, if it is due; new references.
Taken take(int number) {
  std::lock_guard<std::mutex> lock(signal_table.mutex);
  SignalEntry& entry = signal_table[number];
  if (!entry.due.exchange(false)) return {};
  entry.sender.set(nullptr);
  entry.put_off = 0;
  if (entry.kind == Kind::ignore) return {};
  if (entry.kind != Kind::call) return {strikes_by_itself(number, true), nullptr, nullptr};
  Py_INCREF(entry.function);
  Py_XINCREF(entry.context);
  return {true, entry.function, entry.context};
}

// Whether it is due, and for the job of this thread, at a place where an exception does no harm.
bool is_for_this_thread(int number) {
  if (!signal_table[number].due) return false;
  if (signal_table.is_copy) return true;
  const Safety safety = safety_of(PyEval_GetFrame());
  ErlNifPid pid;
  {
    std::lock_guard<std::mutex> lock(signal_table.mutex);
    SignalEntry& entry = signal_table[number];
    const SignalEntry::Process& process = concerned(number, entry);
    // Handlers of alarms are there to raise. Others may be those of a server that runs for ever in a module's code.
    const bool raises = is_alarm(number) || entry.kind != Kind::call;
    const bool unsafe = safety == Safety::unsafe || (raises && safety == Safety::loading);
    if (!process.known || (unsafe && ++entry.put_off < handler_put_off_limit)) return false;
    pid = process.pid;
  }
  return ThreadPool::instance().works_for(pid);
}

void raise_for(int number) {
  if (number == SIGINT) {
    PyErr_SetNone(PyExc_KeyboardInterrupt);
  } else {
    const char* name = number == SIGALRM ? "SIGALRM" : number == SIGPROF ? "SIGPROF" : "SIGVTALRM";
    PyErr_Format(PyExc_KeyboardInterrupt, "%s came, for which there is no handler", name);
  }
}

bool run(int number, const Taken& taken) {
  if (taken.function == nullptr) {
    raise_for(number);
    return false;
  }
  auto* frame = reinterpret_cast<PyObject*>(PyEval_GetFrame());
  PyObject* result = PyObject_CallFunction(taken.function, "iO", number, frame == nullptr ? Py_None : frame);
  Py_DECREF(taken.function);
  Py_XDECREF(taken.context);
  Py_XDECREF(result);
  return result != nullptr;
}

}  // namespace

bool is_due(int number) { return signal_table[number].due; }

std::vector<DueSignal> due_signals() {
  std::vector<DueSignal> due;
  if (signal_table.closed) return due;
  std::lock_guard<std::mutex> lock(signal_table.mutex);
  for (int number = 1; number < NSIG; ++number) {
    const SignalEntry& entry = signal_table[number];
    if (!entry.due) continue;
    const SignalEntry::Process& process = concerned(number, entry);
    due.push_back({number, process.known, process.pid});
  }
  return due;
}

bool run_signal_handlers() {
  if (signal_table.closed && !signal_table.is_copy) return true;
  for (int number = 1; number < NSIG; ++number) {
    if (!is_for_this_thread(number)) continue;
    const Taken taken = take(number);
    if (!taken.due || run(number, taken)) continue;
    trip_interrupt();  // for the others
    return false;
  }
  return true;
}

void run_signal_handler_alone(int number) {
  const Taken taken = take(number);
  if (taken.function == nullptr) return;
  PyObject* module = package_module("pythonx._signals");
  PyObject* none = module == nullptr ? nullptr
                                     : PyObject_CallMethod(module, "run_alone", "OOi", taken.context,
                                                           taken.function, number);
  if (none == nullptr) PyErr_WriteUnraisable(taken.function);
  Py_XDECREF(none);
  Py_XDECREF(module);
  Py_DECREF(taken.function);
  Py_DECREF(taken.context);
}

std::vector<int> due_when_closed() {
  std::vector<int> due;
  for (int number = 1; number < NSIG; ++number) {
    if (is_due(number)) due.push_back(number);
  }
  return due;
}

void interrupt_exit(bool wanted) {
  exit_interrupted = wanted;
  if (wanted) trip_interrupt();
}

bool take_exit_interrupt() { return exit_interrupted.exchange(false); }

}  // namespace pythonx
