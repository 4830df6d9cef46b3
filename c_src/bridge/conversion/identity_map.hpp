// A map from objects, by identity, to the terms they became.
#pragma once

#include <Python.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "vm/term.hpp"

namespace pythonx {

// Holds no references: whoever inserts an object keeps it alive, or its address may come back as another's.
class IdentityMap {
 public:
  struct Entry {
    PyObject* object = nullptr;
    Term term = 0;
  };

  bool empty() const { return count_ == 0; }

  // The entry of the object, or nullptr. Valid until the next insertion.
  Entry* find(PyObject* object) {
    if (entries_.empty()) return nullptr;
    Entry* entry = probe(object);
    return entry->object != nullptr ? entry : nullptr;
  }

  // Adds an object that is not there yet.
  void insert(PyObject* object, Term term) {
    if (2 * (count_ + 1) > entries_.size()) grow();
    *probe(object) = {object, term};
    count_ += 1;
  }

  template <typename Function>
  void each(Function function) const {
    for (const Entry& entry : entries_) {
      if (entry.object != nullptr) function(entry.object);
    }
  }

 private:
  Entry* probe(PyObject* object) {
    const std::size_t mask = entries_.size() - 1;
    // The low bits of addresses are all the same.
    std::size_t i =
        (reinterpret_cast<std::uintptr_t>(object) * std::uint64_t{0x9E3779B97F4A7C15}) >> 32 & mask;
    while (entries_[i].object != nullptr && entries_[i].object != object) i = (i + 1) & mask;
    return &entries_[i];
  }

  void grow() {
    std::vector<Entry> old(entries_.empty() ? 64 : 2 * entries_.size());
    old.swap(entries_);
    for (const Entry& entry : old) {
      if (entry.object != nullptr) *probe(entry.object) = entry;
    }
  }

  std::vector<Entry> entries_;
  std::size_t count_ = 0;
};

}  // namespace pythonx
