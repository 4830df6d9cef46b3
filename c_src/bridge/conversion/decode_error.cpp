// What the decoding walk says when it refuses: where in the data, and why.
#include <algorithm>
#include <numeric>

#include "conversion/decoder.hpp"
#include "conversion/user_code.hpp"
#include "python/critical_section.hpp"

namespace pythonx {
namespace {

// More of a path than this, from each end, is not shown.
constexpr std::size_t shown = 10;

constexpr std::size_t longest_key = 60;

bool printable(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) >= 0x20 && c != 0x7F; });
}

// Text as an Elixir literal.
std::string quoted(std::string_view text) {
  std::string result = "\"";
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool interpolation = text[i] == '#' && i + 1 < text.size() && text[i + 1] == '{';
    if (text[i] == '"' || text[i] == '\\' || interpolation) result += '\\';
    result += text[i];
  }
  return result + "\"";
}

// A key as it would be written in Elixir, as far as that is short and plain.
std::string key_text(PyObject* key) {
  if (key == Py_None) return "nil";
  if (PyBool_Check(key)) return key == Py_True ? "true" : "false";
  if (PyUnicode_CheckExact(key) && PyUnicode_GET_LENGTH(key) <= static_cast<Py_ssize_t>(longest_key)) {
    Py_ssize_t size = 0;
    const char* utf8 = PyUnicode_AsUTF8AndSize(key, &size);
    const std::string_view text(utf8 != nullptr ? utf8 : "", static_cast<std::size_t>(size));
    if (utf8 != nullptr && printable(text)) return quoted(text);
    PyErr_Clear();
  }
  return describe(key);
}

// An exception that cannot have it does without.
void add_note(PyObject* exception, const std::string& text) {
#if PY_VERSION_HEX >= 0x030B0000
  PyObject* done = PyObject_CallMethod(exception, "add_note", "s", text.c_str());
#else
  // `take_error` looks there.
  PyObject* notes = Py_BuildValue("[s]", text.c_str());
  PyObject* done = notes;
  if (notes != nullptr) PyObject_SetAttrString(exception, "__notes__", notes);
#endif
  Py_XDECREF(done);
  PyErr_Clear();
}

}  // namespace

bool Decoder::refuse(std::size_t depth, const std::string& what) {
  if (!may_describe()) return false;
  const std::string where = path(depth);
  message_ = where.empty() ? what : where + ": " + what;
  status_ = DecodeStatus::refused;
  return false;
}

bool Decoder::refuse_cycle(Kind kind) {
  return refuse(frames_.size(), std::string("cannot decode a ") + name(kind) + " that contains itself");
}

// From CPython 3.12 on PyObject_Repr runs the cyclic collector when it is due, and with it finalizers: user
// code. So the words are found on a bridge thread.
bool Decoder::may_describe() {
  if (!options_.user_code) status_ = DecodeStatus::needs_thread;
  return options_.user_code;
}

// Adds to the exception that is set where in the data it was raised, as a note, which is formatted with it. What ends
// the walk from outside, as an interrupt does, has nothing to do with that place.
void Decoder::note_place() const {
  if (PyErr_ExceptionMatches(PyExc_Exception) == 0) return;
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  const std::string where = path(frames_.size());
  if (!where.empty()) add_note(value, "while decoding " + where);
  PyErr_Restore(type, value, traceback);
}

// Finds two keys of the innermost container that are one term.
bool Decoder::refuse_meeting_keys(const Frame& frame) {
  if (!may_describe()) return false;
  const Term* keys = terms_.data() + frame.first;
  std::vector<Py_ssize_t> order(static_cast<std::size_t>(frame.index));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](Py_ssize_t a, Py_ssize_t b) { return enif_compare(keys[a], keys[b]) < 0; });
  const auto met = std::adjacent_find(order.begin(), order.end(), [&](Py_ssize_t a, Py_ssize_t b) {
    return enif_is_identical(keys[a], keys[b]) != 0;
  });
  std::string pair;
  if (met != order.end())
    pair = describe_element(frame, met[0]) + " and " + describe_element(frame, met[1]) + " ";
  const char* parts = frame.kind == Kind::dict ? " whose keys " : " whose elements ";
  return refuse(frames_.size() - 1,
                std::string("cannot decode a ") + name(frame.kind) + parts + pair + "are the same in Elixir");
}

// The way from the root to the element in hand of the container at `depth`.
std::string Decoder::path(std::size_t depth) const {
  std::string text;
  for (std::size_t i = 0; i < depth; ++i) {
    if (i == shown && depth > 2 * shown) {
      i = depth - shown;
      text += "[... " + std::to_string(i - shown) + " more ...]";
    }
    text += segment(frames_[i]);
  }
  return text;
}

std::string Decoder::segment(const Frame& frame) const {
  if (frame.kind == Kind::set) return "[an element]";
  if (frame.kind != Kind::dict) return "[" + std::to_string(frame.index) + "]";
  if (!frame.in_value) return "[a key]";
  return "[" + key_text(key_in_hand(frame)) + "]";
}

// The key of the entry in hand of a dict (borrowed).
PyObject* Decoder::key_in_hand(const Frame& frame) {
  if (frame.contents != nullptr) return frame.contents[2 * frame.index];
  PyObject* key = Py_None;
  PyObject* value;
  Py_ssize_t position = frame.position;
  PyDict_Next(frame.object, &position, &key, &value);
  return key;
}

// Describes a key or element that was read before. If others have changed the container since, it may be
// another.
std::string Decoder::describe_element(const Frame& frame, Py_ssize_t index) {
  PyObject* item = nullptr;
  Py_BEGIN_CRITICAL_SECTION(frame.object);
  if (frame.kind == Kind::dict) {
    PyObject* value;
    Py_ssize_t position = 0;
    while (index-- >= 0 && PyDict_Next(frame.object, &position, &item, &value)) {
    }
    Py_XINCREF(item);
  } else if (PyObject* iterator = PySet_Type.tp_iter(frame.object)) {
    do {
      Py_XDECREF(item);
      item = PyIter_Next(iterator);
    } while (item != nullptr && index-- > 0);
    Py_DECREF(iterator);
  }
  Py_END_CRITICAL_SECTION();
  PyErr_Clear();
  if (item == nullptr) return "?";
  std::string text = describe(item);
  Py_DECREF(item);
  return text;
}

const char* Decoder::name(Kind kind) {
  switch (kind) {
    case Kind::list:
      return "list";
    case Kind::tuple:
      return "tuple";
    case Kind::dict:
      return "dict";
    case Kind::set:
      return "set";
  }
  return "container";
}

}  // namespace pythonx
