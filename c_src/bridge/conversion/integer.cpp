#include "conversion/integer.hpp"

#include <cstdint>
#include <cstring>
#include <vector>

namespace pythonx {
namespace {

// Big integers cross in the external term format (https://www.erlang.org/doc/apps/erts/erl_ext_dist): erl_nif
// has no other way to read or make them. A version byte, a tag, the length (1 byte or 4), a sign byte, then
// the magnitude, least significant byte first.
constexpr unsigned char small_big_tag = 110;
constexpr unsigned char large_big_tag = 111;

PyObject* from_magnitude(const unsigned char* bytes, std::size_t size, bool negative) {
#if PY_VERSION_HEX >= 0x030D0000
  PyObject* number = PyLong_FromUnsignedNativeBytes(bytes, size, Py_ASNATIVEBYTES_LITTLE_ENDIAN);
#else
  PyObject* number = _PyLong_FromByteArray(bytes, size, 1, 0);
#endif
  if (number == nullptr || !negative) return number;
  PyObject* negated = PyNumber_Negative(number);
  Py_DECREF(number);
  return negated;
}

PyObject* from_external(const unsigned char* data, std::size_t size) {
  const std::size_t header = data[1] == small_big_tag ? 4 : 7;
  if (size < header || (data[1] != small_big_tag && data[1] != large_big_tag)) {
    PyErr_SetString(PyExc_SystemError, "unexpected external format of an integer");
    return nullptr;
  }
  return from_magnitude(data + header, size - header, data[header - 1] != 0);
}

// How many bytes the number takes in two's complement.
std::size_t signed_size(PyObject* object) {
#if PY_VERSION_HEX >= 0x030D0000
  return static_cast<std::size_t>(PyLong_AsNativeBytes(object, nullptr, 0, Py_ASNATIVEBYTES_LITTLE_ENDIAN));
#else
  return _PyLong_NumBits(object) / 8 + 1;
#endif
}

bool write_signed(PyObject* object, unsigned char* bytes, std::size_t size) {
#if PY_VERSION_HEX >= 0x030D0000
  return PyLong_AsNativeBytes(object, bytes, static_cast<Py_ssize_t>(size), Py_ASNATIVEBYTES_LITTLE_ENDIAN) >=
         0;
#else
  return _PyLong_AsByteArray(reinterpret_cast<PyLongObject*>(object), bytes, size, 1, 1) == 0;
#endif
}

// Two's complement of a negative number to its magnitude, in place. (abs() would call the method of a
// subclass.)
void negate(unsigned char* bytes, std::size_t size) {
  unsigned carry = 1;
  for (std::size_t i = 0; i < size; ++i) {
    carry += static_cast<unsigned char>(~bytes[i]);
    bytes[i] = static_cast<unsigned char>(carry);
    carry >>= 8;
  }
}

void put_size(unsigned char* out, std::size_t size) {
  for (int i = 3; i >= 0; --i, size >>= 8) out[i] = static_cast<unsigned char>(size);
}

bool make_big_integer(ErlNifEnv* env, PyObject* object, Term* out) {
  constexpr std::size_t header = 7;
  std::size_t size = signed_size(object);
  std::vector<unsigned char> external(header + size);
  unsigned char* bytes = external.data() + header;
  if (!write_signed(object, bytes, size)) return false;
  const bool negative = (bytes[size - 1] & 0x80) != 0;
  if (negative) negate(bytes, size);
  while (size > 0 && bytes[size - 1] == 0) --size;
  if (size > UINT32_MAX) return false;
  external[0] = external_version;
  external[1] = large_big_tag;
  put_size(external.data() + 2, size);
  external[6] = negative ? 1 : 0;
  return enif_binary_to_term(env, external.data(), header + size, out, 0) != 0;
}

}  // namespace

PyObject* make_long(ErlNifEnv* env, Term term) {
  ErlNifSInt64 small;
  if (enif_get_int64(env, term, &small)) return PyLong_FromLongLong(small);
  ErlNifUInt64 unsigned_small;
  if (enif_get_uint64(env, term, &unsigned_small)) return PyLong_FromUnsignedLongLong(unsigned_small);
  ErlNifBinary external;
  if (!enif_term_to_binary(env, term, &external)) return PyErr_NoMemory();
  PyObject* number = from_external(external.data, external.size);
  enif_release_binary(&external);
  return number;
}

bool make_integer(ErlNifEnv* env, PyObject* object, Term* out) {
  ErlNifSInt64 value;
  if (!small_value(object, &value)) {
    int overflow;
    value = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (overflow != 0) return make_big_integer(env, object, out);
  }
  *out = enif_make_int64(env, value);
  return true;
}

}  // namespace pythonx
