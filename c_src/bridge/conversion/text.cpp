#include "conversion/text.hpp"

namespace pythonx {
namespace {

// How many ASCII bytes the text begins with, in steps of a word: less than all of them, by up to seven, is no
// harm.
std::size_t ascii_prefix(const unsigned char* data, std::size_t size) {
  constexpr std::uint64_t high_bits = 0x8080808080808080;
  std::size_t i = 0;
  for (std::uint64_t word; i + sizeof(word) <= size; i += sizeof(word)) {
    std::memcpy(&word, data + i, sizeof(word));
    if ((word & high_bits) != 0) return i;
  }
  while (i < size && data[i] < 0x80) ++i;
  return i;
}

bool continues(const unsigned char* p, int count) {
  for (int i = 1; i <= count; ++i) {
    if ((p[i] & 0xC0) != 0x80) return false;
  }
  return true;
}

Py_UCS4 low_bits(unsigned char byte, int shift) { return static_cast<Py_UCS4>(byte & 0x3F) << shift; }

Py_UCS4 decode_2(const unsigned char* p) {
  return static_cast<Py_UCS4>(p[0] & 0x1F) << 6 | low_bits(p[1], 0);
}

Py_UCS4 decode_3(const unsigned char* p) {
  return static_cast<Py_UCS4>(p[0] & 0x0F) << 12 | low_bits(p[1], 6) | low_bits(p[2], 0);
}

Py_UCS4 decode_4(const unsigned char* p) {
  return static_cast<Py_UCS4>(p[0] & 0x07) << 18 | low_bits(p[1], 12) | low_bits(p[2], 6) | low_bits(p[3], 0);
}

// Reads the character of more than one byte at `p`. Returns how many bytes it has, 0 when it is not valid.
int decode_wide(const unsigned char* p, std::ptrdiff_t left, Py_UCS4* out) {
  const unsigned char lead = *p;
  if (lead >= 0xC2 && lead < 0xE0 && left >= 2 && continues(p, 1)) {
    *out = decode_2(p);
    return 2;
  }
  if ((lead & 0xF0) == 0xE0 && left >= 3 && continues(p, 2)) {
    *out = decode_3(p);
    return *out >= 0x800 && (*out & 0xF800) != 0xD800 ? 3 : 0;
  }
  if ((lead & 0xF8) == 0xF0 && left >= 4 && continues(p, 3)) {
    *out = decode_4(p);
    return *out >= 0x10000 && *out <= 0x10FFFF ? 4 : 0;
  }
  return 0;
}

// The text is known to be valid, and no wider than the unit.
template <typename Unit>
void fill_units(const unsigned char* p, const unsigned char* end, Unit* out) {
  while (p < end) {
    if (*p < 0x80) {
      *out++ = *p++;
    } else if (*p < 0xE0) {
      *out++ = static_cast<Unit>(decode_2(p));
      p += 2;
    } else if (*p < 0xF0) {
      *out++ = static_cast<Unit>(decode_3(p));
      p += 3;
    } else {
      *out++ = static_cast<Unit>(decode_4(p));
      p += 4;
    }
  }
}

// Without branches, so that a compiler can use vectors.
template <typename Unit>
std::ptrdiff_t encoded_size(const Unit* p, std::size_t count) {
  std::size_t size = count;
  bool surrogate = false;
  for (std::size_t i = 0; i < count; ++i) {
    const Py_UCS4 c = p[i];
    size += static_cast<std::size_t>(c >= 0x80) + static_cast<std::size_t>(c >= 0x800) +
            static_cast<std::size_t>(c >= 0x10000);
    surrogate |= (c & 0xFFFFF800U) == 0xD800;
  }
  return surrogate ? -1 : static_cast<std::ptrdiff_t>(size);
}

unsigned char continuation(Py_UCS4 c) { return static_cast<unsigned char>(0x80 | (c & 0x3F)); }

template <typename Unit>
void encode_units(const Unit* p, std::size_t count, unsigned char* out) {
  for (std::size_t i = 0; i < count; ++i) {
    const Py_UCS4 c = p[i];
    if (c < 0x80) {
      *out++ = static_cast<unsigned char>(c);
    } else if (c < 0x800) {
      *out++ = static_cast<unsigned char>(0xC0 | (c >> 6));
      *out++ = continuation(c);
    } else if (c < 0x10000) {
      *out++ = static_cast<unsigned char>(0xE0 | (c >> 12));
      *out++ = continuation(c >> 6);
      *out++ = continuation(c);
    } else {
      *out++ = static_cast<unsigned char>(0xF0 | (c >> 18));
      *out++ = continuation(c >> 12);
      *out++ = continuation(c >> 6);
      *out++ = continuation(c);
    }
  }
}

}  // namespace

bool measure_utf8(const unsigned char* data, std::size_t size, TextShape* out) {
  const unsigned char* const end = data + size;
  std::size_t ascii = ascii_prefix(data, size);
  const unsigned char* p = data + ascii;
  TextShape shape{static_cast<Py_ssize_t>(ascii), 0x7F};
  while (p < end) {
    Py_UCS4 character = *p;
    const int length = character < 0x80 ? 1 : decode_wide(p, end - p, &character);
    if (length == 0) return false;
    if (character > shape.widest) shape.widest = character;
    shape.characters += 1;
    p += length;
  }
  *out = shape;
  return true;
}

void fill_text(PyObject* text, const unsigned char* data, std::size_t size) {
  const unsigned char* const end = data + size;
  if (PyUnicode_IS_ASCII(text)) {
    std::memcpy(PyUnicode_1BYTE_DATA(text), data, size);
  } else if (PyUnicode_KIND(text) == PyUnicode_1BYTE_KIND) {
    fill_units(data, end, PyUnicode_1BYTE_DATA(text));
  } else if (PyUnicode_KIND(text) == PyUnicode_2BYTE_KIND) {
    fill_units(data, end, PyUnicode_2BYTE_DATA(text));
  } else {
    fill_units(data, end, PyUnicode_4BYTE_DATA(text));
  }
}

PyObject* make_any_text(const unsigned char* data, std::size_t size) {
  TextShape shape;
  // CPython keeps one shared str for each text of no or one Latin-1 character: it has to find those. And it
  // reports what is not valid.
  if (size < 2 || !measure_utf8(data, size, &shape) || shape.characters < 2) {
    return PyUnicode_DecodeUTF8(reinterpret_cast<const char*>(data), static_cast<Py_ssize_t>(size), nullptr);
  }
  PyObject* text = new_text(shape);
  if (text != nullptr) fill_text(text, data, size);
  return text;
}

std::ptrdiff_t utf8_size(PyObject* text) {
  const auto count = static_cast<std::size_t>(PyUnicode_GET_LENGTH(text));
  if (PyUnicode_KIND(text) == PyUnicode_1BYTE_KIND) return encoded_size(PyUnicode_1BYTE_DATA(text), count);
  if (PyUnicode_KIND(text) == PyUnicode_2BYTE_KIND) return encoded_size(PyUnicode_2BYTE_DATA(text), count);
  return encoded_size(PyUnicode_4BYTE_DATA(text), count);
}

void write_utf8(PyObject* text, unsigned char* out) {
  const auto count = static_cast<std::size_t>(PyUnicode_GET_LENGTH(text));
  if (PyUnicode_KIND(text) == PyUnicode_1BYTE_KIND)
    return encode_units(PyUnicode_1BYTE_DATA(text), count, out);
  if (PyUnicode_KIND(text) == PyUnicode_2BYTE_KIND)
    return encode_units(PyUnicode_2BYTE_DATA(text), count, out);
  return encode_units(PyUnicode_4BYTE_DATA(text), count, out);
}

std::string_view first_line(std::string_view code) {
  const auto start = code.find_first_not_of(" \t\f\r\n");
  if (start == std::string_view::npos) return {};
  code.remove_prefix(start);
  return code.substr(0, code.find_first_of("\r\n"));
}

}  // namespace pythonx
