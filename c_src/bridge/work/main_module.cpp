#include "work/main_module.hpp"

#include <pybind11/pybind11.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "conversion/object.hpp"
#include "python/portions.hpp"

namespace py = pybind11;

namespace pythonx {
namespace {

constexpr int hidden_count = 6;

PyObject* main_type = nullptr;    // pythonx._main.MainModule
PyObject* main_name = nullptr;    // "__main__"
PyObject* hidden_set = nullptr;   // the names below
PyObject* hidden[hidden_count];   // the names that a fresh module holds, interned
PyObject* initial[hidden_count];  // and their values

#ifndef Py_GIL_DISABLED
// At most one module is put aside. Belongs to the GIL.
MainModule spare;
#endif

bool set_initial_names(PyObject* names) {
  for (int i = 0; i < hidden_count; ++i)
    if (PyDict_SetItem(names, hidden[i], initial[i]) < 0) return false;
  return true;
}

bool is_current(PyObject* module) {
  return PyDict_GetItemWithError(PyImport_GetModuleDict(), main_name) == module;
}

MainModule make() {
  MainModule main;
  main.module = PyObject_CallOneArg(main_type, main_name);
  if (!main) return main;
  main.reference = PyWeakref_NewRef(main.module, nullptr);
  if (main.reference == nullptr || !set_initial_names(main.names()) ||
      PyDict_SetItem(PyImport_GetModuleDict(), main_name, main.module) < 0) {
    Py_CLEAR(main.module);
    Py_CLEAR(main.reference);
  }
  return main;
}

void drop(MainModule main) {
  Py_XDECREF(main.reference);
  Py_XDECREF(main.module);
}

#ifndef Py_GIL_DISABLED
bool is_alone(const MainModule& main) {
  return Py_REFCNT(main.module) == 2 && Py_REFCNT(main.names()) == 1 && is_current(main.module) &&
         reinterpret_cast<PyObject*>(Py_TYPE(main.module)) == main_type;
}

// Whether the dict holds just what a fresh one does.
bool is_fresh(PyObject* names) {
  if (PyDict_GET_SIZE(names) != hidden_count) return false;
  PyObject *name, *value;
  Py_ssize_t position = 0;
  for (int i = 0; PyDict_Next(names, &position, &name, &value); ++i)
    if (name != hidden[i] || value != initial[i]) return false;
  return true;
}

// What the names of the last evaluation held may run its finalizers when it goes, which the one that begins does not wait for.
void leave_finalizers(PyObject* names) {
  PyObject *name, *value;
  Py_ssize_t position = 0;
  while (PyDict_Next(names, &position, &name, &value))
    if (!is_harmless_to_drop(value)) drop_later(Py_NewRef(value));
}

// Emptying the dict may run code that holds on to the module or defines a name anew: hence the second look.
bool renew(const MainModule& main) {
  if (!is_alone(main)) return false;
  if (is_fresh(main.names())) return true;
  leave_finalizers(main.names());
  PyDict_Clear(main.names());
  if (!set_initial_names(main.names())) PyErr_Clear();
  return is_alone(main) && is_fresh(main.names());
}
#endif

}  // namespace

bool init_main_module() {
  try {
    main_name = PyUnicode_InternFromString("__main__");
    main_type = py::object(py::module_::import("pythonx._main").attr("MainModule")).release().ptr();
    const py::object builtins = py::module_::import("builtins").attr("__dict__");
    const std::pair<const char*, PyObject*> entries[] = {
        {"__name__", main_name}, {"__doc__", Py_None},  {"__package__", Py_None},
        {"__loader__", Py_None}, {"__spec__", Py_None}, {"__builtins__", builtins.ptr()}};
    py::set names;
    int i = 0;
    for (const auto& [name, value] : entries) {
      hidden[i] = PyUnicode_InternFromString(name);
      initial[i++] = Py_NewRef(value);
      names.add(py::str(name));
    }
    hidden_set = names.release().ptr();
    return true;
  } catch (py::error_already_set& error) {
    error.restore();
    return false;
  }
}

MainModule take_main_module() {
#ifndef Py_GIL_DISABLED
  const MainModule taken = std::exchange(spare, MainModule());
  if (taken) {
    if (renew(taken)) return taken;
    Py_XDECREF(taken.reference);
    drop_later(taken.module);
  }
#endif
  return make();
}

void give_back_main_module(MainModule main) {
#ifndef Py_GIL_DISABLED
  if (main && !spare && PyErr_Occurred() == nullptr && is_alone(main)) {
    spare = main;
    return;
  }
#endif
  drop(main);
}

// A subclass of str may have a __hash__ of its own, which the set would call.
bool is_hidden_name(PyObject* name) {
  for (PyObject* other : hidden)
    if (name == other) return true;
  if (PyUnicode_CheckExact(name)) return PySet_Contains(hidden_set, name) == 1;
  return std::any_of(std::begin(hidden), std::end(hidden),
                     [name](PyObject* other) { return PyUnicode_Compare(name, other) == 0; });
}

}  // namespace pythonx
