#include "threads/leavings.hpp"

#include <signal.h>

#include <atomic>
#include <cstddef>
#include <cstring>
#include <utility>

#include "conversion/object.hpp"
#include "vm/system.hpp"

namespace pythonx {
namespace {

thread_local bool sqlite_connected = false;
thread_local bool mask_set = false;

sigset_t boot_mask;

void set_hook_to_none(const char* function, const char* first, const char* second) {
  PyObject* setter = PySys_GetObject(function);  // borrowed
  PyObject* none = PyTuple_New(0);
  PyObject* names = Py_BuildValue("{s:O,s:O}", first, Py_None, second, Py_None);
  if (setter != nullptr && none != nullptr && names != nullptr)
    Py_XDECREF(PyObject_Call(setter, none, names));
  Py_XDECREF(none);
  Py_XDECREF(names);
  PyErr_Clear();
}

// A function of asyncio's C half, nullptr where that is not imported. New reference.
PyObject* loop_function(const char* name) {
  PyObject* module = PyDict_GetItemString(PyImport_GetModuleDict(), "_asyncio");
  PyObject* function = module == nullptr ? nullptr : PyObject_GetAttrString(module, name);
  PyErr_Clear();
  return function;
}

#if PY_VERSION_HEX >= 0x030D0000

// asyncio's function that tells of the running loop, kept from one job to the next; nullptr where asyncio is not imported.
// Borrowed.
PyObject* running_loop_function() {
  static PyObject* const name = PyUnicode_InternFromString("_asyncio");
  static std::atomic<PyObject*> kept{nullptr};
  PyObject* module = PyDict_GetItemWithError(PyImport_GetModuleDict(), name);
  if (module == nullptr) return nullptr;
  PyObject* function = kept;
  if (function != nullptr && PyCFunction_GET_SELF(function) == module) return function;
  function = loop_function("_get_running_loop");
  if (function == nullptr || !PyCFunction_Check(function)) {
    Py_XDECREF(function);
    return nullptr;
  }
  kept =
      function;  // The one before, of a module that was taken away, is kept too: somebody may be calling it.
  return function;
}

bool has_running_loop() {
  PyObject* get = running_loop_function();
  if (get == nullptr) return false;
  PyObject* loop = PyObject_CallNoArgs(get);
  const bool running = loop != nullptr && loop != Py_None;
  if (loop == nullptr) PyErr_Clear();
  Py_XDECREF(loop);
  return running;
}

#else

// It is among what the thread's dict holds.
bool has_running_loop() { return false; }

#endif

int hear(const char* event, PyObject*, void*) {
  if (std::strcmp(event, "sqlite3.connect") == 0) sqlite_connected = true;
  return 0;
}

}  // namespace

void note_thread_as_booted() {
  pthread_sigmask(SIG_SETMASK, nullptr, &boot_mask);
  note_processors();
  note_libraries();
  reset_thread();
}

bool is_left_on_thread() {
  const PyThreadState* state = PyThreadState_Get();
#if PY_VERSION_HEX >= 0x030D0000
  if (state->threading_local_key != nullptr) return true;
#endif
  return (state->dict != nullptr && PyDict_GET_SIZE(state->dict) > 0) || state->c_tracefunc != nullptr ||
         state->c_profilefunc != nullptr || state->async_gen_firstiter != nullptr ||
         state->async_gen_finalizer != nullptr || state->coroutine_origin_tracking_depth > 0 ||
         sqlite_connected || mask_set || has_running_loop();
}

std::uint64_t c_state_of_thread() { return hash_library_locals(); }

// Trace functions first: the rest would be traced.
void reset_thread() {
  PyThreadState* state = PyThreadState_Get();
  if (state->c_tracefunc != nullptr) PyEval_SetTrace(nullptr, nullptr);
  if (state->c_profilefunc != nullptr) PyEval_SetProfile(nullptr, nullptr);
  if (state->async_gen_firstiter != nullptr || state->async_gen_finalizer != nullptr)
    set_hook_to_none("set_asyncgen_hooks", "firstiter", "finalizer");
  state->coroutine_origin_tracking_depth = 0;
  PyObject* set = loop_function("_set_running_loop");
  if (set != nullptr) Py_XDECREF(PyObject_CallOneArg(set, Py_None));
  Py_XDECREF(set);
  PyErr_Clear();
  // What is in there is dropped by a release: finalizers are not to run here.
#if PY_VERSION_HEX >= 0x030D0000
  // With the death of the second the locals forget what they hold for the first.
  Py_CLEAR(state->threading_local_key);
  if (state->threading_local_sentinel != nullptr)
    drop_later(std::exchange(state->threading_local_sentinel, nullptr));
#endif
  if (state->dict != nullptr) drop_later(std::exchange(state->dict, nullptr));
  sqlite_connected = mask_set = false;
}

void note_mask() { mask_set = true; }

void restore_mask_and_processors() {
  pthread_sigmask(SIG_SETMASK, &boot_mask, nullptr);
  restore_processors();
}

bool watch_sqlite() { return PySys_AddAuditHook(hear, nullptr) == 0; }

}  // namespace pythonx
