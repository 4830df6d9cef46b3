// The one interpreter of this process: its boot, and what happens at halt.
//
// Python is never finalised: threads that attach during finalisation hang from 3.14 on, and numpy cannot be
// initialised twice. At halt the bridge refuses new work, interrupts what runs, runs atexit handlers with a deadline,
// and lets the process die.
#pragma once

#include <string>

#include "python/runtime.hpp"

namespace pythonx {

// Starts Python's main thread and waits until it is up. Returns an empty string, or why Python did not start.
std::string boot(const BootConfig& config);

// Called by the VM when it halts, for at most about two seconds.
void halt();

}  // namespace pythonx
