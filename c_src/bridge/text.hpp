// Text, both ways: UTF-8 bytes of a binary to str, and str to a binary.
//
// Each way is in steps, of which all but `new_text` touch only memory that cannot change, and so may run without the
// GIL.
#pragma once

#include <Python.h>

#include <cstddef>

#include "term.hpp"

namespace pythonx {

// What a first pass over UTF-8 finds out: enough to make a str of the exact length and width.
struct TextShape {
  Py_ssize_t characters = 0;
  Py_UCS4 widest = 0;
};

// Measures UTF-8; false when it is not valid.
bool measure_utf8(const unsigned char* data, std::size_t size, TextShape* out);

// A new str of that shape, yet to be filled.
inline PyObject* new_text(const TextShape& shape) { return PyUnicode_New(shape.characters, shape.widest); }

// Fills a new str from the UTF-8 that it was measured for.
void fill_text(PyObject* text, const unsigned char* data, std::size_t size);

// A new str, in one step; nullptr with a UnicodeDecodeError (or MemoryError) set otherwise.
PyObject* make_text(const unsigned char* data, std::size_t size);

// The size in bytes of a str as UTF-8; -1 when it has lone surrogates, for which there is no UTF-8. Sets no error.
std::ptrdiff_t utf8_size(PyObject* text);

// Writes exactly `utf8_size(text)` bytes.
void write_utf8(PyObject* text, unsigned char* out);

}  // namespace pythonx
