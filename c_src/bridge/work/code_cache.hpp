// Compiled source, once for each distinct text, in a cache that keeps what was used last.
#pragma once

#include <Python.h>

#include <string>
#include <string_view>

namespace pythonx {

// What is compiled: the text, and where it stands (file and first line), for tracebacks. One string holds all of it, to be
// the key of the cache as it is.
class Source {
 public:
  Source(std::string_view text, std::string_view file, long line);

  const std::string& key() const { return key_; }
  std::string_view file() const { return std::string_view(key_).substr(0, file_size_); }
  std::string_view place() const { return std::string_view(key_).substr(0, text_offset_); }  // file and line
  std::string_view text() const { return std::string_view(key_).substr(text_offset_); }
  long line() const { return line_; }

 private:
  std::string key_;
  std::size_t file_size_;
  std::size_t text_offset_;
  long line_;
};

// The statements of a source and its last expression; each is nullptr where there is none. Strong references.
struct Code {
  PyObject* body = nullptr;
  PyObject* expression = nullptr;

  // The text that they were compiled from, a new reference; nullptr for none. See source.hpp.
  PyObject* source() const;
};

// Compiles `source`, or finds it in the cache. False with an exception set: text that does not compile, which is not
// kept. The caller owns the references in *out. Attached, on a bridge thread.
bool compile_cached(const Source& source, Code* out);

}  // namespace pythonx
