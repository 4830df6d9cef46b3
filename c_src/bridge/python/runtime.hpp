// The one Python of this process: whether it runs, with what it was started, and whether this process is a copy of the one
// that started it. Set by the boot, read by everybody.
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

// Python is up, started with `config`, which lives as long as the process.
void set_booted(const BootConfig* config);

bool is_booted();

// With what Python was started.
const BootConfig& boot_config();

// For the handler that runs in the copy that fork() makes.
void set_forked();

// In a copy of the process that os.fork() made, in which Elixir does not run: sets a RuntimeError that what is named cannot
// be done there, and returns true. Attached.
bool refuse_if_forked(const char* what);

// In a copy of the process that os.fork() made, ends it: with the exception that is set, or without one.
// Attached, at the end of a job: nobody is there who waits for its reply, and there is nothing else to do.
void end_if_forked();

}  // namespace pythonx
