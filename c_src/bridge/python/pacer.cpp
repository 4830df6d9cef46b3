#include "python/pacer.hpp"

#include <atomic>

namespace pythonx {
namespace {

PyObject* make_empty_function() {
  PyObject* globals = PyDict_New();
  PyObject* code = Py_CompileString("lambda: None", "<pythonx>", Py_eval_input);
  PyObject* function = nullptr;
  if (globals != nullptr && code != nullptr) function = PyEval_EvalCode(code, globals, globals);
  Py_XDECREF(code);
  Py_XDECREF(globals);
  return function;
}

// Interrupts arrive between bytecodes only, and a walk runs none: a call of an empty function is where they
// can.
bool take_interrupts() {
  // The function is kept by the main interpreter alone, to which it belongs. To make one takes some microseconds. Without a
  // GIL two threads may make one each, of which the first is kept.
  static std::atomic<PyObject*> kept{nullptr};
  const bool is_main = PyInterpreterState_Get() == PyInterpreterState_Main();
  PyObject* function = is_main ? kept.load() : nullptr;
  function = function != nullptr ? Py_NewRef(function) : make_empty_function();
  if (function == nullptr) return false;
  PyObject* none_yet = nullptr;
  if (is_main && kept.compare_exchange_strong(none_yet, function)) Py_INCREF(function);
  PyObject* result = PyObject_CallNoArgs(function);
  Py_DECREF(function);
  Py_XDECREF(result);
  return result != nullptr;
}

}  // namespace

bool Pacer::pause_on_scheduler() {
  if (!handoff_.is_due()) return true;
  if (!enif_is_current_process_alive(env_)) return false;
  handoff_.share();
  if (is_gil_wanted()) {
    collector_.lift();
    lost_ = !TryAttach::let_others();
    if (lost_) return false;
    collector_.impose();
  }
  handoff_.restart();
  return true;
}

bool Pacer::pause() {
  work_ = 0;
#ifndef Py_GIL_DISABLED
  if (options_.caller_env) return pause_on_scheduler();
#endif
  collector_.lift();
  const bool let_go = handoff_.tick(interval);
  collector_.impose();
  if (!let_go) return true;
  if (options_.user_code) return take_interrupts();
  return !options_.caller_env || enif_is_current_process_alive(env_);
}

}  // namespace pythonx
