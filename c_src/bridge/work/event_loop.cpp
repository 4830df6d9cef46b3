#include "work/event_loop.hpp"

#include <pthread.h>
#include <time.h>

#include "conversion/error.hpp"
#include "python/gil.hpp"
#include "python/runtime.hpp"
#include "threads/pool.hpp"

namespace pythonx {
namespace {

constexpr std::size_t stack_size = 16 << 20;

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
  pthread_t thread;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, stack_size);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  Py_INCREF(serve);
  const int failure = pthread_create(&thread, &attributes, run, serve);
  pthread_attr_destroy(&attributes);
  if (failure == 0) return true;
  Py_DECREF(serve);
  PyErr_SetString(PyExc_RuntimeError, "can't start the thread of the event loop: the system has none left");
  return false;
}

bool is_loop_thread() { return this_thread; }

}  // namespace pythonx
