#include "work/leftovers.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <iterator>

#include "python/dict_watch.hpp"
#include "python/package.hpp"

namespace pythonx {
namespace {

constexpr int list_count = 3;
constexpr const char* list_texts[list_count] = {"meta_path", "path_hooks", "path"};

// Set once, never given up.
PyObject* sys_names = nullptr;
PyObject* builtins_dict = nullptr;
PyObject* modules_name = nullptr;
PyObject* list_names[list_count];
PyObject* undo = nullptr;
PyObject* import_name = nullptr;
PyObject* import = nullptr;

Py_ssize_t builtins_size = 0;
int recursion_limit = 0;
unsigned long switch_interval = 0;

// What the dicts have held since they were changed last. The lists are borrowed, and emptied without a change of the dict.
DictWatch import_watch;
PyObject* import_lists[list_count];
bool has_modules = false;
DictWatch builtins_watch;
bool has_own_import = false;
bool has_builtins = false;

// Not in the headers of all versions.
using Interval = unsigned long (*)();
const auto get_interval = reinterpret_cast<Interval>(dlsym(RTLD_DEFAULT, "_PyEval_GetSwitchInterval"));

unsigned long interval() { return get_interval == nullptr ? switch_interval : get_interval(); }

void look_at_sys() {
  if (!import_watch.is_changed()) return;
  import_watch.note_look();
  for (int i = 0; i < list_count; ++i) import_lists[i] = PyDict_GetItemWithError(sys_names, list_names[i]);
  has_modules = PyDict_GetItemWithError(sys_names, modules_name) == PyImport_GetModuleDict();
}

void look_at_builtins() {
  if (!builtins_watch.is_changed()) return;
  builtins_watch.note_look();
  has_own_import = PyDict_GetItemWithError(builtins_dict, import_name) == import;
  has_builtins = PyDict_GET_SIZE(builtins_dict) >= builtins_size;
}

bool is_filled_list(PyObject* list) {
  return list != nullptr && PyList_CheckExact(list) && PyList_GET_SIZE(list) > 0;
}

bool is_whole() {
  look_at_sys();
  look_at_builtins();
  return std::all_of(std::begin(import_lists), std::end(import_lists), is_filled_list) && has_modules &&
         has_builtins && Py_GetRecursionLimit() >= recursion_limit && interval() == switch_interval;
}

bool is_import_own() {
  look_at_builtins();
  return has_own_import;
}

}  // namespace

bool init_leftovers() {
  PyObject* sys = PyImport_ImportModule("sys");
  if (sys == nullptr) return false;
  sys_names = PyModule_GetDict(sys);
  builtins_dict = Py_NewRef(PyEval_GetBuiltins());
  modules_name = PyUnicode_InternFromString("modules");
  for (int i = 0; i < list_count; ++i) list_names[i] = PyUnicode_InternFromString(list_texts[i]);
  import_name = PyUnicode_InternFromString("__import__");
  import = Py_XNewRef(PyDict_GetItemWithError(builtins_dict, import_name));
  builtins_size = PyDict_GET_SIZE(builtins_dict);
  recursion_limit = Py_GetRecursionLimit();
  switch_interval = interval();
  import_watch.begin(sys_names);
  builtins_watch.begin(builtins_dict);
  undo = package_function("undo");
  return undo != nullptr;
}

Leftovers::Leftovers()
    : traced_(PyThreadState_Get()->c_tracefunc != nullptr),
      profiled_(PyThreadState_Get()->c_profilefunc != nullptr),
      imports_(is_import_own()) {}

void Leftovers::end() const {
  const PyThreadState* state = PyThreadState_Get();
  const bool traces = state->c_tracefunc != nullptr && !traced_;
  const bool profiles = state->c_profilefunc != nullptr && !profiled_;
  const bool imports = is_import_own() || !imports_;
  const bool whole = is_whole();
  if (!traces && !profiles && imports && whole) return;
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  if (traces) PyEval_SetTrace(nullptr, nullptr);
  if (profiles) PyEval_SetProfile(nullptr, nullptr);
  if (!imports && PyDict_SetItem(builtins_dict, import_name, import) < 0) PyErr_Clear();
  PyObject* none = whole ? nullptr : PyObject_CallNoArgs(undo);
  if (none == nullptr && !whole) PyErr_WriteUnraisable(undo);
  Py_XDECREF(none);
  PyErr_Restore(type, value, traceback);
}

}  // namespace pythonx
