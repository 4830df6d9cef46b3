// What arrays say of themselves, their buffers and their children. Looks at no values but the first and the last offset.
#include <algorithm>

#include "tables/arrow_value.hpp"
#include "tables/check.hpp"
#include "tables/union_type.hpp"

namespace pythonx {
namespace {

// More values than any memory has bytes: what is counted and added up below this does not overflow.
constexpr std::int64_t most = std::int64_t{1} << 48;

// How many buffers an array of a type has. Of views it has any number from that on; -1 for what nobody here reads.
std::int64_t buffers_of(const Type& type) {
  switch (type.kind) {
    case Kind::unsupported:
      return -1;
    case Kind::null:
    case Kind::run_end:
      return 0;
    case Kind::structure:
    case Kind::fixed_list:
      return 1;
    case Kind::text:
    case Kind::bytes:
    case Kind::list_view:
    case Kind::text_view:
    case Kind::bytes_view:
      return 3;
    default:
      return 2;
  }
}

bool is_view(const Type& type) { return type.kind == Kind::text_view || type.kind == Kind::bytes_view; }

std::string check_buffers(const Type& type, const ArrowArray& array) {
  const std::int64_t expected = buffers_of(type);
  if (array.n_buffers < 0 || array.n_buffers > most) return "it has " + number(array.n_buffers) + " buffers";
  if (array.n_buffers > 0 && array.buffers == nullptr) return "its buffers are missing";
  if (expected < 0) return {};
  const bool enough = is_view(type) ? array.n_buffers >= expected : array.n_buffers == expected;
  // Some producers give types without buffers an absent one.
  const auto absent = [](const void* buffer) { return buffer == nullptr; };
  if (enough || (expected == 0 && std::all_of(array.buffers, array.buffers + array.n_buffers, absent)))
    return {};
  return "it has " + number(array.n_buffers) + " buffers, its type has " + number(expected);
}

std::string check_children(const Type& type, const ArrowArray& array) {
  const auto expected = static_cast<std::int64_t>(type.children.size());
  if (array.n_children != expected)
    return "it has " + number(array.n_children) + " children, its type has " + number(expected);
  if (expected > 0 && array.children == nullptr) return "its children are missing";
  for (std::int64_t i = 0; i < expected; ++i) {
    if (array.children[i] == nullptr) return "child " + number(i) + " is missing";
  }
  if ((array.dictionary != nullptr) == type.dictionary.empty())
    return array.dictionary == nullptr ? "its dictionary is missing"
                                       : "it has a dictionary, which its type has not";
  return {};
}

// Whether the type has a bitmap of validity as its first buffer.
bool has_bitmap(const Type& type) { return buffers_of(type) > 0; }

// The parts of an array whose frame is sound.
struct Shape {
  const Type& type;
  const ArrowArray& array;
  const std::int64_t end = array.offset + array.length;

  bool used() const { return array.length > 0; }

  // A buffer with values of so many bytes each.
  std::string values(int n, std::int64_t width, const char* what) const {
    std::int64_t size;
    if (__builtin_mul_overflow(end, width, &size) || size > most)
      return std::string("its ") + what + " are " + number(end) + " of " + number(width) +
             " bytes, more than any memory has";
    if (used() && size > 0 && array.buffers[n] == nullptr) return std::string("its ") + what + " are missing";
    return {};
  }

  // What has to be there for the values [0, end * each) of a child.
  std::string child_length(std::size_t n, std::int64_t each, const char* what) const {
    const std::int64_t length = array.children[n]->length;
    std::int64_t needed = 0;
    const bool impossible = __builtin_mul_overflow(end, each, &needed) || needed > length;
    if (!used() || !impossible) return {};
    return std::string("its ") + what + " '" + type.children[n].name + "' has " + number(length) +
           " values, too few for its " + number(end) + (each == 1 ? "" : " of " + number(each));
  }

  // The first and the last offset, into something of a length.
  std::string offsets(std::int64_t limit, const char* into) const {
    if (std::string wrong = values(1, type.width, "offsets"); !wrong.empty()) return wrong;
    const void* buffer = array.buffers[1];
    // Without values there need not be one.
    if (buffer == nullptr || end == 0) return {};
    const std::int64_t first = offset_at(buffer, type.width, array.offset);
    const std::int64_t last = offset_at(buffer, type.width, end);
    if (first < 0) return "its first offset is " + number(first);
    if (last < first) return "its last offset, " + number(last) + ", is before the first, " + number(first);
    if (last > limit)
      return "its last offset, " + number(last) + ", is beyond the " + number(limit) + " " + into;
    return {};
  }

  std::string bytes() const {
    if (std::string wrong = offsets(most, "bytes that any memory has"); !wrong.empty()) return wrong;
    const void* buffer = array.buffers[1];
    if (!used() || array.buffers[2] != nullptr) return {};
    const bool empty = offset_at(buffer, type.width, array.offset) == offset_at(buffer, type.width, end);
    return empty ? "" : "its bytes are missing";
  }

  // Buffers of any number between views and their sizes.
  std::string views() const {
    if (std::string wrong = values(1, 16, "views"); !wrong.empty()) return wrong;
    const std::int64_t buffers = array.n_buffers - 3;
    const void* sizes = array.buffers[array.n_buffers - 1];
    if (buffers > 0 && sizes == nullptr) return "the sizes of its buffers are missing";
    for (std::int64_t i = 0; i < buffers; ++i) {
      const auto size = load<std::int64_t>(sizes, i);
      if (size < 0 || size > most) return "the size of its buffer " + number(i) + " is " + number(size);
      if (size > 0 && array.buffers[2 + i] == nullptr) return "its buffer " + number(i) + " is missing";
    }
    return {};
  }

  std::string sized_lists() const {
    if (std::string wrong = values(1, type.width, "offsets"); !wrong.empty()) return wrong;
    return values(2, type.width, "sizes");
  }

  std::string fields() const {
    for (std::size_t n = 0; n < type.children.size(); ++n) {
      if (std::string wrong = child_length(n, 1, "field"); !wrong.empty()) return wrong;
    }
    return {};
  }

  std::string runs() const {
    const std::int64_t ends = array.children[0]->length;
    const std::int64_t runs = array.children[1]->length;
    if (runs < ends) return "it has " + number(ends) + " run ends, but " + number(runs) + " values";
    return used() && ends == 0 ? "it has no runs for its " + number(array.length) + " values" : "";
  }

  std::string united() const {
    UnionLayout layout;
    if (!read_union(type, &layout)) return {};
    const std::int64_t first = first_union_buffer(layout, array.n_buffers);
    const std::int64_t expected = first + (layout.dense ? 2 : 1);
    if (array.n_buffers != expected)
      return "it has " + number(array.n_buffers) + " buffers, its type has " + number(expected);
    for (std::int64_t n = first; n < expected && used(); ++n) {
      if (array.buffers[n] == nullptr)
        return n == first ? "its type ids are missing" : "its offsets are missing";
    }
    return layout.dense ? "" : fields();
  }

  std::string check() const {
    switch (type.kind) {
      case Kind::null:
        return {};
      case Kind::boolean:
        return values(1, 1, "values");
      case Kind::text:
      case Kind::bytes:
        return bytes();
      case Kind::text_view:
      case Kind::bytes_view:
        return views();
      case Kind::list:
      case Kind::map:
        return offsets(array.children[0]->length, "values of its lists");
      case Kind::list_view:
        return sized_lists();
      case Kind::fixed_list:
        return child_length(0, type.width, "child");
      case Kind::structure:
        return fields();
      case Kind::run_end:
        return runs();
      case Kind::unsupported:
        return united();
      default:
        return values(1, type.width, "values");
    }
  }
};

}  // namespace

std::string in_part(const std::string& name, const std::string& wrong) {
  return wrong.empty() ? wrong : "in '" + name + "', " + wrong;
}

std::string check_frame(const Type& type, const ArrowArray& array) {
  if (array.release == nullptr) return "it has been released already";
  if (array.length < 0 || array.length > most) return "its length is " + number(array.length);
  if (array.offset < 0 || array.offset > most) return "its offset is " + number(array.offset);
  if (array.null_count < -1 || array.null_count > array.length)
    return "its count of nulls is " + number(array.null_count) + ", of " + number(array.length) + " values";
  if (std::string wrong = check_buffers(type, array); !wrong.empty()) return wrong;
  if (has_bitmap(type) && array.null_count > 0 && array.buffers[0] == nullptr)
    return "its count of nulls is " + number(array.null_count) + ", but nothing says which";
  return check_children(type, array);
}

std::string check_shape(const Type& type, const ArrowArray& array) {
  if (std::string wrong = check_frame(type, array); !wrong.empty()) return wrong;
  for (std::size_t i = 0; i < type.children.size(); ++i) {
    std::string wrong = in_part(type.children[i].name, check_shape(type.children[i], *array.children[i]));
    if (!wrong.empty()) return wrong;
  }
  if (array.dictionary != nullptr) {
    std::string wrong = in_part("dictionary", check_shape(type.dictionary[0], *array.dictionary));
    if (!wrong.empty()) return wrong;
  }
  return Shape{type, array}.check();
}

}  // namespace pythonx
