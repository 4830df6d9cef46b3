#include "conversion/error.hpp"

#include <frameobject.h>
#include <pybind11/pybind11.h>

#include <string>
#include <string_view>
#include <vector>

#include "conversion/elixir_error.hpp"
#include "conversion/object.hpp"
#include "python/package.hpp"

namespace py = pybind11;

namespace pythonx {
namespace {

// Where the package's own Python files are, with a slash at the end. Leaked, like every static of the bridge.
std::string& package_files() {
  static auto* instance = new std::string;
  return *instance;
}

bool is_own(PyTracebackObject* entry) {
  PyCodeObject* code = PyFrame_GetCode(entry->tb_frame);
  const char* file = PyUnicode_AsUTF8(code->co_filename);
  const bool own =
      file != nullptr && std::string_view(file).substr(0, package_files().size()) == package_files();
  Py_DECREF(code);
  if (file == nullptr) PyErr_Clear();
  return own;
}

// The traceback from the first frame on that is not the package's own; nullptr when all are. Takes the reference.
PyObject* without_own_frames(PyObject* traceback) {
  if (package_files().empty()) return traceback;
  while (traceback != nullptr && is_own(reinterpret_cast<PyTracebackObject*>(traceback))) {
    auto* next = reinterpret_cast<PyObject*>(reinterpret_cast<PyTracebackObject*>(traceback)->tb_next);
    Py_XINCREF(next);
    Py_DECREF(traceback);
    traceback = next;
  }
  return traceback;
}

// The exception that is set, normalised: on 3.10 and 3.11 what C code raised is a bare class and arguments. What the
// package does before user code is entered is nobody's business, so its frames there are left out, except where code is
// no Python: Livebook marks the line that a SyntaxError names, but only of an exception that has a traceback. Of any other it
// marks the line of the first frame.
struct Raised {
  py::object type, value, traceback;

  explicit Raised(Frames frames) {
    if (PyErr_Occurred() == nullptr) PyErr_SetString(PyExc_SystemError, "a failure without an exception");
    PyObject *t = nullptr, *v = nullptr, *tb = nullptr;
    PyErr_Fetch(&t, &v, &tb);
    PyErr_NormalizeException(&t, &v, &tb);
    const bool keep = frames == Frames::internal && PyErr_GivenExceptionMatches(t, PyExc_SyntaxError) != 0;
    if (!keep) tb = without_own_frames(tb);
    if (v != nullptr) PyException_SetTraceback(v, tb == nullptr ? Py_None : tb);
    type = reinterpret(t);
    value = reinterpret(v);
    traceback = reinterpret(tb);
  }

 private:
  static py::object reinterpret(PyObject* object) {
    return object == nullptr ? py::none() : py::reinterpret_steal<py::object>(object);
  }
};

// With `unharmed`, by Python's own builtins, where code has replaced some.
py::list format(const Raised& raised, Frames frames, bool unharmed) {
  const py::object traceback = frames == Frames::internal ? py::none() : raised.traceback;
  const auto module = py::reinterpret_steal<py::object>(package_module("traceback"));
  if (!module) throw py::error_already_set();
  const py::object format_exception = module.attr("format_exception");
  const auto call = py::reinterpret_borrow<py::object>(package_function("call_unharmed"));
  py::list lines = unharmed ? call(format_exception, raised.type, raised.value, traceback)
                            : format_exception(raised.type, raised.value, traceback);
#if PY_VERSION_HEX < 0x030B0000
  // From Python 3.11 on `traceback` does that.
  for (const py::handle note : py::getattr(raised.value, "__notes__", py::tuple()))
    lines.append(py::str(note) + py::str("\n"));
#endif
  return lines;
}

// For an exception that cannot even be formatted: its class name is always to be had.
py::list format_bare(const Raised& raised) {
  const char* name = reinterpret_cast<PyTypeObject*>(raised.type.ptr())->tp_name;
  py::list lines;
  lines.append(py::str(std::string(name) + ": <the exception could not be formatted>\n"));
  return lines;
}

// Tried again: an interrupt may have been under way when the first exception was raised.
py::list format_surely(const Raised& raised, Frames frames) {
  for (int attempt = 0; attempt < 3; ++attempt) {
    try {
      return format(raised, frames, attempt == 2);
    } catch (const py::error_already_set&) {
      continue;
    }
  }
  return format_bare(raised);
}

Term make_lines(ErlNifEnv* env, const py::list& lines) {
  std::vector<Term> terms;
  for (const py::handle line : lines) terms.push_back(make_text(env, line.ptr()));
  return enif_make_list_from_array(env, terms.data(), static_cast<unsigned>(terms.size()));
}

}  // namespace

void set_package_folder(const std::string& folder) { package_files() = folder + "/pythonx/"; }

Term make_text(ErlNifEnv* env, PyObject* unicode) {
  Py_ssize_t size;
  if (const char* text = PyUnicode_AsUTF8AndSize(unicode, &size)) {
    return make_binary(env, {text, static_cast<std::size_t>(size)});
  }
  PyErr_Clear();
  PyObject* bytes = PyUnicode_AsEncodedString(unicode, "utf-8", "backslashreplace");
  if (bytes == nullptr) {
    PyErr_Clear();
    return make_binary(env, "");
  }
  const Term term =
      make_binary(env, {PyBytes_AS_STRING(bytes), static_cast<std::size_t>(PyBytes_GET_SIZE(bytes))});
  Py_DECREF(bytes);
  return term;
}

Term take_error(ErlNifEnv* env, Frames frames) {
  Raised raised(frames);
  const py::list lines = format_surely(raised, frames);
  if (is_worker() && PyErr_GivenExceptionMatches(raised.type.ptr(), PyExc_MemoryError) != 0) {
    PyException_SetTraceback(raised.value.ptr(), Py_None);
    raised.traceback = py::none();
  }
  const Term text = make_lines(env, lines);
  const Term type = make_object(env, raised.type.ptr());
  const Term value = make_object(env, raised.value.ptr());
  const Term traceback = make_object(env, raised.traceback.ptr());
  const Term original = original_of(env, raised.value.ptr());
  return original == 0 ? make_tuple(env, text, type, value, traceback)
                       : make_tuple(env, text, type, value, traceback, original);
}

PyObject* take_exception() {
  PyObject *type = nullptr, *value = nullptr, *traceback = nullptr;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  if (traceback != nullptr) PyException_SetTraceback(value, traceback);
  Py_XDECREF(type);
  Py_XDECREF(traceback);
  return value;
}

void raise_again(PyObject* error) {
  if (error == nullptr || !PyExceptionInstance_Check(error)) {
    PyErr_SetString(PyExc_SystemError, "expected a local exception");
    return;
  }
  PyObject* type = reinterpret_cast<PyObject*>(Py_TYPE(error));
  Py_INCREF(type);
  Py_INCREF(error);
  PyErr_Restore(type, error, PyException_GetTraceback(error));
}

Term error_reply(ErlNifEnv* env, Frames frames) {
  return make_tuple(env, atoms.python_error, take_error(env, frames));
}

}  // namespace pythonx
