#include "work/event_loop.hpp"

#include <time.h>

#include "conversion/error.hpp"
#include "python/gil.hpp"
#include "python/runtime.hpp"
#include "threads/pool.hpp"
#include "vm/system.hpp"

namespace pythonx {
namespace {

thread_local bool this_thread = false;

// What is raised each time at once, because nothing works any more, must not keep the others from the GIL.
void rest() {
  const Detach detached;
  const timespec moment{0, 1000000};
  nanosleep(&moment, nullptr);
}

[[noreturn]] void* run(void* function) {
  name_thread("python_asyncio");
  this_thread = true;
  Attach attached;
  auto* serve = static_cast<PyObject*>(function);
  PyObject* ended_by = Py_NewRef(Py_None);
  for (;;) {
    PyObject* none = PyObject_CallFunctionObjArgs(serve, ended_by, nullptr);
    Py_DECREF(ended_by);
    end_if_forked();
    ended_by = none == nullptr ? take_exception() : none;
    if (none == nullptr) rest();
  }
}

}  // namespace

bool start_loop_thread(PyObject* serve) {
  Py_INCREF(serve);
  if (start_detached(run, serve)) return true;
  Py_DECREF(serve);
  PyErr_SetString(PyExc_RuntimeError, "can't start the thread of the event loop: the system has none left");
  return false;
}

bool is_loop_thread() { return this_thread; }

}  // namespace pythonx
