#include "python/gil.hpp"

#include <dlfcn.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <initializer_list>

#include "python/pause.hpp"

namespace pythonx {
namespace {

// Threads of the bridge, schedulers not among them, that are in Python or wait for the GIL, and those that wait to begin.
std::atomic<int> in_python{0};
std::atomic<int> beginning{0};

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

void make_thread_state() {
  thread_state = PyThreadState_New(PyInterpreterState_Main());
  ++own_states;
}

void attach_thread() {
  if (thread_state == nullptr) make_thread_state();
  PyEval_RestoreThread(thread_state);
  if (thread_context == nullptr) enter_context(PyContext_New());
}

// Whether threads that the bridge has not made are in Python: those of `threading`, of C libraries. Attached.
//
// New ones come first in CPython's list, with a number that no other ever had: if there was none before, and the first is the
// same, there is none now, and nothing to count.
bool has_foreign_threads() {
  static std::atomic<std::uint64_t> first_without{0};
  PyThreadState* first = PyInterpreterState_ThreadHead(PyInterpreterState_Main());
  const std::uint64_t id = PyThreadState_GetID(first);
  if (id == first_without) return false;
  int count = 0;
  for (PyThreadState* state = first; state != nullptr; state = PyThreadState_Next(state)) ++count;
  if (count > own_states) return true;
  first_without = id;
  return false;
}

#ifndef Py_GIL_DISABLED

#if PY_VERSION_HEX >= 0x030C0000

// Whether somebody holds the GIL, in CPython's own memory. nullptr where it has not been found.
const int* gil_locked = nullptr;

// Without that: whether foreign threads were there when the GIL was held last.
std::atomic<bool> foreign_threads{true};

#endif

#if PY_VERSION_HEX >= 0x030D0000 && PY_VERSION_HEX < 0x03100000

// What CPython says of its structures for debuggers, in 64-bit words (_Py_DebugOffsets): a mark, its version, ..., the size of
// PyInterpreterState and where in it things are. 3.14 has one more of these than 3.13 had. A version that is not known yet does
// without, as 3.12 does, which says nothing.
enum Word : std::size_t {
  mark,
  version,
  size = 6,
  pointer_to_gil = PY_VERSION_HEX >= 0x030E0000 ? 15 : 14,
  gil,
  gil_enabled,
  locked,
  holder
};

// Attached, the only thread. What does not look as it should is not believed.
const int* find_locked() {
  const auto* words = static_cast<const std::uint64_t*>(dlsym(RTLD_DEFAULT, "_PyRuntime"));
  if (words == nullptr || std::memcmp(words, "xdebugpy", 8) != 0 ||
      words[Word::version] >> 16 != PY_VERSION_HEX >> 16)
    return nullptr;
  for (const std::size_t word : {Word::pointer_to_gil, Word::gil, Word::locked, Word::holder}) {
    if (words[word] % sizeof(int) != 0 || words[word] + sizeof(void*) > words[Word::size]) return nullptr;
  }
  const char* interpreter = reinterpret_cast<const char*>(PyInterpreterState_Main());
  const auto pointer_at = [=](Word word) {
    const void* pointer;
    std::memcpy(&pointer, interpreter + words[word], sizeof(pointer));
    return pointer;
  };
  const int* found = reinterpret_cast<const int*>(interpreter + words[Word::locked]);
  if (pointer_at(Word::pointer_to_gil) != interpreter + words[Word::gil] ||
      pointer_at(Word::holder) != PyThreadState_Get() || *found != 1)
    return nullptr;
  PyThreadState* state = PyEval_SaveThread();
  const bool is_it = __atomic_load_n(found, __ATOMIC_RELAXED) == 0;
  PyEval_RestoreThread(state);
  return is_it ? found : nullptr;
}

void find_gil() { gil_locked = find_locked(); }

#else

void find_gil() {}

#endif

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

void find_gil() {}
void note_foreign_threads() {}

// Attaching takes no wait but while somebody has all threads stopped, which may be waiting for one in C code to stop. Then what
// would attach is marked (_Py_THREAD_SUSPENDED).
bool is_stopped(const PyThreadState* state) {
  constexpr int suspended = 2;
  return __atomic_load_n(&state->state, __ATOMIC_RELAXED) == suspended;
}

#endif

}  // namespace

Attach::Attach() {
  ++in_python;
  ++beginning;
  attach_thread();
  --beginning;
}

Attach::~Attach() {
  note_foreign_threads();
  PyEval_SaveThread();
  --in_python;
}

TryAttach::TryAttach() {
#ifdef Py_GIL_DISABLED
  if (thread_state == nullptr) make_thread_state();
  attached_ = !is_stopped(thread_state);
  if (attached_) attach_thread();
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

bool is_gil_wanted() {
#ifdef Py_GIL_DISABLED
  return false;
#elif PY_VERSION_HEX >= 0x030D0000 && PY_VERSION_HEX < 0x03100000
  // Set once somebody has waited for longer than the switch interval, 5 ms.
  constexpr std::uintptr_t drop_request = 1;
  return beginning > 0 ||
         (__atomic_load_n(&thread_state->eval_breaker, __ATOMIC_RELAXED) & drop_request) != 0;
#else
  return in_python > 0 || has_foreign_threads();
#endif
}

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
