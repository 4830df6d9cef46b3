#include "conversion/user_code.hpp"

#include <vector>

#include "conversion/object.hpp"
#include "conversion/pid.hpp"

namespace pythonx {
namespace {

// CPython hashes and compares tuples recursively, some 200 bytes of stack for each level.
constexpr int plain_depth = 50;

bool is_plain(PyObject* object, int depth) {
  if (is_plain_scalar(object) || Py_TYPE(object) == pid_type()) return true;
  if (!PyTuple_CheckExact(object) || depth == 0) return false;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(object); ++i) {
    if (!is_plain(PyTuple_GET_ITEM(object, i), depth - 1)) return false;
  }
  return true;
}

// Cuts UTF-8 between characters.
std::string shortened(std::string text) {
  constexpr std::size_t longest = 60;
  if (text.size() <= longest) return text;
  std::size_t size = longest;
  while (size > 0 && (text[size] & 0xC0) == 0x80) --size;
  text.resize(size);
  return text + "...";
}

}  // namespace

bool is_plain_key(PyObject* object) { return is_plain(object, plain_depth); }

std::size_t tuple_depth(PyObject* object) {
  struct Level {
    PyObject* tuple;
    Py_ssize_t next;
  };
  std::vector<Level> path;
  std::size_t deepest = 0;
  if (PyTuple_CheckExact(object)) path.push_back({object, 0});
  while (!path.empty()) {
    if (path.size() > deepest) deepest = path.size();
    Level& level = path.back();
    if (level.next == PyTuple_GET_SIZE(level.tuple)) {
      path.pop_back();
      continue;
    }
    PyObject* item = PyTuple_GET_ITEM(level.tuple, level.next++);
    if (PyTuple_CheckExact(item)) path.push_back({item, 0});
  }
  return deepest;
}

void drop_last(PyObject* object, bool user_code) {
  if (user_code || is_plain_scalar(object)) {
    Py_DECREF(object);
  } else {
    drop_later(object);
  }
}

// A repr may run code that lets go of what the caller has borrowed the object from: from CPython 3.12 on the collector's
// finalizers, on the main thread the handlers of signals.
std::string describe(PyObject* object) {
  Py_INCREF(object);
  // CPython refuses the repr of an int of more than 4300 digits.
  PyObject* repr = is_plain_key(object) ? PyObject_Repr(object) : nullptr;
  const char* text = repr != nullptr ? PyUnicode_AsUTF8(repr) : nullptr;
  std::string result =
      text != nullptr ? shortened(text) : std::string("an object of type ") + Py_TYPE(object)->tp_name;
  Py_XDECREF(repr);
  PyErr_Clear();
  Py_DECREF(object);
  return result;
}

}  // namespace pythonx
