// What Python does when the VM ends: what it would do at its own exit, short of finalising.
//
// It is done in steps (priv/python/pythonx/_exit.py), each of which has its share of the time: a function of an executor, of
// `atexit`, a file that is flushed. An exception ends its step and is reported. A step that takes longer than its share is
// interrupted; one that does not heed that is left to its thread, and another thread goes on with the next. So it is where the
// main thread cannot begin, as it does not come back from C code. By then no evaluation runs, and no handler of a signal
// is called any more (`close_signals`), so that nothing else can raise between the steps.
//
// Ownership. The steps are Python's, and are taken with the GIL by one thread at a time, the runner: one that was replaced
// finds that out when its step has ended, and stops. Everything else is static and never freed.
#pragma once

#include <chrono>

namespace pythonx {

// Has Python's main thread begin, and waits until all is done, until the deadline at most. Detached, at halt, once.
void say_farewell(std::chrono::steady_clock::time_point deadline);

}  // namespace pythonx
