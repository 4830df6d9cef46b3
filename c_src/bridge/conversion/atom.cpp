#include "conversion/atom.hpp"

#include <atomic>
#include <string>

#include "python/no_throw.hpp"
#include "python/type.hpp"

namespace pythonx {
namespace {

constexpr int new_atoms_limit = 10000;
constexpr Py_ssize_t longest_name = 255;

struct Atom {
  PyObject_HEAD Term value;
  PyObject* name;
};

PyTypeObject* atom_class = nullptr;
std::atomic<int> new_atoms{0};

Atom* as_atom(PyObject* object) { return reinterpret_cast<Atom*>(object); }

PyObject* atom_repr(PyObject* self) { return PyUnicode_FromFormat("pythonx.Atom(%R)", as_atom(self)->name); }

PyObject* str(PyObject* self) {
  Py_INCREF(as_atom(self)->name);
  return as_atom(self)->name;
}

Py_hash_t atom_hash(PyObject* self) { return PyObject_Hash(as_atom(self)->name); }

PyObject* atom_compare(PyObject* left, PyObject* right, int operation) {
  return compare_instances(left, right, operation,
                           [left, right] { return as_atom(left)->value == as_atom(right)->value; });
}

// The text of a name as UTF-8; false with an exception set.
bool utf8_of(PyObject* name, std::string_view* out) {
  if (!PyUnicode_Check(name)) {
    PyErr_Format(PyExc_TypeError, "expected the name of an atom to be a str, got: %s",
                 Py_TYPE(name)->tp_name);
    return false;
  }
  if (PyUnicode_GetLength(name) > longest_name) {
    PyErr_Format(PyExc_ValueError, "an atom has at most %zd characters", longest_name);
    return false;
  }
  Py_ssize_t size;
  const char* text = PyUnicode_AsUTF8AndSize(name, &size);
  if (text == nullptr) return false;
  *out = {text, static_cast<std::size_t>(size)};
  return true;
}

// The external term format of atoms (https://www.erlang.org/doc/apps/erts/erl_ext_dist): a version byte, a tag, the length in
// 1 byte or 2, the name. (erl_nif reads and takes UTF-8 only since OTP 26.)
constexpr unsigned char atom_utf8_tag = 118;
constexpr unsigned char small_atom_utf8_tag = 119;

// The atom of a name in UTF-8. False when it is not valid, or new and may not be.
bool make_atom(std::string_view name, bool may_be_new, Term* out) {
  constexpr std::size_t longest = 4 * longest_name;
  if (name.size() > longest) return false;
  std::string external;
  for (const std::size_t byte :
       {std::size_t{external_version}, std::size_t{atom_utf8_tag}, name.size() >> 8, name.size()}) {
    external.push_back(static_cast<char>(byte));
  }
  external += name;
  ErlNifEnv* env = enif_alloc_env();
  const auto* bytes = reinterpret_cast<const unsigned char*>(external.data());
  ErlNifBinaryToTerm options{};  // None, says erl_nif. NOLINT(bugprone-invalid-enum-default-initialization)
  if (!may_be_new) options = ERL_NIF_BIN2TERM_SAFE;
  const bool ok = enif_binary_to_term(env, bytes, external.size(), out, options) != 0;
  enif_free_env(env);
  return ok;
}

PyObject* make(PyTypeObject*, PyObject* arguments, PyObject* keywords) {
  static const char* names[] = {"name", nullptr};
  PyObject* name;
  if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O:Atom", const_cast<char**>(names), &name))
    return nullptr;
  Term value;
  if (!intern_atom(name, &value)) return nullptr;
  Atom* self = PyObject_New(Atom, atom_class);
  if (self == nullptr) return nullptr;
  self->value = value;
  self->name = PyUnicode_FromObject(name);
  return reinterpret_cast<PyObject*>(self);
}

PyObject* reduce(PyObject* self, PyObject*) {
  return Py_BuildValue("O(O)", reinterpret_cast<PyObject*>(atom_class), as_atom(self)->name);
}

void atom_dealloc(PyObject* self) {
  Py_XDECREF(as_atom(self)->name);
  free_instance(self);
}

PyMethodDef atom_methods[] = {
    {"__reduce__", reduce, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

const char atom_doc[] =
    "Atom(name)\n--\n\n"
    "An Elixir atom. What goes to Elixir (a result, a message, an argument) may hold some; Elixir's own "
    "atoms arrive in "
    "Python as str. Atoms are never freed, so a program may make 10000 new ones and no more: never make them "
    "of data.";

PyType_Slot atom_slots[] = {
    {Py_tp_doc, const_cast<char*>(atom_doc)},
    {Py_tp_new, slot(no_throw<make>)},
    {Py_tp_repr, slot(atom_repr)},
    {Py_tp_str, slot(str)},
    {Py_tp_hash, slot(atom_hash)},
    {Py_tp_richcompare, slot(atom_compare)},
    {Py_tp_dealloc, slot(atom_dealloc)},
    {Py_tp_methods, atom_methods},
    {0, nullptr},
};

PyType_Spec atom_spec = {
    "pythonx.Atom", sizeof(Atom), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, atom_slots,
};

}  // namespace

bool init_atom_type() { return make_type(&atom_class, &atom_spec); }

PyTypeObject* atom_type() { return atom_class; }

bool intern_atom(PyObject* name, Term* out) {
  std::string_view text;
  if (!utf8_of(name, &text)) return false;
  if (find_atom(name, out)) return true;
  if (new_atoms.fetch_add(1) >= new_atoms_limit) {
    new_atoms.fetch_sub(1);
    PyErr_Format(PyExc_ValueError,
                 "Python code has made %d new atoms, which is the limit, because atoms are never freed: %R",
                 new_atoms_limit, name);
    return false;
  }
  if (make_atom(text, true, out)) return true;
  PyErr_Format(PyExc_ValueError, "not a valid atom: %R", name);
  return false;
}

bool get_python_atom(PyObject* object, Term* out) {
  if (Py_TYPE(object) != atom_class) return false;
  *out = as_atom(object)->value;
  return true;
}

bool find_atom(std::string_view name, Term* out) { return make_atom(name, false, out); }

bool read_atom(ErlNifEnv* env, Term atom, std::string* out) {
  ErlNifBinary external;
  if (!enif_term_to_binary(env, atom, &external)) return false;
  const std::size_t header = external.data[1] == small_atom_utf8_tag ? 3 : 4;
  out->assign(reinterpret_cast<const char*>(external.data) + header, external.size - header);
  enif_release_binary(&external);
  return true;
}

bool find_atom(PyObject* name, Term* out) {
  Py_ssize_t size;
  const char* text = PyUnicode_AsUTF8AndSize(name, &size);
  if (text == nullptr) {
    PyErr_Clear();
    return false;
  }
  return find_atom(std::string_view(text, static_cast<std::size_t>(size)), out);
}

}  // namespace pythonx
