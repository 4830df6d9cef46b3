// The parts of the decoding walk that make terms without elements, and the wrapping of sets.
#include <cmath>

#include "decoder.hpp"
#include "integer.hpp"
#include "object.hpp"
#include "pid.hpp"
#include "text.hpp"
#include "user_code.hpp"

namespace pythonx {
namespace {

// From this many bytes on, text and bytes are not copied: the binary refers to the memory of the Python object and
// keeps the object alive. To do so costs TODO
constexpr std::size_t zero_copy = 4096;

// Text from this many characters on is encoded without the GIL: that takes some 100 us.
constexpr Py_ssize_t large_text = 1 << 17;

// The template lives in an environment that is never freed, and is copied into that of each walk that needs it.
Term map_set_template = 0;

Term binary_of(ErlNifEnv* env, PyObject* owner, const void* data, Py_ssize_t size) {
  const auto* bytes = static_cast<const char*>(data);
  const auto count = static_cast<std::size_t>(size);
  return count < zero_copy ? make_binary(env, {bytes, count}) : make_binary_over(env, owner, bytes, count);
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
  *out = binary_of(env_, object, PyBytes_AS_STRING(object), PyBytes_GET_SIZE(object));
  return true;
}

bool Decoder::text(PyObject* object, Term* out) {
#if PY_VERSION_HEX < 0x030C0000
  if (PyUnicode_READY(object) != 0) return python_error();
#endif
  if (!PyUnicode_IS_ASCII(object)) return wide_text(object, out);
  *out = binary_of(env_, object, PyUnicode_DATA(object), PyUnicode_GET_LENGTH(object));
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
  } else if (frames_.empty()) {
    status_ = DecodeStatus::object;
    return false;
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
