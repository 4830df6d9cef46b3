#include "python/package.hpp"

#include <fstream>
#include <map>
#include <mutex>
#include <sstream>

namespace pythonx {
namespace {

// Set once, never given up.
PyObject* package = nullptr;        // pythonx._package
PyObject* package_names = nullptr;  // its globals
PyObject* load = nullptr;

// The mutex is a leaf. Leaked, like every static of the bridge.
struct Modules {
  std::mutex mutex;
  std::map<std::string, PyObject*> known;
};

Modules& modules() {
  static auto* instance = new Modules;
  return *instance;
}

PyObject* find(const char* name) {
  std::lock_guard<std::mutex> lock(modules().mutex);
  const auto found = modules().known.find(name);
  return found == modules().known.end() ? nullptr : Py_NewRef(found->second);
}

// Keeps a reference of its own.
void remember(const char* name, PyObject* module) {
  std::lock_guard<std::mutex> lock(modules().mutex);
  if (modules().known.emplace(name, module).second) Py_INCREF(module);
}

// Runs the file with builtins of its own, as it is to give them to all other modules of the package.
bool run(const std::string& file) {
  std::ifstream stream(file);
  std::stringstream text;
  text << stream.rdbuf();
  package = PyModule_New("pythonx._package");
  PyObject* own_builtins = PyDict_Copy(PyEval_GetBuiltins());
  PyObject* code = stream ? Py_CompileString(text.str().c_str(), file.c_str(), Py_file_input) : nullptr;
  if (!stream) PyErr_Format(PyExc_OSError, "cannot read %s", file.c_str());
  PyObject* result = nullptr;
  if (package != nullptr && own_builtins != nullptr && code != nullptr) {
    package_names = PyModule_GetDict(package);
    if (PyDict_SetItemString(package_names, "__builtins__", own_builtins) == 0)
      result = PyEval_EvalCode(code, package_names, package_names);
  }
  Py_XDECREF(result);
  Py_XDECREF(code);
  Py_XDECREF(own_builtins);
  return result != nullptr;
}

}  // namespace

bool init_package(const std::string& folder) {
  if (!run(folder + "/pythonx/_package.py")) return false;
  load = package_function("load");
  PyObject* install = package_function("install");
  PyObject* none =
      install == nullptr ? nullptr : PyObject_CallFunction(install, "sO", folder.c_str(), package);
  Py_XDECREF(none);
  return load != nullptr && none != nullptr;
}

PyObject* package_module(const char* name) {
  PyObject* module = find(name);
  if (module != nullptr) return module;
  module = PyObject_CallFunction(load, "s", name);
  if (module != nullptr) remember(name, module);
  return module;
}

PyObject* package_function(const char* name) {
  PyObject* function = PyDict_GetItemString(package_names, name);
  if (function == nullptr && PyErr_Occurred() == nullptr) PyErr_SetString(PyExc_AttributeError, name);
  return function;
}

}  // namespace pythonx
