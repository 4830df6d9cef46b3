// Text, both ways: UTF-8 bytes of a binary to str, and str to a binary.
//
// Each way is in steps, of which all but `new_text` touch only memory that cannot change, and so may run
// without the GIL.
#pragma once

#include <Python.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "vm/term.hpp"

namespace pythonx {

// Copies a few bytes as fast as a call of memcpy begins; more by memcpy.
inline void copy_short(unsigned char* out, const unsigned char* data, std::size_t size) {
  using Word = std::uint64_t;
  if (size < sizeof(Word) || size > 4 * sizeof(Word)) {
    std::memcpy(out, data, size);
    return;
  }
  std::size_t i = 0;
  for (; i + sizeof(Word) < size; i += sizeof(Word)) std::memcpy(out + i, data + i, sizeof(Word));
  std::memcpy(out + size - sizeof(Word), data + size - sizeof(Word), sizeof(Word));
}

// What a first pass over UTF-8 finds out: enough to make a str of the exact length and width.
struct TextShape {
  Py_ssize_t characters = 0;
  Py_UCS4 widest = 0;
};

// Measures UTF-8; false when it is not valid.
bool measure_utf8(const unsigned char* data, std::size_t size, TextShape* out);

// A new str of that shape, yet to be filled.
inline PyObject* new_text(const TextShape& shape) { return PyUnicode_New(shape.characters, shape.widest); }

// A new bytes object; nullptr with a MemoryError set otherwise.
inline PyObject* make_bytes(const unsigned char* data, std::size_t size) {
  // CPython keeps one shared object for each value of no or one byte: it has to find those.
  if (size < 2)
    return PyBytes_FromStringAndSize(reinterpret_cast<const char*>(data), static_cast<Py_ssize_t>(size));
  PyObject* bytes = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(size));
  if (bytes != nullptr) copy_short(reinterpret_cast<unsigned char*>(PyBytes_AS_STRING(bytes)), data, size);
  return bytes;
}

// Fills a new str from the UTF-8 that it was measured for.
void fill_text(PyObject* text, const unsigned char* data, std::size_t size);

// Whether all bytes are ASCII.
inline bool is_ascii(const unsigned char* data, std::size_t size) {
  constexpr std::uint64_t high_bits = 0x8080808080808080;
  std::uint64_t seen = 0;
  std::uint64_t word;
  for (; size >= sizeof(word); data += sizeof(word), size -= sizeof(word)) {
    std::memcpy(&word, data, sizeof(word));
    seen |= word;
  }
  for (; size > 0; ++data, --size) seen |= *data;
  return (seen & high_bits) == 0;
}

// A new str of any UTF-8; nullptr with a UnicodeDecodeError (or MemoryError) set otherwise.
PyObject* make_any_text(const unsigned char* data, std::size_t size);

// The same, faster for short ASCII.
inline PyObject* make_text(const unsigned char* data, std::size_t size) {
  if (size < 2 || size > 256 || !is_ascii(data, size)) return make_any_text(data, size);
  PyObject* text = PyUnicode_New(static_cast<Py_ssize_t>(size), 0x7F);
  if (text != nullptr) copy_short(PyUnicode_1BYTE_DATA(text), data, size);
  return text;
}

// The size in bytes of a str as UTF-8; -1 when it has lone surrogates, for which there is no UTF-8. Sets no
// error.
std::ptrdiff_t utf8_size(PyObject* text);

// Writes exactly `utf8_size(text)` bytes.
void write_utf8(PyObject* text, unsigned char* out);

// The first line of code that is not blank, as Pythonx.running/0 shows it; empty when all are.
std::string_view first_line(std::string_view code);

}  // namespace pythonx
