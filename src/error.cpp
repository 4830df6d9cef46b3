#include "error.hpp"

#include <pybind11/pybind11.h>

#include <vector>

#include "call.hpp"
#include "object.hpp"

namespace py = pybind11;

namespace pythonx {
namespace {

// The exception that is set, normalised: on 3.10 and 3.11 what C code raised is a bare class and arguments.
struct Raised {
  py::object type, value, traceback;

  Raised() {
    PyObject *t = nullptr, *v = nullptr, *tb = nullptr;
    PyErr_Fetch(&t, &v, &tb);
    PyErr_NormalizeException(&t, &v, &tb);
    if (tb != nullptr && v != nullptr) PyException_SetTraceback(v, tb);
    type = reinterpret(t);
    value = reinterpret(v);
    traceback = reinterpret(tb);
  }

 private:
  static py::object reinterpret(PyObject* object) {
    return object == nullptr ? py::none() : py::reinterpret_steal<py::object>(object);
  }
};

py::list format(const Raised& raised, Frames frames) {
  const py::object traceback = frames == Frames::internal ? py::none() : raised.traceback;
  return py::module_::import("traceback").attr("format_exception")(raised.type, raised.value, traceback);
}

// For an exception that cannot even be formatted: its class name is always to be had.
py::list format_bare(const Raised& raised) {
  const char* name = reinterpret_cast<PyTypeObject*>(raised.type.ptr())->tp_name;
  py::list lines;
  lines.append(py::str(std::string(name) + ": <the exception could not be formatted>\n"));
  return lines;
}

// Tried twice: an interrupt may have been under way when the first exception was raised.
py::list format_surely(const Raised& raised, Frames frames) {
  for (int attempt = 0; attempt < 2; ++attempt) {
    try {
      return format(raised, frames);
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
  const Raised raised;
  const py::list lines = format_surely(raised, frames);
  const Term text = make_lines(env, lines);
  const Term type = make_object(env, raised.type.ptr());
  const Term value = make_object(env, raised.value.ptr());
  const Term traceback = make_object(env, raised.traceback.ptr());
  const Term original = original_of(env, raised.value.ptr());
  return original == 0 ? make_tuple(env, text, type, value, traceback)
                       : make_tuple(env, text, type, value, traceback, original);
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
