#include "conversion/pid.hpp"

namespace pythonx {
namespace {

struct Pid {
  PyObject_HEAD ErlNifPid value;
};

PyTypeObject* type = nullptr;

Pid* as_pid(PyObject* object) { return reinterpret_cast<Pid*>(object); }

PyObject* repr(PyObject*) { return PyUnicode_FromString("<pythonx.PID>"); }

// By value: the same Elixir process encoded twice is one key of a dict.
Py_hash_t hash(PyObject* self) {
  const auto value = static_cast<Py_hash_t>(enif_hash(ERL_NIF_PHASH2, pid_term(as_pid(self)->value), 0));
  return value == -1 ? -2 : value;
}

PyObject* compare(PyObject* left, PyObject* right, int operation) {
  if (Py_TYPE(right) != type || (operation != Py_EQ && operation != Py_NE)) Py_RETURN_NOTIMPLEMENTED;
  const bool equal = enif_compare_pids(&as_pid(left)->value, &as_pid(right)->value) == 0;
  return PyBool_FromLong(equal == (operation == Py_EQ));
}

// A pid means something only inside this VM, and one made from bytes could be forged.
PyObject* refuse_pickling(PyObject*, PyObject*) {
  PyErr_SetString(PyExc_TypeError, "cannot pickle 'pythonx.PID' object");
  return nullptr;
}

// For copy.copy and copy.deepcopy (dataclasses.asdict uses the latter): a pid never changes.
PyObject* copy(PyObject* self, PyObject*) {
  Py_INCREF(self);
  return self;
}

void dealloc(PyObject* self) {
  PyTypeObject* heap_type = Py_TYPE(self);
  PyObject_Free(self);
  Py_DECREF(heap_type);
}

PyMethodDef methods[] = {
    {"__reduce__", refuse_pickling, METH_NOARGS, nullptr},
    {"__copy__", copy, METH_NOARGS, nullptr},
    {"__deepcopy__", copy, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

const char doc[] =
    "An Elixir process. Elixir gives these to Python; Python cannot make them, only compare them, "
    "use them as keys, send messages to them and give them back.";

template <typename Function>
void* slot(Function* function) noexcept {
  return reinterpret_cast<void*>(function);
}

PyType_Slot slots[] = {
    {Py_tp_doc, const_cast<char*>(doc)},
    {Py_tp_repr, slot(repr)},
    {Py_tp_hash, slot(hash)},
    {Py_tp_richcompare, slot(compare)},
    {Py_tp_dealloc, slot(dealloc)},
    {Py_tp_methods, methods},
    {0, nullptr},
};

// Neither made, nor subclassed, nor changed from Python: decoding trusts what an instance holds.
PyType_Spec spec = {
    "pythonx.PID",
    sizeof(Pid),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    slots,
};

}  // namespace

bool init_pid_type() {
  if (type == nullptr) type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
  return type != nullptr;
}

PyTypeObject* pid_type() { return type; }

PyObject* make_pid(const ErlNifPid& pid) {
  Pid* self = PyObject_New(Pid, type);
  if (self == nullptr) return nullptr;
  self->value = pid;
  return reinterpret_cast<PyObject*>(self);
}

bool get_pid(PyObject* object, ErlNifPid* out) {
  if (Py_TYPE(object) != type) return false;
  *out = as_pid(object)->value;
  return true;
}

// The macro casts to a const type, at which -Wextra protests.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wignored-qualifiers"
ERL_NIF_TERM pid_term(const ErlNifPid& pid) { return enif_make_pid(nullptr, &pid); }
#pragma GCC diagnostic pop

}  // namespace pythonx
