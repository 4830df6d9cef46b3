#include "python/runtime.hpp"

#include <Python.h>
#include <unistd.h>

#include <atomic>

#include "python/package.hpp"

namespace pythonx {
namespace {

std::atomic<const BootConfig*> booted_with{nullptr};
std::atomic<bool> forked{false};

}  // namespace

void set_booted(const BootConfig* config) { booted_with = config; }

bool is_booted() { return booted_with.load(std::memory_order_acquire) != nullptr; }

const BootConfig& boot_config() { return *booted_with; }

void set_forked() { forked = true; }

bool refuse_if_forked(const char* what) {
  if (!forked) return false;
  PyErr_Format(PyExc_RuntimeError,
               "cannot %s in a copy of this process that os.fork() made: neither Elixir nor any other thread "
               "runs in it",
               what);
  return true;
}

void end_if_forked() {
  if (!forked) return;
  PyObject *type = nullptr, *value = nullptr, *traceback = nullptr;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  if (traceback != nullptr) PyException_SetTraceback(value, traceback);
  PyObject* boot_module = package_module("pythonx._boot");
  if (boot_module != nullptr)
    PyObject_CallMethod(boot_module, "end_fork", "O", value == nullptr ? Py_None : value);
  PyErr_Clear();
  _exit(1);  // Only if that failed.
}

}  // namespace pythonx
