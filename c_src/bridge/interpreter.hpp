// The one interpreter of this process: its boot, and what happens at halt.
//
// Python is never finalised: threads that attach during finalisation hang from 3.14 on, and numpy cannot be
// initialised twice. At halt the bridge refuses new work, interrupts what runs, runs atexit handlers with a deadline,
// and lets the process die.
#pragma once

#include <string>
#include <vector>

namespace pythonx {

struct BootConfig {
  std::string executable;              // sys.executable: the virtual environment's python, where there is one
  std::string home;                    // the base Python's prefix; empty: found from `executable`
  std::string python_dir;              // the folder that holds the package `pythonx`
  std::vector<std::string> sys_paths;  // appended to sys.path
};

// Starts Python's main thread and waits until it is up. Returns an empty string, or why Python did not start.
std::string boot(const BootConfig& config);

bool is_booted();

// In a copy of the process that os.fork() made, ends it: with the exception that is set, or without one.
// Attached, at the end of a job: nobody is there who waits for its reply, and there is nothing else to do.
void end_if_forked();

// With what Python was started.
const BootConfig& boot_config();

// Called by the VM when it halts, for at most about two seconds.
void halt();

}  // namespace pythonx
