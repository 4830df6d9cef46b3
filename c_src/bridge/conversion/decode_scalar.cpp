// The parts of the decoding walk that make terms without elements, and the wrapping of sets.
#include <algorithm>
#include <cmath>

#include "conversion/atom.hpp"
#include "conversion/decoder.hpp"
#include "conversion/function.hpp"
#include "conversion/integer.hpp"
#include "conversion/object.hpp"
#include "conversion/pid.hpp"
#include "conversion/text.hpp"
#include "conversion/user_code.hpp"

namespace pythonx {
namespace {

// From this many bytes on, ASCII text and bytes are not copied: the binary refers to the memory of the Python
// object, and keeps the object alive. That costs the same at any size, about 270 ns with what the VM and
// Python pay later to collect it; a copy costs 145 ns at 256 bytes, 280 at 512 and 580 at 1024 (lists of
// 50,000, CPython 3.13, OTP 27).
constexpr std::size_t zero_copy = 512;

// Text from this many characters on is encoded without the GIL: that takes some 100 us.
constexpr Py_ssize_t large_text = 1 << 17;

// The template lives in an environment that is never freed, and is copied into that of each walk that needs
// it.
Term map_set_template = 0;

Term binary_of(ErlNifEnv* env, bool copied, PyObject* owner, const void* data, Py_ssize_t size) {
  const auto count = static_cast<std::size_t>(size);
  if (count >= zero_copy && !copied)
    return make_binary_over(env, owner, static_cast<const char*>(data), count);
  Term term;
  unsigned char* copy = enif_make_new_binary(env, count, &term);
  copy_short(copy, static_cast<const unsigned char*>(data), count);
  return term;
}

}  // namespace

bool Decoder::integer(PyObject* object, Term* out) {
  if (make_integer(env_, object, out)) return true;
  if (PyErr_Occurred() != nullptr) return python_error();
  return refuse(frames_.size(), "cannot decode an integer that is larger than any of Elixir");
}

bool Decoder::real(PyObject* object, Term* out) {
  const double value = PyFloat_AS_DOUBLE(object);
  if (std::isfinite(value)) {
    *out = enif_make_double(env_, value);
  } else {
    *out = std::isnan(value) ? atoms.nan : value > 0 ? atoms.infinity : atoms.neg_infinity;
  }
  return true;
}

bool Decoder::bytes(PyObject* object, Term* out) {
  *out = binary_of(env_, copies(), object, PyBytes_AS_STRING(object), PyBytes_GET_SIZE(object));
  return true;
}

bool Decoder::text(PyObject* object, Term* out) {
#if PY_VERSION_HEX < 0x030C0000
  if (PyUnicode_READY(object) != 0) return python_error();
#endif
  if (!PyUnicode_IS_ASCII(object)) return wide_text(object, out);
  *out = binary_of(env_, copies(), object, PyUnicode_DATA(object), PyUnicode_GET_LENGTH(object));
  return true;
}

// (PyUnicode_AsUTF8AndSize would store the UTF-8 in the str, for as long as that lives.)
bool Decoder::wide_text(PyObject* object, Term* out) {
  std::ptrdiff_t size;
  const auto encode = [&] {
    size = utf8_size(object);
    if (size >= 0) write_utf8(object, enif_make_new_binary(env_, static_cast<std::size_t>(size), out));
  };
  if (PyUnicode_GET_LENGTH(object) < large_text) {
    encode();
  } else if (!pacer_.may_detach()) {
    status_ = DecodeStatus::needs_thread;
    return false;
  } else {
    detached(object, encode);
  }
  if (size >= 0) return true;
  PyUnicode_AsUTF8AndSize(object, nullptr);  // raises, and says where the surrogate is
  return python_error();
}

bool Decoder::other(PyObject* object, Term* out) {
  ErlNifPid pid;
  if (get_pid(object, &pid)) {
    *out = pid_term(pid);
  } else if (get_python_atom(object, out)) {
    return true;
  } else if (const Term function = get_function(env_, object)) {
    *out = function;
  } else if (frames_.empty()) {
    status_ = DecodeStatus::object;
    return false;
  } else if (options_.interpreter != nullptr) {
    *out = options_.interpreter->make_handle(env_, object);
  } else {
    *out = make_object(env_, object);
  }
  return true;
}

// Works on the memory of an immutable object without the GIL.
template <typename Work>
void Decoder::detached(PyObject* object, Work work) {
  Py_INCREF(object);
  pin();
  pacer_.detached(work);
  drop(object, options_.user_code);
}

// Reads a list, from its end, as long as `convert` takes its elements: only what it can make at once.
template <typename Convert>
bool Decoder::fill_list_run(Frame& frame, Convert convert) {
#ifdef Py_GIL_DISABLED
  return true;  // the elements of a list may be gone at any time
#endif
  PyObject** const items = PySequence_Fast_ITEMS(frame.object);
  const Py_ssize_t start = std::min(frame.index, PyList_GET_SIZE(frame.object));
  const Py_ssize_t stop = std::max<Py_ssize_t>(0, start - longest_run);
  Py_ssize_t i = start;
  Term tail = frame.tail;
  for (Term item; i > stop && convert(items[i - 1], &item); --i) tail = enif_make_list_cell(env_, item, tail);
  frame.index = i;
  frame.tail = tail;
  return !pacer_.due(static_cast<std::size_t>(start - i)) || pause();
}

// Reads a dict as long as its keys are short ASCII or bytes and `convert` takes its values.
template <typename Convert>
bool Decoder::fill_dict_run(Frame& frame, Convert convert) {
  const Py_ssize_t stop = std::min(frame.size, frame.index + longest_run);
  const Py_ssize_t start = frame.index;
  Term* const keys = terms_.data() + frame.first;
  PyObject* key;
  PyObject* value;
  while (frame.index < stop && entry(frame, &key, &value)) {
    const Py_ssize_t i = frame.index;
    if (!short_key(key, keys + i) || !convert(value, keys + frame.size + i)) break;
    done_with(frame);
  }
  return !pacer_.due(static_cast<std::size_t>(frame.index - start)) || pause();
}

inline bool Decoder::short_key(PyObject* key, Term* out) {
  if (PyUnicode_CheckExact(key) && PyUnicode_IS_COMPACT_ASCII(key)) {
    *out = binary_of(env_, copies(), key, PyUnicode_1BYTE_DATA(key), PyUnicode_GET_LENGTH(key));
    return true;
  }
  return PyBytes_CheckExact(key) && bytes(key, out);
}

// Lists and large dicts tend to be of one type, and then a loop that expects it saves half of the way there.
bool Decoder::fill_like(Frame& frame, PyTypeObject* type) {
  const auto run = [&](auto convert) {
    return frame.kind == Kind::list ? fill_list_run(frame, convert) : fill_dict_run(frame, convert);
  };
  if (type == &PyLong_Type) {
    return run([env = env_](PyObject* object, Term* out) {
      ErlNifSInt64 value;
      if (Py_TYPE(object) != &PyLong_Type || !small_value(object, &value)) return false;
      *out = enif_make_int64(env, value);
      return true;
    });
  }
  if (type == &PyFloat_Type) {
    return run([env = env_](PyObject* object, Term* out) {
      if (Py_TYPE(object) != &PyFloat_Type || !std::isfinite(PyFloat_AS_DOUBLE(object))) return false;
      *out = enif_make_double(env, PyFloat_AS_DOUBLE(object));
      return true;
    });
  }
  if (type == &PyUnicode_Type) {
    return run([env = env_, copied = copies()](PyObject* object, Term* out) {
      if (Py_TYPE(object) != &PyUnicode_Type || !PyUnicode_IS_COMPACT_ASCII(object)) return false;
      *out = binary_of(env, copied, object, PyUnicode_1BYTE_DATA(object), PyUnicode_GET_LENGTH(object));
      return true;
    });
  }
  if (type == &PyBytes_Type) {
    return run([env = env_, copied = copies()](PyObject* object, Term* out) {
      if (Py_TYPE(object) != &PyBytes_Type) return false;
      *out = binary_of(env, copied, object, PyBytes_AS_STRING(object), PyBytes_GET_SIZE(object));
      return true;
    });
  }
  return true;
}

void set_map_set_template(ErlNifEnv*, Term map_set) {
  static ErlNifEnv* env = enif_alloc_env();
  map_set_template = enif_make_copy(env, map_set);
}

Term make_map_set(ErlNifEnv* env, Term map, Term* cached) {
  if (*cached == 0 && map_set_template != 0) *cached = enif_make_copy(env, map_set_template);
  Term set;
  if (*cached != 0 && enif_make_map_update(env, *cached, atoms.map, map, &set)) return set;
  Term keys[] = {atoms.struct_, atoms.map};
  Term values[] = {atoms.map_set, map};
  enif_make_map_from_arrays(env, keys, values, 2, &set);
  return set;
}

}  // namespace pythonx
