#include "boot/farewell.hpp"

#include <Python.h>
#include <pthread.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "python/gil.hpp"
#include "python/package.hpp"
#include "threads/pool.hpp"
#include "threads/signals.hpp"
#include "vm/system.hpp"

namespace pythonx {
namespace {

using Clock = std::chrono::steady_clock;

// How long the main thread has to begin, how long a step has to end when it is interrupted, and how often it is.
constexpr auto begin_time = std::chrono::milliseconds(1000);
constexpr auto grace = std::chrono::milliseconds(150);

constexpr auto never = Clock::time_point::max();

struct Farewell {
  std::mutex mutex;
  std::condition_variable changed;
  Clock::time_point deadline;
  int runner = 0;                 // counts those that there were; the main thread is the first
  bool has_begun = false;         // this runner has
  bool on_main = true;            // this runner is the main thread
  pthread_t main_thread{};        // once it has begun
  Clock::time_point due = never;  // when its step is to have ended
  bool done = false;
};

Farewell& farewell() {
  static auto* instance = new Farewell;
  return *instance;
}

double seconds_left() {
  return std::max(0.0, std::chrono::duration<double>(farewell().deadline - Clock::now()).count());
}

bool begin(int runner) {
  Farewell& state = farewell();
  std::lock_guard<std::mutex> lock(state.mutex);
  if (state.runner != runner) return false;
  state.has_begun = true;
  if (state.on_main) state.main_thread = pthread_self();
  state.changed.notify_all();
  return true;
}

bool begin_step(int runner, double seconds) {
  Farewell& state = farewell();
  std::lock_guard<std::mutex> lock(state.mutex);
  if (state.runner != runner) return false;
  state.due =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  state.changed.notify_all();
  return true;
}

// No interrupt for the step comes after this. False where another thread goes on.
bool end_step(int runner) {
  Farewell& state = farewell();
  std::lock_guard<std::mutex> lock(state.mutex);
  if (state.runner != runner) return false;
  interrupt_exit(false);
  state.due = never;
  return true;
}

// {function, arguments, keywords, seconds}. False when another thread goes on.
bool take_step(int runner, PyObject* step) {
  PyObject* function = PyTuple_GET_ITEM(step, 0);
  if (!begin_step(runner, PyFloat_AsDouble(PyTuple_GET_ITEM(step, 3)))) return false;
  PyObject* result = PyObject_Call(function, PyTuple_GET_ITEM(step, 1), PyTuple_GET_ITEM(step, 2));
  const bool goes_on = end_step(runner);
  if (result == nullptr) PyErr_WriteUnraisable(function);
  Py_XDECREF(result);
  return goes_on;
}

// Attached.
void run(int runner) {
  if (!begin(runner)) return;
  for (const int number : due_when_closed()) {
    if (!begin_step(runner, seconds_left() / 4)) return;
    run_signal_handler_alone(number);
    if (!end_step(runner)) return;
  }
  PyObject* module = package_module("pythonx._exit");
  for (bool goes_on = module != nullptr; goes_on;) {
    PyObject* step = PyObject_CallMethod(module, "next_step", "d", seconds_left());
    if (step == nullptr || step == Py_None) {
      Py_XDECREF(step);
      break;
    }
    goes_on = take_step(runner, step);
    Py_DECREF(step);
    if (!goes_on) {
      Py_DECREF(module);
      return;
    }
  }
  if (PyErr_Occurred() != nullptr) PyErr_WriteUnraisable(module);
  Py_XDECREF(module);
  Farewell& state = farewell();
  std::lock_guard<std::mutex> lock(state.mutex);
  if (state.runner != runner) return;
  state.done = true;
  state.changed.notify_all();
}

void run_on_main() { run(0); }

void* run_beside(void* runner) {
  name_thread("python_farewell");
  const Attach attached;
  run(static_cast<int>(reinterpret_cast<std::intptr_t>(runner)));
  return nullptr;
}

// With the mutex held.
void replace_runner(Farewell* state) {
  state->on_main = false;
  state->has_begun = false;
  state->due = never;
  ++state->runner;
  start_detached(run_beside, reinterpret_cast<void*>(static_cast<std::intptr_t>(state->runner)));
}

}  // namespace

void say_farewell(Clock::time_point deadline) {
  Farewell& state = farewell();
  std::unique_lock<std::mutex> lock(state.mutex);
  state.deadline = deadline;
  lock.unlock();
  if (!ThreadPool::instance().run_last(run_on_main)) return;
  lock.lock();
  const auto begin_until = Clock::now() + begin_time;
  auto next_interrupt = never;
  while (!state.done) {
    const auto now = Clock::now();
    if (now >= deadline) return;
    const bool late_begin = state.on_main && !state.has_begun && now >= begin_until;
    if (late_begin || (state.due != never && now >= state.due + grace)) {
      replace_runner(&state);
    } else if (state.on_main && now >= state.due) {
      interrupt_exit(true);
      send_interrupt(state.main_thread);
      next_interrupt = now + interrupt_interval;
    }
    auto wake = deadline;
    if (state.on_main && !state.has_begun) wake = std::min(wake, begin_until);
    if (state.due != never) wake = std::min(wake, now < state.due ? state.due : state.due + grace);
    if (state.on_main && state.due != never && now >= state.due) wake = std::min(wake, next_interrupt);
    state.changed.wait_until(lock, wake);
  }
}

}  // namespace pythonx
