#include "python/gil.hpp"

#include <dlfcn.h>

#include <atomic>
#include <cstdint>
#include <cstring>

#include "python/pause.hpp"

namespace pythonx {
namespace {

// Threads of the bridge, schedulers not among them, that are in Python or wait for the GIL.
std::atomic<int> in_python{0};

// The thread states that the bridge has made.
std::atomic<int> own_states{0};

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

void attach_thread() {
  const bool first = thread_state == nullptr;
  if (first) {
    thread_state = PyThreadState_New(PyInterpreterState_Main());
    ++own_states;
  }
  PyEval_RestoreThread(thread_state);
  if (first) enter_context(PyContext_New());
}

// Whether threads that the bridge has not made are in Python: those of `threading`, of C libraries. Attached.
bool has_foreign_threads() {
  int count = 0;
  for (PyThreadState* state = PyInterpreterState_ThreadHead(PyInterpreterState_Main()); state != nullptr;
       state = PyThreadState_Next(state))
    ++count;
  return count > own_states;
}

#ifndef Py_GIL_DISABLED

#if PY_VERSION_HEX >= 0x030C0000

// What CPython 3.13 and later say of their structures, for debuggers: 64-bit words, the first a text, in the order of
// _Py_DebugOffsets.
#if PY_VERSION_HEX >= 0x030E0000
constexpr std::size_t locked_word = 18;
#else
constexpr std::size_t locked_word = 17;
#endif

// Whether somebody holds the GIL, in CPython's own memory. nullptr where it has not been found.
const int* gil_locked = nullptr;

// Without that: whether foreign threads were there when the GIL was held last.
std::atomic<bool> foreign_threads{true};

#endif

// Attached: the word must say so, and the one after it that this thread is the last to have taken it.
void find_gil() {
#if PY_VERSION_HEX >= 0x030D0000
  const auto* words = static_cast<const std::uint64_t*>(dlsym(RTLD_DEFAULT, "_PyRuntime"));
  if (words == nullptr || std::memcmp(words, "xdebugpy", 8) != 0 || words[1] >> 16 != PY_VERSION_HEX >> 16)
    return;
  const std::uint64_t size = words[6];
  const std::uint64_t locked = words[locked_word];
  const std::uint64_t holder = words[locked_word + 1];
  if (locked + sizeof(int) > size || holder + sizeof(void*) > size) return;
  const char* interpreter = reinterpret_cast<const char*>(PyInterpreterState_Main());
  PyThreadState* last;
  std::memcpy(&last, interpreter + holder, sizeof(last));
  const int* found = reinterpret_cast<const int*>(interpreter + locked);
  if (last == PyThreadState_Get() && *found == 1) gil_locked = found;
#endif
}

// For when the last to hold the GIL lets go.
void note_foreign_threads() {
#if PY_VERSION_HEX >= 0x030C0000
  if (gil_locked == nullptr) foreign_threads = has_foreign_threads();
#endif
}

bool is_gil_free() {
#if PY_VERSION_HEX < 0x030C0000
  return _PyThreadState_UncheckedGet() == nullptr;  // of whichever thread is attached
#else
  if (gil_locked != nullptr) return __atomic_load_n(gil_locked, __ATOMIC_RELAXED) == 0;
  return in_python == 0 && !foreign_threads;
#endif
}

// Held by the scheduler that is between looking and taking.
std::atomic_flag turn = ATOMIC_FLAG_INIT;

bool take_turn() {
  if (!is_gil_free() || turn.test_and_set(std::memory_order_acquire)) return false;
  if (is_gil_free()) return true;
  turn.clear(std::memory_order_release);
  return false;
}

// About what it costs to hand the work over.
constexpr auto patience = std::chrono::microseconds(50);

bool wait_for_turn() {
  if (take_turn()) return true;
  const auto deadline = std::chrono::steady_clock::now() + patience;
  do {
    for (int i = 0; i < 16; ++i) pause_processor();
    if (take_turn()) return true;
  } while (std::chrono::steady_clock::now() < deadline);
  return false;
}

#else

// Attaching takes no wait but for those that stop all threads for a moment.
void find_gil() {}
void note_foreign_threads() {}

#endif

}  // namespace

Attach::Attach() {
  ++in_python;
  attach_thread();
}

Attach::~Attach() {
  note_foreign_threads();
  PyEval_SaveThread();
  --in_python;
}

TryAttach::TryAttach() {
#ifdef Py_GIL_DISABLED
  attached_ = true;
  attach_thread();
#else
  attached_ = wait_for_turn();
  if (!attached_) return;
  attach_thread();
  turn.clear(std::memory_order_release);
#endif
}

TryAttach::~TryAttach() {
  if (!attached_) return;
  note_foreign_threads();
  PyEval_SaveThread();
}

bool is_alone() { return in_python == 0 && !has_foreign_threads(); }

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
  ++own_states;
  enter_context(PyContext_CopyCurrent());
  find_gil();
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
  --own_states;
  PyThreadState_DeleteCurrent();
  thread_state = nullptr;
}

bool Handoff::is_due() {
  const auto now = std::chrono::steady_clock::now();
  if (now - last_ < std::chrono::milliseconds(1)) return false;
  last_ = now;
  return true;
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
