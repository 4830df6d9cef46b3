// The values that refer to others: offsets, sizes, indices, views, run ends, type ids.
#include <algorithm>
#include <limits>
#include <type_traits>
#include <vector>

#include "tables/arrow_value.hpp"
#include "tables/check.hpp"
#include "tables/union_type.hpp"

namespace pythonx {
namespace {

std::string at(std::int64_t i, const ArrowArray& array) { return ", at value " + number(i - array.offset); }

// Blocks of values are looked at as a whole, by loops that the compiler can make into vector instructions, and one by one only
// where something was found.
constexpr std::int64_t block = 4096;

// Whether values of a block are negative or less than those before them. The sign of a difference tells that, unless it
// overflows, for which a value must be negative.
template <typename Offset>
bool may_descend(const char* values) {
  using Bits = std::make_unsigned_t<Offset>;
  Bits found = 0;
  for (std::int64_t i = 0; i < block; ++i) {
    const auto next = load<Bits>(values, i + 1);
    found |= static_cast<Bits>(next - load<Bits>(values, i)) | next;
  }
  return static_cast<Offset>(found) < 0;
}

// The place in [from, to) of the first offset after which there is a smaller one; -1 for none.
template <typename Offset>
std::int64_t first_descent(const void* buffer, std::int64_t from, std::int64_t to) {
  const char* bytes = static_cast<const char*>(buffer);
  for (std::int64_t i = from; i < to;) {
    const std::int64_t end = std::min(i + block, to);
    const bool whole = end - i == block;
    if (whole && !may_descend<Offset>(bytes + i * static_cast<std::int64_t>(sizeof(Offset)))) {
      i = end;
      continue;
    }
    for (; i < end; ++i) {
      if (load<Offset>(buffer, i + 1) < load<Offset>(buffer, i)) return i;
    }
  }
  return -1;
}

// Whether all indices of a block are less than a limit, as the signs of differences tell for those without a sign bit.
template <typename Index>
bool is_inside(const char* values, Index limit) {
  Index all = ~Index{0};
  for (std::int64_t i = 0; i < block; ++i) {
    const auto index = load<Index>(values, i);
    all &= static_cast<Index>(static_cast<Index>(index - limit) & ~index);
  }
  return static_cast<std::make_signed_t<Index>>(all) < 0;
}

// The place of the first index in [from, to) that is `limit` or more, nulls left aside; -1 for none. What is negative is large
// without its sign.
template <typename Index>
std::int64_t first_outside(const void* buffer, const void* validity, std::int64_t from, std::int64_t to,
                           std::uint64_t limit) {
  constexpr std::uint64_t sign = std::uint64_t{1} << (8 * sizeof(Index) - 1);
  if (limit > std::numeric_limits<Index>::max()) return -1;
  const char* bytes = static_cast<const char*>(buffer);
  for (std::int64_t i = from; i < to;) {
    const std::int64_t end = std::min(i + block, to);
    const char* first = bytes + i * static_cast<std::int64_t>(sizeof(Index));
    if (end - i == block && limit <= sign && is_inside(first, static_cast<Index>(limit))) {
      i = end;
      continue;
    }
    for (; i < end; ++i) {
      if (load<Index>(buffer, i) >= limit && (validity == nullptr || bit_at(validity, i))) return i;
    }
  }
  return -1;
}

std::int64_t first_outside(const Type& type, const ArrowArray& array, std::int64_t from, std::int64_t to,
                           std::uint64_t limit) {
  if (type.kind == Kind::integer) limit = std::min(limit, std::uint64_t{1} << (8 * type.width - 1));
  const void* buffer = array.buffers[1];
  const void* validity = validity_of(array);
  switch (type.width) {
    case 1:
      return first_outside<std::uint8_t>(buffer, validity, from, to, limit);
    case 2:
      return first_outside<std::uint16_t>(buffer, validity, from, to, limit);
    case 4:
      return first_outside<std::uint32_t>(buffer, validity, from, to, limit);
    default:
      return first_outside<std::uint64_t>(buffer, validity, from, to, limit);
  }
}

std::int64_t signed_at(const Type& type, const ArrowArray& array, std::int64_t i) {
  const void* buffer = array.buffers[1];
  switch (type.width) {
    case 1:
      return load<std::int8_t>(buffer, i);
    case 2:
      return load<std::int16_t>(buffer, i);
    case 4:
      return load<std::int32_t>(buffer, i);
    default:
      return load<std::int64_t>(buffer, i);
  }
}

std::string check_view(const ArrowArray& array, std::int64_t i) {
  constexpr std::int32_t longest_inline = 12;
  const char* view = static_cast<const char*>(array.buffers[1]) + 16 * i;
  const auto size = load<std::int32_t>(view, 0);
  if (size < 0) return "the size of a value is " + number(size) + at(i, array);
  if (size <= longest_inline) return {};
  const auto buffer = load<std::int32_t>(view, 2);
  const auto offset = load<std::int32_t>(view, 3);
  const std::int64_t buffers = array.n_buffers - 3;
  if (buffer < 0 || buffer >= buffers)
    return "a value refers to buffer " + number(buffer) + " of " + number(buffers) + at(i, array);
  const auto limit = load<std::int64_t>(array.buffers[array.n_buffers - 1], buffer);
  if (offset >= 0 && std::int64_t{offset} + size <= limit) return {};
  return "a value of " + number(size) + " bytes begins at " + number(offset) + " of a buffer of " +
         number(limit) + at(i, array);
}

std::string check_views(const ArrowArray& array, std::int64_t from, std::int64_t to) {
  const void* validity = validity_of(array);
  for (std::int64_t i = from; i < to; ++i) {
    if (validity != nullptr && !bit_at(validity, i)) continue;
    if (std::string wrong = check_view(array, i); !wrong.empty()) return wrong;
  }
  return {};
}

// Whether two arrays are the same values in the same memory.
bool is_same(const ArrowArray& a, const ArrowArray& b) {
  if (a.length != b.length || a.offset != b.offset || a.null_count != b.null_count ||
      a.n_buffers != b.n_buffers || (a.dictionary == nullptr) != (b.dictionary == nullptr))
    return false;
  if (!std::equal(a.buffers, a.buffers + a.n_buffers, b.buffers)) return false;
  for (std::int64_t i = 0; i < a.n_children; ++i) {
    if (!is_same(*a.children[i], *b.children[i])) return false;
  }
  return a.dictionary == nullptr || is_same(*a.dictionary, *b.dictionary);
}

// What a range of values reaches in a child.
struct Reach {
  std::int64_t from = std::numeric_limits<std::int64_t>::max();
  std::int64_t to = 0;

  void add(std::int64_t first, std::int64_t last) {
    if (first >= last) return;
    from = std::min(from, first);
    to = std::max(to, last);
  }
};

}  // namespace

bool ValueCheck::is_known(const Type& type, const ArrowArray& array) {
  const ArrowArray*& known = known_[&type];
  if (known != nullptr && is_same(*known, array)) return true;
  known = &array;
  return false;
}

// The values [from, to) of a child, counted from its offset.
std::string ValueCheck::child(const Type& type, const ArrowArray& array, std::size_t n, std::int64_t from,
                              std::int64_t to) {
  const ArrowArray& values = *array.children[n];
  return in_part(type.children[n].name,
                 check(type.children[n], values, values.offset + from, values.offset + to));
}

std::string ValueCheck::children(const Type& type, const ArrowArray& array, std::int64_t from,
                                 std::int64_t to) {
  for (std::size_t n = 0; n < type.children.size(); ++n) {
    if (std::string wrong = child(type, array, n, from, to); !wrong.empty()) return wrong;
  }
  return {};
}

std::string ValueCheck::offsets(const Type& type, const ArrowArray& array, std::int64_t from,
                                std::int64_t to) {
  const void* buffer = array.buffers[1];
  const std::int64_t place = type.width == 4 ? first_descent<std::int32_t>(buffer, from, to)
                                             : first_descent<std::int64_t>(buffer, from, to);
  const auto offset = [&](std::int64_t i) { return offset_at(buffer, type.width, i); };
  if (place >= 0)
    return "its offsets descend from " + number(offset(place)) + " to " + number(offset(place + 1)) +
           at(place, array);
  // Between the first and the last one of the whole array, which are sound, lie those of a part that ascend.
  if (offset(from) < offset(array.offset) || offset(to) > offset(array.offset + array.length))
    return "an offset is " + number(offset(from) < offset(array.offset) ? offset(from) : offset(to)) +
           at(from, array) + ", beyond the others";
  return type.children.empty() ? "" : child(type, array, 0, offset(from), offset(to));
}

std::string ValueCheck::sized_lists(const Type& type, const ArrowArray& array, std::int64_t from,
                                    std::int64_t to) {
  const void* validity = validity_of(array);
  const std::int64_t limit = array.children[0]->length;
  Reach reach;
  for (std::int64_t i = from; i < to; ++i) {
    if (validity != nullptr && !bit_at(validity, i)) continue;
    const std::int64_t offset = offset_at(array.buffers[1], type.width, i);
    const std::int64_t size = offset_at(array.buffers[2], type.width, i);
    if (offset < 0 || size < 0 || offset > limit || size > limit - offset)
      return "a list of " + number(size) + " values begins at " + number(offset) + " of " + number(limit) +
             at(i, array);
    reach.add(offset, offset + size);
  }
  return reach.to == 0 ? "" : child(type, array, 0, reach.from, reach.to);
}

std::string ValueCheck::indices(const Type& type, const ArrowArray& array, std::int64_t from,
                                std::int64_t to) {
  const ArrowArray& values = *array.dictionary;
  const std::int64_t place = first_outside(type, array, from, to, static_cast<std::uint64_t>(values.length));
  if (place >= 0)
    return "an index is " + number(signed_at(type, array, place)) + " in a dictionary of " +
           number(values.length) + " values" + at(place, array);
  if (is_known(type.dictionary[0], values)) return {};
  return in_part("dictionary",
                 check(type.dictionary[0], values, values.offset, values.offset + values.length));
}

std::string ValueCheck::runs(const Type& type, const ArrowArray& array, std::int64_t from, std::int64_t to) {
  const Type& end_type = type.children[0];
  const ArrowArray& ends = *array.children[0];
  const auto end = [&](std::int64_t run) { return signed_at(end_type, ends, ends.offset + run); };
  if (const std::int64_t last = end(ends.length - 1); last < array.offset + array.length)
    return "its last run ends at " + number(last) + ", before its " + number(array.offset + array.length) +
           " values";
  if (!is_known(end_type, ends)) {
    for (std::int64_t run = 0, previous = 0; run < ends.length; previous = end(run++)) {
      if (end(run) <= previous)
        return "run " + number(run) + " ends at " + number(end(run)) + ", the one before at " +
               number(previous);
    }
  }
  // The run of a row is the first that ends after it.
  const auto run_of = [&](std::int64_t row) {
    std::int64_t first = 0;
    for (std::int64_t last = ends.length; first < last;) {
      const std::int64_t middle = first + (last - first) / 2;
      if (end(middle) > row) {
        last = middle;
      } else {
        first = middle + 1;
      }
    }
    return first;
  };
  return child(type, array, 1, run_of(from), run_of(to - 1) + 1);
}

std::string ValueCheck::united(const Type& type, const ArrowArray& array, std::int64_t from,
                               std::int64_t to) {
  UnionLayout layout;
  if (!read_union(type, &layout)) return {};
  const std::int64_t first = first_union_buffer(layout, array.n_buffers);
  std::vector<Reach> reach(type.children.size());
  for (std::int64_t i = from; i < to; ++i) {
    const auto id = load<std::uint8_t>(array.buffers[first], i);
    const std::int16_t n = layout.child_of[id];
    if (n < 0) return "its type has no child " + number(id < 128 ? id : id - 256) + at(i, array);
    if (!layout.dense) continue;
    const auto offset = load<std::int32_t>(array.buffers[first + 1], i);
    const std::int64_t limit = array.children[n]->length;
    if (offset < 0 || offset >= limit)
      return "an offset is " + number(offset) + " in '" + type.children[static_cast<std::size_t>(n)].name +
             "', which has " + number(limit) + " values" + at(i, array);
    reach[static_cast<std::size_t>(n)].add(offset, offset + std::int64_t{1});
  }
  if (!layout.dense) return children(type, array, from, to);
  for (std::size_t n = 0; n < reach.size(); ++n) {
    if (reach[n].to == 0) continue;
    if (std::string wrong = child(type, array, n, reach[n].from, reach[n].to); !wrong.empty()) return wrong;
  }
  return {};
}

std::string ValueCheck::check(const Type& type, const ArrowArray& array, std::int64_t from, std::int64_t to) {
  if (from >= to) return {};
  if (!type.dictionary.empty() && type.kind != Kind::unsupported) return indices(type, array, from, to);
  switch (type.kind) {
    case Kind::text:
    case Kind::bytes:
    case Kind::list:
    case Kind::map:
      return offsets(type, array, from, to);
    case Kind::text_view:
    case Kind::bytes_view:
      return check_views(array, from, to);
    case Kind::list_view:
      return sized_lists(type, array, from, to);
    case Kind::fixed_list:
      return child(type, array, 0, from * type.width, to * type.width);
    case Kind::structure:
      return children(type, array, from, to);
    case Kind::run_end:
      return runs(type, array, from, to);
    case Kind::unsupported:
      return united(type, array, from, to);
    default:
      return {};
  }
}

}  // namespace pythonx
