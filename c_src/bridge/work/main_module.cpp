#include "work/main_module.hpp"

#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <mutex>
#include <utility>

#include "conversion/object.hpp"
#include "python/critical_section.hpp"
#include "python/pacer.hpp"
#include "python/package.hpp"
#include "python/portions.hpp"

namespace py = pybind11;

namespace pythonx {
namespace {

constexpr int hidden_count = 6;

PyObject* main_type = nullptr;    // pythonx._main.MainModule
PyObject* main_name = nullptr;    // "__main__"
PyObject* module_key = nullptr;   // "__module__"
PyObject* source_key = nullptr;   // the slot of MainModule for the source
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

// Takes over the reference, which may be nullptr.
MainModule enter(PyObject* module) {
  MainModule main;
  main.module = module;
  if (!main) return main;
  main.reference = PyWeakref_NewRef(main.module, nullptr);
  if (main.reference == nullptr || PyDict_SetItem(PyImport_GetModuleDict(), main_name, main.module) < 0) {
    Py_CLEAR(main.module);
    Py_CLEAR(main.reference);
  }
  return main;
}

MainModule make() {
  PyObject* module = PyObject_CallOneArg(main_type, main_name);
  if (module != nullptr && !set_initial_names(PyModule_GetDict(module))) Py_CLEAR(module);
  return enter(module);
}

void drop(MainModule main) {
  Py_XDECREF(main.reference);
  Py_XDECREF(main.module);
}

#ifndef Py_GIL_DISABLED
bool is_alone(const MainModule& main) {
  return Py_REFCNT(main.module) == 2 && Py_REFCNT(main.names()) == 1 && is_current(main.module) &&
         is_main_module(main.module);
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

bool is_main_name(PyObject* object) {
  return object == main_name ||
         (object != nullptr && PyUnicode_Check(object) && PyUnicode_Compare(object, main_name) == 0);
}

PyTypeObject* as_class(PyObject* object) {
  if (!PyType_Check(object)) return nullptr;
  auto* type = reinterpret_cast<PyTypeObject*>(object);
  return PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE) && type->tp_dict != nullptr ? type : nullptr;
}

PyObject*& home_slot(PyTypeObject* type) { return reinterpret_cast<PyHeapTypeObject*>(type)->ht_module; }

// Whether the function was defined in the body of the class, rather than put there.
bool is_method_of(PyTypeObject* type, PyObject* object) {
  if (!PyFunction_Check(object)) return false;
  PyObject* class_name = reinterpret_cast<PyHeapTypeObject*>(type)->ht_qualname;
  PyObject* name = reinterpret_cast<PyFunctionObject*>(object)->func_qualname;
  return PyUnicode_Tailmatch(name, class_name, 0, PyUnicode_GET_LENGTH(name), -1) == 1;
}

// Whether the class was made by a function of another evaluation: then it is at home there.
bool has_other_home(PyTypeObject* type, PyObject* names) {
  PyObject *key, *value;
  Py_ssize_t position = 0;
  while (PyDict_Next(type->tp_dict, &position, &key, &value)) {
    if (!is_method_of(type, value)) continue;
    PyObject* globals = PyFunction_GET_GLOBALS(value);
    if (globals != names && is_main_name(PyDict_GetItemWithError(globals, hidden[0]))) return true;
  }
  return false;
}

// Whether the class is one that an evaluation has made, which nobody has given a home.
bool is_homeless(PyTypeObject* type, PyObject* names) {
  return home_slot(type) == nullptr && is_main_name(PyDict_GetItemWithError(type->tp_dict, module_key)) &&
         !has_other_home(type, names);
}

bool begins_with(const char* text, const char* beginning) {
  return std::strncmp(text, beginning, std::strlen(beginning)) == 0;
}

// Whether it is an object that stands for a type, as `int | None` and `Optional[int]` do.
bool is_of_typing(PyTypeObject* type) {
  if (!PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE))
    return begins_with(type->tp_name, "types.GenericAlias") || begins_with(type->tp_name, "types.Union") ||
           begins_with(type->tp_name, "typing.");
  PyObject* module = PyDict_GetItemWithError(type->tp_dict, module_key);
  return module != nullptr && PyUnicode_Check(module) &&
         (PyUnicode_CompareWithASCIIString(module, "typing") == 0 ||
          PyUnicode_CompareWithASCIIString(module, "typing_extensions") == 0);
}

// What annotations may name. Not functions, which hold the whole namespace, and no data but small constants.
bool may_be_named(PyObject* value) {
  constexpr Py_ssize_t longest = 1000;
  if (PyUnicode_CheckExact(value)) return PyUnicode_GET_LENGTH(value) <= longest;
  return PyType_Check(value) || PyModule_Check(value) || value == Py_None || PyLong_CheckExact(value) ||
         PyBool_Check(value) || is_of_typing(Py_TYPE(value));
}

PyObject* make_home(PyObject* names, PyObject* source) {
  PyObject* home = PyObject_CallOneArg(main_type, main_name);
  PyObject* dict = home == nullptr ? nullptr : PyModule_GetDict(home);
  PyObject *name, *value;
  Py_ssize_t position = 0;
  while (dict != nullptr && PyDict_Next(names, &position, &name, &value))
    if (PyUnicode_CheckExact(name) && may_be_named(value) && PyDict_SetItem(dict, name, value) < 0) break;
  // Not by the module's own __setattr__, which sets what belongs to whoever asks.
  if (dict != nullptr && source != nullptr) PyObject_GenericSetAttr(home, source_key, source);
  PyErr_Clear();
  return home;
}

void settle(PyTypeObject* type, PyObject* names, PyObject* home, int depth) {
  constexpr int deepest = 20;
  if (depth > deepest || !is_homeless(type, names)) return;
  home_slot(type) = Py_NewRef(home);
  PyObject *key, *value;
  Py_ssize_t position = 0;
  while (PyDict_Next(type->tp_dict, &position, &key, &value))
    if (PyTypeObject* inner = as_class(value)) settle(inner, names, home, depth + 1);
}

void settle_all(PyObject* names, PyObject* source) {
  PyObject* home = nullptr;
  PyObject *name, *value;
  Py_ssize_t position = 0;
  while (PyDict_Next(names, &position, &name, &value)) {
    PyTypeObject* type = as_class(value);
    if (type == nullptr || !is_homeless(type, names)) continue;
    if (home == nullptr && (home = make_home(names, source)) == nullptr) break;
    settle(type, names, home, 0);
  }
  Py_XDECREF(home);
}

}  // namespace

bool init_main_module() {
  try {
    module_key = PyUnicode_InternFromString("__module__");
    source_key = PyUnicode_InternFromString("__evaluation_source__");
    main_name = PyUnicode_InternFromString("__main__");
    const auto module = py::reinterpret_steal<py::object>(package_module("pythonx._main"));
    if (!module) return false;
    main_type = py::object(module.attr("MainModule")).release().ptr();
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

#ifdef Py_GIL_DISABLED

// Another thread may be changing it.
bool is_fresh(PyObject*) { return false; }

#else

bool is_fresh(PyObject* names) {
  if (PyDict_GET_SIZE(names) != hidden_count) return false;
  PyObject *name, *value;
  Py_ssize_t position = 0;
  for (int i = 0; PyDict_Next(names, &position, &name, &value); ++i)
    if (name != hidden[i] || value != initial[i]) return false;
  return true;
}

#endif

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

MainModule enter_main_module(PyObject* module) { return enter(Py_NewRef(module)); }

bool is_main_module(PyObject* object) { return reinterpret_cast<PyObject*>(Py_TYPE(object)) == main_type; }

// No code of the user's runs here, so nobody else settles a class meanwhile: under the GIL, or, without one, a lock.
void settle_classes(PyObject* names, PyObject* source) {
  const CollectorPause no_user_code(false);
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
#ifdef Py_GIL_DISABLED
  static std::mutex* mutex = new std::mutex;
  Py_BEGIN_CRITICAL_SECTION(names);
  {
    std::lock_guard<std::mutex> lock(*mutex);
#endif
    settle_all(names, source);
#ifdef Py_GIL_DISABLED
  }
  Py_END_CRITICAL_SECTION();
#endif
  PyErr_Clear();
  PyErr_Restore(type, value, traceback);
}

PyObject* home_of(PyObject* object) {
  PyTypeObject* type = as_class(object);
  PyObject* module = type == nullptr ? nullptr : home_slot(type);
  return module != nullptr && is_main_module(module) ? module : nullptr;
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
