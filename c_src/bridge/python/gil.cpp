#include "python/gil.hpp"

namespace pythonx {
namespace {

// A plain pointer: a thread_local with a destructor would run at thread exit, where Python may not be entered.
thread_local PyThreadState* thread_state = nullptr;
thread_local PyObject* thread_context = nullptr;

// Enters a context for the thread's life (takes the reference). Without one the thread has Python's nameless one.
void enter_context(PyObject* context) {
  if (context == nullptr || PyContext_Enter(context) < 0) {
    PyErr_Clear();
    Py_CLEAR(context);
  }
  thread_context = context;
}

}  // namespace

Attach::Attach() {
  const bool first = thread_state == nullptr;
  if (first) thread_state = PyThreadState_New(PyInterpreterState_Main());
  PyEval_RestoreThread(thread_state);
  if (first) enter_context(PyContext_New());
}

Attach::~Attach() { PyEval_SaveThread(); }

bool is_attached() {
#if PY_VERSION_HEX >= 0x030D0000
  PyThreadState* state = PyThreadState_GetUnchecked();
#elif PY_VERSION_HEX >= 0x030C0000
  PyThreadState* state = _PyThreadState_UncheckedGet();
#else
  // The other one tells whether any thread is attached, and there is one interpreter only.
  PyThreadState* state = PyGILState_Check() ? PyThreadState_Get() : nullptr;
#endif
  return state != nullptr && PyThreadState_GetInterpreter(state) == PyInterpreterState_Main();
}

void adopt_thread_state(PyThreadState* state) {
  thread_state = state;
  enter_context(PyContext_CopyCurrent());
}

ContextLoan::ContextLoan() : context_(thread_context) {
#if PY_VERSION_HEX >= 0x030B0000
  lent_ = context_ != nullptr && PyContext_Exit(context_) == 0;
  if (!lent_) PyErr_Clear();
#endif
}

ContextLoan::~ContextLoan() {
  if (!lent_) return;
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  if (type != nullptr || PyContext_Enter(context_) < 0) {
    PyErr_Clear();
    enter_context(PyContext_Copy(context_));
    Py_DECREF(context_);
  }
  PyErr_Restore(type, value, traceback);
}

void discard_thread_state() {
  // A thread whose jobs were all cancelled before they started has never attached.
  if (thread_state == nullptr) return;
  PyEval_RestoreThread(thread_state);
  if (thread_context != nullptr && PyContext_Exit(thread_context) < 0) PyErr_Clear();
  Py_CLEAR(thread_context);
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
