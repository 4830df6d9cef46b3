// The keys of the dicts of one walk, as terms: rows of a table repeat theirs.
#pragma once

#include <Python.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "vm/term.hpp"

namespace pythonx {

// A direct-mapped table by identity: rows made by one piece of Python code, or by one json.loads, share their
// keys. Holds a reference to each key, or its address might come back as another's while the GIL is let go.
// Keys are str or bytes: neither runs code when it is dropped.
class TermCache {
 public:
  TermCache() = default;
  TermCache(const TermCache&) = delete;
  TermCache& operator=(const TermCache&) = delete;

  ~TermCache() { take(Py_DecRef); }

  // Gives up each reference to `function`.
  void take(void (*function)(PyObject*)) {
    for (Entry& entry : entries_) {
      if (entry.key != nullptr) function(std::exchange(entry.key, nullptr));
    }
  }

  // The term of the key, or 0.
  Term find(PyObject* key) const {
    const Entry& entry = entries_[index(key)];
    return entry.key == key ? entry.term : 0;
  }

  void remember(PyObject* key, Term term) {
    Entry& entry = entries_[index(key)];
    Py_INCREF(key);
    Py_XDECREF(entry.key);
    entry = {key, term};
  }

 private:
  struct Entry {
    PyObject* key = nullptr;
    Term term = 0;
  };

  static constexpr std::size_t size_bits = 8;

  static std::size_t index(PyObject* key) {
    return (reinterpret_cast<std::uintptr_t>(key) * std::uint64_t{0x9E3779B97F4A7C15}) >> (64 - size_bits);
  }

  std::array<Entry, 1U << size_bits> entries_{};
};

}  // namespace pythonx
