#include "conversion/pid.hpp"

#include "python/type.hpp"

namespace pythonx {
namespace {

struct Pid {
  PyObject_HEAD ErlNifPid value;
};

PyTypeObject* pid_class = nullptr;

Pid* as_pid(PyObject* object) { return reinterpret_cast<Pid*>(object); }

PyObject* pid_repr(PyObject*) { return PyUnicode_FromString("<pythonx.PID>"); }

// By value: the same Elixir process encoded twice is one key of a dict.
Py_hash_t pid_hash(PyObject* self) {
  const auto value = static_cast<Py_hash_t>(enif_hash(ERL_NIF_PHASH2, pid_term(as_pid(self)->value), 0));
  return value == -1 ? -2 : value;
}

PyObject* pid_compare(PyObject* left, PyObject* right, int operation) {
  return compare_instances(left, right, operation, [left, right] {
    return enif_compare_pids(&as_pid(left)->value, &as_pid(right)->value) == 0;
  });
}

PyMethodDef pid_methods[] = {
    {"__reduce__", refuse_pickling, METH_NOARGS, nullptr},
    {"__copy__", copy_unchanging, METH_NOARGS, nullptr},
    {"__deepcopy__", copy_unchanging, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

const char pid_doc[] =
    "An Elixir process. Elixir gives these to Python; Python cannot make them, only compare them, "
    "use them as keys, send messages to them and give them back.";

PyType_Slot pid_slots[] = {
    {Py_tp_doc, const_cast<char*>(pid_doc)},
    {Py_tp_repr, slot(pid_repr)},
    {Py_tp_hash, slot(pid_hash)},
    {Py_tp_richcompare, slot(pid_compare)},
    {Py_tp_dealloc, slot(free_instance)},
    {Py_tp_methods, pid_methods},
    {0, nullptr},
};

PyType_Spec pid_spec = {"pythonx.PID", sizeof(Pid), 0, closed_type, pid_slots};

}  // namespace

bool init_pid_type() { return make_type(&pid_class, &pid_spec); }

PyTypeObject* pid_type() { return pid_class; }

PyObject* make_pid(const ErlNifPid& pid) {
  Pid* self = PyObject_New(Pid, pid_class);
  if (self == nullptr) return nullptr;
  self->value = pid;
  return reinterpret_cast<PyObject*>(self);
}

bool get_pid(PyObject* object, ErlNifPid* out) {
  if (Py_TYPE(object) != pid_class) return false;
  *out = as_pid(object)->value;
  return true;
}

// The macro casts to a const type, at which -Wextra protests.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wignored-qualifiers"
ERL_NIF_TERM pid_term(const ErlNifPid& pid) { return enif_make_pid(nullptr, &pid); }
#pragma GCC diagnostic pop

}  // namespace pythonx
