// What signals.cpp, which keeps the table of signals, and signal_handlers.cpp, which runs the handlers in it, share.
#pragma once

#include <signal.h>

#include <array>
#include <atomic>
#include <mutex>

#include "threads/signals.hpp"

namespace pythonx {

struct SignalEntry {
  struct Process {
    bool known = false;
    ErlNifPid pid{};

    void set(const ErlNifPid* process) {
      known = process != nullptr;
      if (known) pid = *process;
    }
  };

  // For the C handler.
  std::atomic<SignalHandler::Kind> kind{SignalHandler::Kind::none};
  std::atomic<bool> due{false};
  std::atomic<void (*)(int, siginfo_t*, void*)> below{
      nullptr};  // called after Python's; called with three arguments, of which it may want one

  // Of the mutex.
  PyObject* function = nullptr;
  PyObject* context = nullptr;
  struct sigaction vm{};  // what was there when ours was installed
  Process setter, sender, alarm;
  int put_off = 0;
};

struct SignalTable {
  std::array<SignalEntry, NSIG> entries;
  std::mutex mutex;  // a leaf
  std::atomic<bool> closed{false};
  std::atomic<bool> is_copy{false};  // made by fork()

  SignalEntry& operator[](int number) { return entries[static_cast<std::size_t>(number)]; }
};

// The C handler may interrupt whoever holds a lock.
static_assert(std::atomic<SignalHandler::Kind>::is_always_lock_free &&
              std::atomic<bool>::is_always_lock_free &&
              std::atomic<void (*)(int, siginfo_t*, void*)>::is_always_lock_free &&
              std::atomic<int>::is_always_lock_free);

// Made at boot, before anything may use it; also in the C handler.
extern SignalTable signal_table;

inline bool is_alarm(int number) { return number == SIGALRM || number == SIGVTALRM || number == SIGPROF; }

// Whether a signal without a handler is felt all the same.
inline bool strikes_by_itself(int number, bool own) { return is_alarm(number) || (own && number == SIGINT); }

}  // namespace pythonx
