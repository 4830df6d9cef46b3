#include "python/gil.hpp"

#include <atomic>
#include <cstdint>
#include <ctime>

#include "python/gil_watch.hpp"
#include "python/line.hpp"
#include "python/pause.hpp"

namespace pythonx {
namespace {

// A plain pointer: a thread_local with a destructor would run at thread exit, where Python may not be entered.
thread_local PyThreadState* thread_state = nullptr;
thread_local PyObject* own_context =
    nullptr;  // nullptr: it could not be entered, Python has made a nameless one
thread_local PyObject* current_context = nullptr;  // the same, or another that was entered after it

// Of a scheduler.
thread_local TryAttach* current_attempt = nullptr;

// Takes the reference.
void begin_own_context(PyObject* context) {
  if (context == nullptr || PyContext_Enter(context) < 0) {
    PyErr_Clear();
    Py_CLEAR(context);
  }
  own_context = current_context = context;
}

void make_thread_state() {
  thread_state = PyThreadState_New(PyInterpreterState_Main());
  ++gil_counts.own_states;
}

void attach_thread() {
  if (thread_state == nullptr) make_thread_state();
  PyEval_RestoreThread(thread_state);
  if (current_context == nullptr) begin_own_context(PyContext_New());
}

#ifndef Py_GIL_DISABLED

// Leaked, as every static with a destructor must be.
Line& line() {
  static Line* instance = new Line;
  return *instance;
}

// Schedulers that wait to be let in, and long walks that will do so within about a millisecond.
std::atomic<int> waiting_schedulers{0};
std::atomic<int> sharing_walks{0};

// Held by the scheduler that is between looking and taking.
std::atomic_flag turn = ATOMIC_FLAG_INIT;

bool take_turn() {
  if (!is_gil_free() || turn.test_and_set(std::memory_order_acquire)) return false;
  if (is_gil_free()) return true;
  turn.clear(std::memory_order_release);
  return false;
}

// About what it costs to hand the work over, and how long it may take to be let in.
constexpr auto short_patience = std::chrono::microseconds(50);
constexpr auto long_patience = std::chrono::microseconds(1500);

bool wait_for_turn(std::chrono::microseconds patience) {
  if (take_turn()) return true;
  const auto begun = std::chrono::steady_clock::now();
  ++waiting_schedulers;
  bool taken = false;
  for (auto waited = std::chrono::nanoseconds(0); !taken && waited < patience;
       waited = std::chrono::steady_clock::now() - begun) {
    if (waited < short_patience) {
      for (int i = 0; i < 16; ++i) pause_processor();
    } else {
      const timespec moment{0, 20'000};
      nanosleep(&moment, nullptr);
    }
    taken = take_turn();
  }
  --waiting_schedulers;
  return taken;
}

// Detached: until a scheduler has the GIL, if one wants it.
void let_scheduler_in() {
  if (waiting_schedulers == 0) return;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::microseconds(300);
  while (waiting_schedulers > 0 && is_gil_free() && std::chrono::steady_clock::now() < deadline)
    pause_processor();
}

#else

// Attaching takes no wait but while somebody has all threads stopped, which may be waiting for one in C code to stop. Then what
// would attach is marked (_Py_THREAD_SUSPENDED).
bool is_stopped(const PyThreadState* state) {
  constexpr int suspended = 2;
  return __atomic_load_n(&state->state, __ATOMIC_RELAXED) == suspended;
}

#endif

}  // namespace

Attach::Attach([[maybe_unused]] Order order) {
  count_in();
#ifdef Py_GIL_DISABLED
  attach_thread();
#else
  if (order == in_line) line().enter();
  attach_thread();
  if (order == in_line) line().leave();
#endif
}

Attach::~Attach() {
  note_foreign_threads();
  PyEval_SaveThread();
  count_out();
}

TryAttach::TryAttach() {
#ifdef Py_GIL_DISABLED
  if (thread_state == nullptr) make_thread_state();
  attached_ = !is_stopped(thread_state);
  if (attached_) attach_thread();
#else
  current_attempt = this;
  attached_ = wait_for_turn(sharing_walks > 0 ? long_patience : short_patience);
  if (!attached_) return;
  attach_thread();
  turn.clear(std::memory_order_release);
#endif
}

bool TryAttach::let_others() {
#ifndef Py_GIL_DISABLED
  note_foreign_threads();
  PyEval_SaveThread();
  let_scheduler_in();
  current_attempt->attached_ = wait_for_turn(long_patience);
  if (!current_attempt->attached_) return false;
  attach_thread();
  turn.clear(std::memory_order_release);
#endif
  return true;
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
  return !line().is_empty() || waiting_schedulers > 0 ||
         (__atomic_load_n(&thread_state->eval_breaker, __ATOMIC_RELAXED) & drop_request) != 0;
#else
  return gil_counts.in_python > 0 || waiting_schedulers > 0 || has_foreign_threads();
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
  ++gil_counts.own_states;
  begin_own_context(PyContext_New());
  find_gil();
}

void enter_context(PyObject* context, bool copy) {
  PyObject* entered = copy ? PyContext_Copy(context) : Py_NewRef(context);
  if (entered != nullptr && PyContext_Enter(entered) < 0) {
    PyErr_Clear();
    Py_SETREF(entered, PyContext_Copy(context));
    if (entered != nullptr && PyContext_Enter(entered) < 0) Py_CLEAR(entered);
  }
  PyErr_Clear();
  if (entered != nullptr) current_context = entered;
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
  // Threads that became idle together end together.
  line().enter();
  PyEval_RestoreThread(thread_state);
  line().leave();
  if (own_context != nullptr && PyContext_Exit(own_context) < 0) PyErr_Clear();
  Py_CLEAR(own_context);
  current_context = nullptr;
  PyThreadState_Clear(thread_state);
  --gil_counts.own_states;
  PyThreadState_DeleteCurrent();
  thread_state = nullptr;
}

// Other interpreters have a GIL of their own.
Detach::Detach()
    : state_(PyThreadState_Get()),
      is_main_(PyThreadState_GetInterpreter(state_) == PyInterpreterState_Main()) {
  if (is_main_) note_foreign_threads();
  PyEval_SaveThread();
  if (is_main_) count_out();
}

Detach::~Detach() {
  if (is_main_) count_in();
  PyEval_RestoreThread(state_);
}

bool Handoff::is_due() {
  if (last_ == std::chrono::steady_clock::time_point()) restart();
  return std::chrono::steady_clock::now() - last_ >= std::chrono::milliseconds(1);
}

#ifdef Py_GIL_DISABLED

Handoff::~Handoff() = default;

void Handoff::share() {}

bool Handoff::pause_if_due() {
  if (!is_due()) return false;
  {
    Detach detached;
  }
  restart();
  return true;
}

#else

Handoff::~Handoff() {
  if (shares_) --sharing_walks;
}

void Handoff::share() {
  if (!shares_) ++sharing_walks;
  shares_ = true;
}

bool Handoff::pause_if_due() {
  if (!is_due()) return false;
  share();
  {
    Detach detached;
    let_scheduler_in();
  }
  restart();
  return true;
}

#endif

}  // namespace pythonx
