// How a long walk over data shares the interpreter: it lets the GIL go about every millisecond (on a scheduler it ends then, if
// that does not have it back), keeps Python's collector out, and notices that nobody waits for the result any more.
#pragma once

#include <Python.h>

#include <cstddef>

#include "python/gil.hpp"
#include "vm/term.hpp"

namespace pythonx {

// Elements of a run between two looks at the clock.
constexpr Py_ssize_t longest_run = 1024;

// Up to CPython 3.11 the allocation of a container may run the cyclic collector, which calls finalizers: user
// code, that may not run on a scheduler's small stack. Later versions collect between bytecodes only, so
// there is nothing to do. The collector is off only while this thread holds the GIL, so no other thread ever
// sees it off.
class CollectorPause {
 public:
  explicit CollectorPause(bool user_code) : wanted_(!user_code) { impose(); }
  ~CollectorPause() { lift(); }
  CollectorPause(const CollectorPause&) = delete;
  CollectorPause& operator=(const CollectorPause&) = delete;

#if PY_VERSION_HEX < 0x030C0000
  void impose() { imposed_ = wanted_ && PyGC_Disable() != 0; }
  void lift() {
    if (imposed_) PyGC_Enable();
    imposed_ = false;
  }
#else
  void impose() {}
  void lift() {}
#endif

 private:
  [[maybe_unused]] bool wanted_;
  [[maybe_unused]] bool imposed_ = false;
};

// What a walk is allowed to do and to ask for while it pauses.
struct PacerOptions {
  bool user_code;   // Python code may run: pauses are points at which an interrupt arrives
  bool caller_env;  // the environment is that of a process that is calling a NIF: stop when it died
};

class Pacer {
 public:
  Pacer(ErlNifEnv* env, PacerOptions options) : env_(env), options_(options), collector_(options.user_code) {}

  // Counts work, in units of about 30 ns. True when the walk must call `pause`, after having made safe
  // whatever other threads must not see or could change.
  bool due(std::size_t work = 1) { return (work_ += work) >= interval; }

  // Lets others have the GIL if a millisecond has passed. False when the walk must stop: with a Python
  // exception set (only with user_code), because the caller died, or on a scheduler because the GIL was lost.
  bool pause();

  // After `pause` was false: the thread is detached, and what the walk holds can only be left to drop_later.
  bool lost() const { return lost_; }

  // Whether the walk may let go of the GIL, which it will want back. Not on a scheduler (see python/gil.hpp).
  bool may_detach() const {
#ifdef Py_GIL_DISABLED
    return true;
#else
    return !options_.caller_env;
#endif
  }

  // Runs `work`, which must touch nothing of Python but memory that the walk alone knows, without the GIL. Only if it may.
  template <typename Work>
  void detached(Work work) {
    collector_.lift();
    {
      Detach detach;
      work();
    }
    collector_.impose();
  }

 private:
  static constexpr std::size_t interval = 1024;

  bool pause_on_scheduler();

  ErlNifEnv* env_;
  PacerOptions options_;
  CollectorPause collector_;
  Handoff handoff_{Handoff::begins_later};
  std::size_t work_ = 0;
  bool lost_ = false;
};

}  // namespace pythonx
