// Compiled source, once for each distinct text, in a cache that keeps what was used last.
#pragma once

#include <Python.h>

#include <string>

namespace pythonx {

// What is compiled: the text, and where it stands (file and first line), for tracebacks.
struct Source {
  std::string text;
  std::string file;
  long line;
};

// The statements of a source and its last expression; each is nullptr where there is none. Strong references.
struct Code {
  PyObject* body = nullptr;
  PyObject* expression = nullptr;
};

// Compiles `source`, or finds it in the cache. False with an exception set: text that does not compile, which is not
// kept. The caller owns the references in *out. Attached, on a bridge thread.
bool compile_cached(const Source& source, Code* out);

}  // namespace pythonx
