// Arrays that are made here, with the memory that they own.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "tables/table.hpp"

namespace pythonx {

// An array with its memory. Whoever has the shared pointer to the outermost one has it all.
struct Built {
  ArrowArray array{};
  std::vector<const void*> buffers;
  std::vector<std::shared_ptr<const void>> memory;
  std::vector<std::unique_ptr<Built>> children;
  std::vector<ArrowArray*> pointers;
  std::unique_ptr<Built> dictionary;

  void add_absent_buffer() { buffers.push_back(nullptr); }

  template <typename T>
  void add_buffer(std::vector<T>&& values) {
    // There are readers that want a pointer where there is nothing to read.
    if (values.capacity() == 0) values.reserve(1);
    auto kept = std::make_shared<std::vector<T>>(std::move(values));
    buffers.push_back(kept->data());
    memory.push_back(std::move(kept));
  }

  void add_child(std::unique_ptr<Built> child) {
    pointers.push_back(&child->array);
    children.push_back(std::move(child));
  }

  void finish(std::int64_t length, std::int64_t nulls) {
    array.length = length;
    array.null_count = nulls;
    array.n_buffers = static_cast<std::int64_t>(buffers.size());
    array.buffers = buffers.data();
    array.n_children = static_cast<std::int64_t>(pointers.size());
    array.children = pointers.data();
    array.dictionary = dictionary == nullptr ? nullptr : &dictionary->array;
  }
};

// Gives it to whoever needs it, and counts it until it is gone.
inline ArrayPtr share(std::unique_ptr<Built> built) {
  count_array(1);
  const std::shared_ptr<Built> shared(built.release(), [](Built* owned) {
    delete owned;
    count_array(-1);
  });
  return {shared, &shared->array};
}

}  // namespace pythonx
