#include "work/streams.hpp"

#include <array>
#include <utility>

#include "python/dict_watch.hpp"

namespace pythonx {
namespace {

constexpr int count = Evaluation::stream_count;
constexpr const char* texts[count] = {"stdin", "stdout", "stderr"};

PyObject* sys_module = nullptr;
PyObject* sys_dict = nullptr;
PyObject* names[count];
PyObject* shared[count];
PyObject* front[count];
DictWatch fronts_watch;
PyObject* deleted = nullptr;  // stands for an attribute that is deleted

getattrofunc get_of_module = nullptr;
setattrofunc set_of_module = nullptr;

// What code without an evaluation has set, such as a __repr__ that Elixir asks for: it is gone when that ends.
thread_local std::array<PyObject*, count> own_of_thread{};

int number_of(PyObject* name) {
  for (int i = 0; i < count; ++i)
    if (name == names[i]) return i;
  for (int i = 0; i < count; ++i)
    if (PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(name, texts[i]) == 0) return i;
  return -1;
}

// A new reference; nullptr, without an exception, for a stream that was deleted.
PyObject* stream_of_caller(int number) {
  PyObject*& own = own_of_thread[static_cast<std::size_t>(number)];
  if (own == nullptr && !Evaluation::any_has_streams()) return Py_NewRef(shared[number]);
  const EvaluationPtr evaluation = main_context().tied();
  PyObject* stream = evaluation ? evaluation->stream(number) : Py_XNewRef(own);
  if (stream == nullptr) return Py_NewRef(shared[number]);
  if (stream == deleted) Py_CLEAR(stream);
  return stream;
}

void set_stream_of_caller(int number, PyObject* stream) {
  if (stream == shared[number] || stream == front[number]) {
    stream = nullptr;
  } else {
    stream = Py_NewRef(stream == nullptr ? deleted : stream);
  }
  if (const EvaluationPtr evaluation = main_context().tied()) {
    evaluation->set_stream(number, stream);
  } else {
    std::swap(own_of_thread[static_cast<std::size_t>(number)], stream);
    Py_XDECREF(stream);
  }
}

PyObject* get_attribute(PyObject* module, PyObject* name) {
  const int number = module == sys_module ? number_of(name) : -1;
  if (number < 0) return get_of_module(module, name);
  PyObject* stream = stream_of_caller(number);
  if (stream == nullptr)
    PyErr_Format(PyExc_AttributeError, "module 'sys' has no attribute '%s'", texts[number]);
  return stream;
}

int set_attribute(PyObject* module, PyObject* name, PyObject* value) {
  const int number = module == sys_module ? number_of(name) : -1;
  if (number < 0) return set_of_module(module, name, value);
  set_stream_of_caller(number, value);
  return 0;
}

// From Python 3.11 on code that runs often reads attributes of modules from their dict, unless that has, or had, a key that
// is no exact str.
bool forbid_short_cuts() {
  PyObject* type = PyObject_CallFunction(reinterpret_cast<PyObject*>(&PyType_Type), "s(O){}", "Key",
                                         reinterpret_cast<PyObject*>(&PyUnicode_Type));
  PyObject* key = type == nullptr ? nullptr : PyObject_CallFunction(type, "s", "pythonx");
  const bool ok =
      key != nullptr && PyDict_SetItem(sys_dict, key, Py_None) == 0 && PyDict_DelItem(sys_dict, key) == 0;
  Py_XDECREF(key);
  Py_XDECREF(type);
  return ok;
}

// --- The methods of a front ---------------------------------------------------------------------------------------------

int number_in(PyObject* self) { return static_cast<int>(PyLong_AsLong(self)); }

// As print() does with `sys.stdout = None`, for which it never gets here.
PyObject* write(PyObject* self, PyObject* text) {
  const int number = number_in(self);
  PyObject* stream = stream_of_caller(number);
  if (stream == nullptr) return PyErr_Format(PyExc_RuntimeError, "lost sys.%s", texts[number]);
  static PyObject* method = PyUnicode_InternFromString("write");
  PyObject* result = stream == Py_None ? Py_NewRef(Py_None) : PyObject_CallMethodOneArg(stream, method, text);
  Py_DECREF(stream);
  return result;
}

PyObject* get(PyObject* self, PyObject*) {
  const int number = number_in(self);
  PyObject* stream = stream_of_caller(number);
  if (stream == nullptr || stream == Py_None) {
    Py_XDECREF(stream);
    return PyErr_Format(PyExc_RuntimeError, "lost sys.%s", texts[number]);
  }
  return stream;
}

PyObject* flush(PyObject* self, PyObject*) {
  PyObject* stream = get(self, nullptr);
  if (stream == nullptr) {
    PyErr_Clear();
    Py_RETURN_NONE;
  }
  PyObject* result = PyObject_CallMethod(stream, "flush", nullptr);
  Py_DECREF(stream);
  return result;
}

PyMethodDef front_methods[] = {
    {"write", write, METH_O, "Write text to the stream of the evaluation that calls."},
    {"flush", flush, METH_NOARGS, "Flush the stream of the evaluation that calls."},
    {"stream", get, METH_NOARGS, "The stream of the evaluation that calls."}};

bool add_methods(PyObject* object, int number) {
  PyObject* self = PyLong_FromLong(number);
  bool ok = self != nullptr;
  for (PyMethodDef& method : front_methods) {
    PyObject* function = ok ? PyCFunction_NewEx(&method, self, nullptr) : nullptr;
    ok = function != nullptr && PyObject_SetAttrString(object, method.ml_name, function) == 0;
    Py_XDECREF(function);
  }
  Py_XDECREF(self);
  return ok;
}

// The last text of a wrapper goes to the evaluation's device. What its flush() raises is told to nobody: it is closed, or
// no file.
void flush_and_drop(PyObject* stream) {
  PyObject* result = stream == deleted || stream == Py_None ? Py_NewRef(Py_None)
                                                            : PyObject_CallMethod(stream, "flush", nullptr);
  if (result == nullptr) PyErr_Clear();
  Py_XDECREF(result);
  Py_DECREF(stream);
}

bool are_fronts_in_place() {
  if (!fronts_watch.is_changed()) return true;
  fronts_watch.note_look();
  for (int i = 0; i < count; ++i) {
    if (PyDict_GetItemWithError(sys_dict, names[i]) == front[i]) continue;
    fronts_watch.note_change();
    return false;
  }
  return true;
}

void put_fronts_in_place() {
  for (int i = 0; i < count; ++i)
    if (PyDict_SetItem(sys_dict, names[i], front[i]) < 0) PyErr_Clear();
}

}  // namespace

PyObject* share_streams(PyObject* fronts, PyObject* streams) {
  sys_module = PyImport_ImportModule("sys");
  if (sys_module == nullptr) return nullptr;
  sys_dict = PyModule_GetDict(sys_module);
  deleted = PyObject_CallNoArgs(reinterpret_cast<PyObject*>(&PyBaseObject_Type));
  if (deleted == nullptr || !forbid_short_cuts()) return nullptr;
  for (int i = 0; i < count; ++i) {
    names[i] = PyUnicode_InternFromString(texts[i]);
    front[i] = Py_NewRef(PyTuple_GetItem(fronts, i));
    shared[i] = Py_NewRef(PyTuple_GetItem(streams, i));
    if (!add_methods(front[i], i)) return nullptr;
  }
  put_fronts_in_place();
  fronts_watch.begin(sys_dict);
  get_of_module = std::exchange(PyModule_Type.tp_getattro, get_attribute);
  set_of_module = std::exchange(PyModule_Type.tp_setattro, set_attribute);
  Py_RETURN_NONE;
}

void end_streams(Evaluation& evaluation) {
  if (!evaluation.has_streams() && are_fronts_in_place()) return;
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  for (int i = 0; i < count; ++i)
    if (PyObject* stream = evaluation.stream(i)) flush_and_drop(stream);
  for (int i = 0; i < count; ++i) evaluation.set_stream(i, nullptr);
  if (!are_fronts_in_place()) put_fronts_in_place();
  PyErr_Restore(type, value, traceback);
}

void end_own_streams() {
  for (PyObject*& stream : own_of_thread) {
    if (stream == nullptr) continue;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    flush_and_drop(std::exchange(stream, nullptr));
    PyErr_Restore(type, value, traceback);
  }
}

}  // namespace pythonx
