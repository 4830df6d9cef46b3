// The right to run Python's signal handlers, lent to another thread than Python's main one for a moment.
//
// What waits in C (sleep, locks, sockets, waitpid, poll) gives up only when a signal comes and the Python-level handler of
// it raises, and CPython runs handlers on one thread: that whose number its runtime holds as the main thread's. For a thread
// of the bridge that waits, the number is replaced by its own until it has run the handler, or for some milliseconds.
//
// All that reads the number does so with the GIL, and it is changed with the GIL. Nothing else hangs on it but who runs
// the interrupt's handler, which finds out for whom it is (signals.hpp), and who runs pending calls of C code. An interrupt for
// the main thread itself may go astray, and is sent again like all.
//
// The number has no name outside of CPython. It is the word of `_PyRuntime` on which the answer of `_PyOS_IsMainThread`
// depends, and is looked for when Python starts, from the beginning of `_PyRuntime` to the end of libpython's data at most: the
// size of it is told on some systems only. Where there is no such word, and without a GIL, nothing is lent.
#pragma once

#include <Python.h>

namespace pythonx {

// Looks for the number. On Python's main thread, attached, while no other thread has a thread state.
void find_signal_right();

// Whether it can be lent.
bool can_lend_signal_right();

// Lends it to a thread for a scope. Attached at both ends, and by one thread at a time; detached in between.
class SignalRight {
 public:
  explicit SignalRight(unsigned long python_id);
  ~SignalRight();
  SignalRight(const SignalRight&) = delete;
  SignalRight& operator=(const SignalRight&) = delete;

 private:
  unsigned long owner_;
};

}  // namespace pythonx
