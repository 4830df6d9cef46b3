#include "work/signal_functions.hpp"

#include <errno.h>
#include <fcntl.h>
#include <frameobject.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/time.h>

#include "threads/leavings.hpp"
#include "threads/pool.hpp"
#include "threads/signals.hpp"
#include "vm/system.hpp"
#include "work/output.hpp"

namespace pythonx {
namespace {

using Kind = SignalHandler::Kind;

PyObject* natives = nullptr;

PyObject* none() {
  Py_INCREF(Py_None);
  return Py_None;
}

// The function whose place another takes (borrowed), or nullptr with an exception set.
PyObject* native(const char* name) {
  PyObject* function = PyDict_GetItemString(natives, name);
  if (function == nullptr) PyErr_Format(PyExc_NotImplementedError, "this system has no signal.%s", name);
  return function;
}

PyObject* call_native(const char* name, PyObject* arguments) {
  PyObject* function = native(name);
  return function == nullptr ? nullptr : PyObject_CallObject(function, arguments);
}

bool in_range(int number) {
  if (number >= 1 && number < NSIG) return true;
  PyErr_SetString(PyExc_ValueError, "signal number out of range");
  return false;
}

// The process that the calling thread works for: that of its job, or of the evaluation that has started it.
bool find_process(ErlNifPid* pid) {
  if (ThreadPool::current_process(pid)) return true;
  const EvaluationPtr evaluation = current_evaluation();
  if (evaluation) *pid = evaluation->caller();
  return evaluation != nullptr;
}

// What a handler of Python's says; false with an exception set.
bool to_handler(PyObject* object, SignalHandler* handler) {
  if (object == Py_None) return true;
  if (PyLong_Check(object)) {
    const long value = PyLong_AsLong(object);
    PyErr_Clear();
    handler->kind = value == 0 ? Kind::standard : value == 1 ? Kind::ignore : Kind::none;
    if (handler->kind != Kind::none) return true;
  } else if (PyCallable_Check(object)) {
    handler->kind = Kind::call;
    handler->function = object;
    return true;
  }
  PyErr_SetString(PyExc_TypeError,
                  "signal handler must be signal.SIG_IGN, signal.SIG_DFL, None or a callable object");
  return false;
}

PyObject* set_handler(PyObject*, PyObject* arguments) {
  int number;
  PyObject* object;
  SignalHandler handler;
  if (!PyArg_ParseTuple(arguments, "iO:signal", &number, &object) || !in_range(number) ||
      !to_handler(object, &handler) || !run_signal_handlers())
    return nullptr;
  if (handler.kind == Kind::call) {
    handler.has_process = find_process(&handler.process);
    handler.context = PyContext_CopyCurrent();
    if (handler.context == nullptr) return nullptr;
  }
  PyObject* old = nullptr;
  errno = set_signal_handler(number, handler, &old);
  Py_XDECREF(handler.context);
  return old == nullptr ? PyErr_SetFromErrno(PyExc_OSError) : old;
}

PyObject* get_handler(PyObject*, PyObject* argument) {
  const long number = PyLong_AsLong(argument);
  if (number == -1 && PyErr_Occurred() != nullptr) return nullptr;
  const int narrow = number < 1 || number >= NSIG ? 0 : static_cast<int>(number);
  return in_range(narrow) ? get_signal_handler(narrow) : nullptr;
}

PyObject* set_wakeup_fd(PyObject*, PyObject* arguments, PyObject* keywords) {
  static const char* names[] = {"", "warn_on_full_buffer", nullptr};
  int fd;
  int warn = 1;  // Accepted: what does not fit into a full pipe is no news to who reads it.
  if (PyArg_ParseTupleAndKeywords(arguments, keywords, "i|$p:set_wakeup_fd", const_cast<char**>(names), &fd,
                                  &warn) == 0)
    return nullptr;
  if (fd != -1) {
    struct stat status;
    if (fstat(fd, &status) != 0) return PyErr_SetFromErrno(PyExc_OSError);
    const int flags = fcntl(fd, F_GETFL);
    if (flags == -1) return PyErr_SetFromErrno(PyExc_OSError);
    if ((flags & O_NONBLOCK) == 0) {
      return PyErr_Format(PyExc_ValueError, "the fd %i must be in non-blocking mode", fd);
    }
  }
  return PyLong_FromLong(exchange_wakeup_fd(fd < 0 ? -1 : fd));
}

void note_sender(int number) {
  ErlNifPid process;
  set_signal_sender(number, find_process(&process) ? &process : nullptr);
}

// What is raised is handled before it returns, on any thread of the bridge.
PyObject* raise_signal(PyObject*, PyObject* arguments) {
  int number;
  if (!PyArg_ParseTuple(arguments, "i:raise_signal", &number)) return nullptr;
  if (number >= 1 && number < NSIG) note_sender(number);
  PyObject* result = call_native("raise_signal", arguments);
  if (result != nullptr && !run_signal_handlers()) Py_CLEAR(result);
  return result;
}

PyObject* interrupt_main(PyObject*, PyObject* arguments) {
  int number = SIGINT;
  if (!PyArg_ParseTuple(arguments, "|i:interrupt_main", &number) || !in_range(number)) return nullptr;
  PyObject* handler = get_signal_handler(number);
  const bool called = PyCallable_Check(handler) != 0 || (number == SIGINT && handler == Py_None);
  Py_DECREF(handler);
  if (called) {
    note_sender(number);
    simulate_signal(number);
  }
  return none();
}

// The interrupt's signal cannot be blocked, as those of the C library cannot.
PyObject* mask_signals(PyObject*, PyObject* arguments) {
  int how;
  PyObject* signals;
  if (!PyArg_ParseTuple(arguments, "iO:pthread_sigmask", &how, &signals)) return nullptr;
  note_mask();
  PyObject* set = PySet_New(signals);
  PyObject* number = set == nullptr ? nullptr : PyLong_FromLong(interrupt_signal());
  PyObject* result = nullptr;
  if (number != nullptr && PySet_Discard(set, number) >= 0) {
    PyObject* others = Py_BuildValue("iO", how, set);
    if (others != nullptr) result = call_native("pthread_sigmask", others);
    Py_XDECREF(others);
  }
  Py_XDECREF(number);
  Py_XDECREF(set);
  return result;
}

PyObject* set_interrupt_flag(PyObject*, PyObject* arguments) {
  int number;
  int flag;
  if (!PyArg_ParseTuple(arguments, "ii:siginterrupt", &number, &flag)) return nullptr;
  return number == interrupt_signal() ? none() : call_native("siginterrupt", arguments);
}

void note_alarm(int number) {
  ErlNifPid process;
  set_alarm_owner(number, find_process(&process) ? &process : nullptr);
}

PyObject* set_alarm(PyObject*, PyObject* arguments) {
  note_alarm(SIGALRM);
  return call_native("alarm", arguments);
}

PyObject* set_timer(PyObject*, PyObject* arguments) {
  PyObject* which = PyTuple_GET_SIZE(arguments) == 0 ? nullptr : PyTuple_GET_ITEM(arguments, 0);
  if (which != nullptr && PyLong_Check(which)) {
    const long timer = PyLong_AsLong(which);
    PyErr_Clear();
    if (timer == ITIMER_REAL) note_alarm(SIGALRM);
    if (timer == ITIMER_VIRTUAL) note_alarm(SIGVTALRM);
    if (timer == ITIMER_PROF) note_alarm(SIGPROF);
  }
  return call_native("setitimer", arguments);
}

template <typename Function>
PyCFunction erase(Function function) noexcept {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}

PyMethodDef signal_methods[] = {
    {"signal", set_handler, METH_VARARGS,
     "Set the handler of a signal, on any thread: a callable, SIG_IGN, SIG_DFL, or None to give it back to "
     "the VM.\n\n"
     "Returns what `getsignal` did before. A handler of a signal that the VM uses is called beside the VM's "
     "own."},
    {"getsignal", get_handler, METH_O,
     "Return the handler of a signal: a callable, SIG_IGN, SIG_DFL, or None for one that Python has not "
     "set."},
    {"set_wakeup_fd", erase(set_wakeup_fd), METH_VARARGS | METH_KEYWORDS,
     "Set the fd to which the numbers of signals are written (-1 for none), and return the one before."},
    {"raise_signal", raise_signal, METH_VARARGS, "Send a signal to the executing process."},
    {"pthread_sigmask", mask_signals, METH_VARARGS,
     "Fetch and/or change the signal mask of the calling thread."},
    {"siginterrupt", set_interrupt_flag, METH_VARARGS, "Change system call restart behaviour."},
    {"alarm", set_alarm, METH_VARARGS, "Arrange for SIGALRM to arrive after the given number of seconds."},
    {"setitimer", set_timer, METH_VARARGS,
     "Set one of the interval timers; it hits the evaluations of the process that has set it."},
    {"interrupt_main", interrupt_main, METH_VARARGS,
     "Simulate the arrival of a signal, SIGINT by default, for the evaluation that this thread belongs to."},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

PyObject* make_signal_functions(PyObject* own) {
  Py_INCREF(own);
  Py_XSETREF(natives, own);
  PyObject* functions = PyDict_New();
  PyObject* module = PyUnicode_FromString("_signal");
  bool ok = functions != nullptr && module != nullptr;
  for (PyMethodDef* method = signal_methods; ok && method->ml_name != nullptr; ++method) {
    PyObject* function = PyCFunction_NewEx(method, nullptr, module);
    ok = function != nullptr && PyDict_SetItemString(functions, method->ml_name, function) == 0;
    Py_XDECREF(function);
  }
  Py_XDECREF(module);
  if (!ok) Py_CLEAR(functions);
  return functions;
}

PyObject* on_interrupt(PyObject* frame) {
  auto* innermost = PyFrame_Check(frame) ? reinterpret_cast<PyFrameObject*>(frame) : nullptr;
  if (ThreadPool::instance().may_interrupt(innermost) || take_exit_interrupt()) {
    PyErr_SetNone(PyExc_KeyboardInterrupt);
    return nullptr;
  }
  return run_signal_handlers() ? none() : nullptr;
}

}  // namespace pythonx
