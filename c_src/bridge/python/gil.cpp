#include "python/gil.hpp"

namespace pythonx {
namespace {

// A plain pointer: a thread_local with a destructor would run at thread exit, where Python may not be entered.
thread_local PyThreadState* thread_state = nullptr;
thread_local PyObject* own_context =
    nullptr;  // nullptr: it could not be entered, Python has made a nameless one
thread_local PyObject* current_context = nullptr;  // the same, or another that was entered after it

// Takes the reference.
void begin_own_context(PyObject* context) {
  if (context == nullptr || PyContext_Enter(context) < 0) {
    PyErr_Clear();
    Py_CLEAR(context);
  }
  own_context = current_context = context;
}

}  // namespace

Attach::Attach() {
  const bool first = thread_state == nullptr;
  if (first) thread_state = PyThreadState_New(PyInterpreterState_Main());
  PyEval_RestoreThread(thread_state);
  if (first) begin_own_context(PyContext_New());
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
  begin_own_context(PyContext_New());
}

void enter_context(PyObject* context) {
  if (context == nullptr) return;
  if (PyContext_Enter(context) == 0) {
    current_context = context;
  } else {
    PyErr_Clear();
    Py_DECREF(context);
  }
}

bool leave_context(PyObject** left) {
  PyObject* context = current_context;
  const bool own = context == own_context;
  *left = nullptr;
  if (own && context != nullptr && PyObject_Size(context) == 0) return true;
  if (context == nullptr) {
    current_context = own_context;
    return false;
  }
  if (PyContext_Exit(context) < 0) {
    PyErr_Clear();
    // It stays entered, and a context can be entered once only.
    if (PyObject_Size(context) > 0) *left = PyContext_Copy(context);
    PyErr_Clear();
    begin_own_context(PyContext_New());  // on top of what there is
    return false;
  }
  current_context = own_context;
  if (own) begin_own_context(PyContext_New());
  if (PyObject_Size(context) > 0) {
    *left = context;
  } else {
    Py_DECREF(context);
  }
  return true;
}

ContextLoan::ContextLoan() : context_(current_context) {
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
    const bool own = context_ == own_context;
    PyObject* copy = PyContext_Copy(context_);
    if (copy == nullptr || PyContext_Enter(copy) < 0) {
      PyErr_Clear();
      Py_CLEAR(copy);
    }
    current_context = copy;
    if (own) own_context = copy;
    Py_DECREF(context_);
  }
  PyErr_Restore(type, value, traceback);
}

void discard_thread_state() {
  // A thread whose jobs were all cancelled before they started has never attached.
  if (thread_state == nullptr) return;
  PyEval_RestoreThread(thread_state);
  if (own_context != nullptr && PyContext_Exit(own_context) < 0) PyErr_Clear();
  Py_CLEAR(own_context);
  current_context = nullptr;
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
