// Unions, which have no counterpart in Elixir: how their arrays are laid out, so that they can be checked.
#pragma once

#include <array>
#include <cstdint>

#include "tables/arrow_type.hpp"

namespace pythonx {

// The format is "+ud:" for dense and "+us:" for sparse ones, then the type id of each child, between commas.
struct UnionLayout {
  bool dense = false;
  std::array<std::int16_t, 256> child_of{};  // the child of each byte that is a type id; -1 for none
};

// False for what is no union.
bool read_union(const Type& type, UnionLayout* out);

// Old producers put an absent bitmap of validity before the type ids, and, in dense ones, the offsets.
inline std::int64_t first_union_buffer(const UnionLayout& layout, std::int64_t buffers) {
  return buffers == (layout.dense ? 3 : 2) ? 1 : 0;
}

}  // namespace pythonx
