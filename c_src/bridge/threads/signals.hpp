// Signals between the VM and Python: who handles them, and which evaluation they may hit.
//
// CPython's own table of handlers is that of a process which Python owns: it takes a signal from whoever had it, may be
// changed on one thread only, and runs handlers on that thread, in whatever happens to be there. Here it holds one entry,
// the signal that interrupts (pool_interrupts.cpp). All others are in a table of ours, which `signal.signal` and its
// relatives change (work/signal_functions.cpp), on any thread.
//
// What is the VM's stays the VM's. A signal that something else than Python handles or ignores is borrowed: Python's handler
// is called beside what was there, and SIG_DFL, SIG_IGN and None give it back. What Python code sends its own process
// is between it and its handler, but for SIGTERM, which always reaches the VM. An own SIGINT that no handler waits for is a
// KeyboardInterrupt, and never opens the VM's break menu. Alarms, whose default is to end the process, and the
// interrupt's own signal are never given away.
//
// Whom a signal hits. A handler may raise, so it runs in a job of the process that the signal concerns: the one that raised
// it; for an alarm the one that has set it; else the one that has set the handler. Where that process runs nothing, the
// handler runs on a thread for that, in the context in which it was set, and what it raises is reported and ends nothing. So no
// signal is felt in the evaluation of another process.
//
// In the C handler only what POSIX calls async-signal-safe, and atomics without locks: it marks the signal, writes to the
// wakeup descriptor, trips CPython's entry (PyErr_SetInterruptEx, made for this), posts a semaphore and calls what was
// there. It runs on any thread of the VM, with SA_ONSTACK, as the stack of a scheduler may be Erlang's. All else is done by the
// thread that sends interrupts, which a relay wakes: nothing else may be called in a handler to that end.
//
// Locks: the table's mutex is a leaf. References are dropped after it was let go.
#pragma once

#include <Python.h>

#include <chrono>
#include <vector>

#include "vm/term.hpp"

namespace pythonx {

// How long code has to end after an interrupt before it gets the next.
constexpr auto interrupt_interval = std::chrono::milliseconds(50);

// How long a thread that waits in C is given to run the handler of a signal.
constexpr auto handler_time = std::chrono::milliseconds(10);

// Takes the interrupt's signal (vm/system.hpp), whose handler raises only for a cancelled job, and for which CPython has a handler by now, the alarms, and the VM's SIGINT. Once, at boot.
void take_signals();

// Sends the interrupt's signal. False where it has another handler, as C code may have set one: the thread gets nothing
// then, since the default action would end the VM. Where it was reset it is taken back first.
bool send_interrupt(pthread_t thread);

// Has CPython call the handler of the interrupt where it next looks for signals. Async-signal-safe.
void trip_interrupt();

struct SignalHandler {
  enum class Kind { none, standard, ignore, call };
  Kind kind = Kind::none;
  PyObject* function = nullptr;  // borrowed, for `call`
  PyObject* context =
      nullptr;  // borrowed, for `call`: a contextvars.Context to run it in where nothing waits for it
  bool has_process = false;  // the process that sets it
  ErlNifPid process{};
};

// signal.signal: 0, or the errno of sigaction. `old` gets what getsignal returned before. Attached.
int set_signal_handler(int number, const SignalHandler& handler, PyObject** old);

// signal.getsignal, a new reference: None for what Python has not set. Attached.
PyObject* get_signal_handler(int number);

// Whose evaluation the next signal of this number hits, if not that of its handler: of a signal that is raised once, of
// an alarm until it is set again.
void set_signal_sender(int number, const ErlNifPid* process);
void set_alarm_owner(int number, const ErlNifPid* process);

// As if the signal had come from the process itself. Attached.
void simulate_signal(int number);

// The number of a descriptor to which the number of each signal is written that Python has a handler for; -1 for none. The
// one before. Async-signal-safe.
int exchange_wakeup_fd(int fd);

// The signals that have come and are waited for, and whom each concerns.
struct DueSignal {
  int number;
  bool has_process;
  ErlNifPid process;
};
std::vector<DueSignal> due_signals();
bool is_due(int number);

// Runs the handlers of what has come for the job of the calling thread; false with an exception set. Attached.
bool run_signal_handlers();

// Runs a handler for nobody: what it raises is reported. Attached.
void run_signal_handler_alone(int number);

// From now on no handler runs by itself. Those of what has come are left to `run_signal_handler_alone`.
void close_signals();
std::vector<int> due_when_closed();

// What Python's main thread does at the end of the VM is to be broken off with a KeyboardInterrupt, or is not any more.
void interrupt_exit(bool wanted);
bool take_exit_interrupt();

// Around fork(): holds the table, and in the copy, which has no VM, leaves handlers to Python alone.
void lock_signals();
void unlock_signals();
void disown_signals();

}  // namespace pythonx
