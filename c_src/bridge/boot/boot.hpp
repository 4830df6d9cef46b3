// The one interpreter of this process: its boot, and what happens at halt.
//
// Python is never finalised: threads that attach during finalisation hang from 3.14 on, and numpy cannot be
// initialised twice. At halt the bridge refuses new work, interrupts what runs, runs atexit handlers with a deadline,
// and lets the process die.
#pragma once

#include <erl_nif.h>

#include <string>

#include "python/runtime.hpp"

namespace pythonx {

// Starts Python's main thread and waits until it is up. Returns an empty string, or why Python did not start.
std::string boot(const BootConfig& config);

// Called by the VM when it halts, for at most about two seconds.
void halt();

// Has the VM call halt(). Before OTP 26 it tells nobody that it halts, and boot() has exit() do it. Called while the library is
// loaded.
void ask_vm_for_halt(ErlNifEnv* env);

// Has exit() call halt() in its stead. exit() begins with what was registered last, and a library registers its destructors
// as it is loaded: to come before these, this is called after each.
void halt_at_exit();

}  // namespace pythonx
