#include "gil.hpp"

namespace pythonx {
namespace {

// A plain pointer: a thread_local with a destructor would run at thread exit, where Python may not be entered.
thread_local PyThreadState* thread_state = nullptr;

}  // namespace

Attach::Attach() {
  if (thread_state == nullptr) thread_state = PyThreadState_New(PyInterpreterState_Main());
  PyEval_RestoreThread(thread_state);
}

Attach::~Attach() { PyEval_SaveThread(); }

void adopt_thread_state(PyThreadState* state) { thread_state = state; }

void discard_thread_state() {
  // A thread whose jobs were all cancelled before they started has never attached.
  if (thread_state == nullptr) return;
  PyEval_RestoreThread(thread_state);
  PyThreadState_Clear(thread_state);
  PyThreadState_DeleteCurrent();
  thread_state = nullptr;
}

bool Handoff::pause_if_due() {
  const auto now = std::chrono::steady_clock::now();
  if (now - last_ < std::chrono::milliseconds(1)) return false;
  {
    Detach detached;
  }
  last_ = std::chrono::steady_clock::now();
  return true;
}

}  // namespace pythonx
