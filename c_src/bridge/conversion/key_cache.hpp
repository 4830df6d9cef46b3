// The keys of the maps of one walk: rows of a table repeat theirs, and each needs to become a Python object
// only once.
#pragma once

#include <Python.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "vm/term.hpp"

namespace pythonx {

// Finds keys in two ways. By the word of the term: within one walk the same word is the same term, and maps
// made by one piece of code share the terms of their keys. By content, for short keys that do not (parsed
// JSON makes new ones for each row). Both are direct-mapped tables: a collision costs a new object, never a
// wrong one. Keys are bytes, or ASCII str, or str of atoms: none of them runs code when it is dropped.
class KeyCache {
 public:
  static constexpr std::size_t longest = 32;

  // With `text` the keys by content are ASCII str, else bytes.
  explicit KeyCache(bool text) : text_(text) {}
  KeyCache(const KeyCache&) = delete;
  KeyCache& operator=(const KeyCache&) = delete;

  ~KeyCache() { take(Py_DecRef); }

  // Gives up each reference to `function`.
  void take(void (*function)(PyObject*)) {
    const auto take_one = [function](PyObject*& key) {
      if (key != nullptr) function(std::exchange(key, nullptr));
    };
    for (Entry& entry : by_word_) take_one(entry.key);
    for (PyObject*& key : by_content_) take_one(key);
  }

  // The key made of this very term (borrowed), or nullptr.
  PyObject* find(Term term) {
    const Entry& entry = by_word_[word_index(term)];
    const bool known = entry.term == term;
    misses_ = known ? 0 : misses_ + 1;
    return known ? entry.key : nullptr;
  }

  // Whether there is hope that terms come again: to remember each in vain costs as much as to find it by content.
  bool terms_repeat() const { return misses_ < 4 * by_word_.size(); }

  void remember(Term term, PyObject* key) {
    Entry& entry = by_word_[word_index(term)];
    entry.term = term;
    replace(&entry.key, key);
  }

  // Where a key of these bytes, at most `longest`, is or belongs.
  PyObject** slot(const unsigned char* data, std::size_t size) {
    return &by_content_[content_index(data, size)];
  }

  bool holds(PyObject* key, const unsigned char* data, std::size_t size) const {
    if (key == nullptr) return false;
    if (text_)
      return static_cast<std::size_t>(PyUnicode_GET_LENGTH(key)) == size &&
             same(PyUnicode_DATA(key), data, size);
    return static_cast<std::size_t>(PyBytes_GET_SIZE(key)) == size &&
           same(PyBytes_AS_STRING(key), data, size);
  }

  // Puts `key` in a slot of the cache, which takes a reference of its own.
  static void replace(PyObject** slot, PyObject* key) {
    PyObject* previous = *slot;
    Py_INCREF(key);
    *slot = key;
    Py_XDECREF(previous);
  }

 private:
  struct Entry {
    Term term = 0;  // no term has this word
    PyObject* key = nullptr;
  };

  static constexpr std::size_t size_bits = 8;
  static constexpr std::uint64_t multiplier = 0x9E3779B97F4A7C15;

  static bool same(const void* a, const void* b, std::size_t size) { return std::memcmp(a, b, size) == 0; }

  static std::size_t index_of(std::uint64_t hash) { return (hash * multiplier) >> (64 - size_bits); }

  static std::size_t word_index(Term term) { return index_of(term); }

  template <typename Word>
  static std::uint64_t load(const unsigned char* data) {
    Word word;
    std::memcpy(&word, data, sizeof(word));
    return word;
  }

  static std::size_t content_index(const unsigned char* data, std::size_t size) {
    std::uint64_t hash = size;
    if (size >= 8) {
      for (std::size_t i = 0; i + 8 <= size; i += 8)
        hash = (hash ^ load<std::uint64_t>(data + i)) * multiplier;
      hash ^= hash >> 32 ^ load<std::uint64_t>(data + size - 8);
    } else if (size >= 4) {
      hash ^= load<std::uint32_t>(data) << 8 ^ load<std::uint32_t>(data + size - 4) << 32;
    } else if (size > 0) {
      hash ^= std::uint64_t{data[0]} << 8 ^ std::uint64_t{data[size / 2]} << 16 ^
              std::uint64_t{data[size - 1]} << 24;
    }
    return index_of(hash);
  }

  bool text_;
  std::size_t misses_ = 0;  // since the last time that a term was known
  std::array<Entry, 1U << size_bits> by_word_{};
  std::array<PyObject*, 1U << size_bits> by_content_{};
};

}  // namespace pythonx
