#include "tables/reader.hpp"

#include <cmath>

#include "conversion/text.hpp"
#include "tables/arrow_atoms.hpp"

namespace pythonx {

std::int64_t Reader::signed_at(std::int64_t i) const {
  switch (type_.width) {
    case 1:
      return load<std::int8_t>(buffer(1), i);
    case 2:
      return load<std::int16_t>(buffer(1), i);
    case 4:
      return load<std::int32_t>(buffer(1), i);
    default:
      return load<std::int64_t>(buffer(1), i);
  }
}

std::uint64_t Reader::natural_at(std::int64_t i) const {
  switch (type_.width) {
    case 1:
      return load<std::uint8_t>(buffer(1), i);
    case 2:
      return load<std::uint16_t>(buffer(1), i);
    case 4:
      return load<std::uint32_t>(buffer(1), i);
    default:
      return load<std::uint64_t>(buffer(1), i);
  }
}

Term Reader::real(std::int64_t i) {
  const double value = type_.width == 8   ? load<double>(buffer(1), i)
                       : type_.width == 4 ? static_cast<double>(load<float>(buffer(1), i))
                                          : double_of_half(load<std::uint16_t>(buffer(1), i));
  if (std::isfinite(value)) return enif_make_double(env_, value);
  return std::isnan(value) ? atoms.nan : value > 0 ? atoms.infinity : atoms.neg_infinity;
}

Term Reader::bytes(std::string_view bytes) {
  Term term;
  unsigned char* data = enif_make_new_binary(env_, bytes.size(), &term);
  if (!bytes.empty()) copy_short(data, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  return term;
}

Term Reader::utf8(std::string_view text) {
  const auto* data = reinterpret_cast<const unsigned char*>(text.data());
  TextShape shape;
  if (!is_ascii(data, text.size()) && !measure_utf8(data, text.size(), &shape))
    return problem("a string is not UTF-8");
  return bytes(text);
}

std::string_view Reader::slice(std::int64_t i) const {
  const std::int64_t from = offset_at(buffer(1), type_.width, i);
  const std::int64_t to = offset_at(buffer(1), type_.width, i + 1);
  if (from == to) return {};
  return {static_cast<const char*>(buffer(2)) + from, static_cast<std::size_t>(to - from)};
}

// A view is 16 bytes: a length, then the bytes, or if they are more than 12 the first four of them, the number of a buffer
// and the place in it.
std::string_view Reader::view(std::int64_t i) const {
  constexpr std::int32_t longest_inline = 12;
  const char* view = static_cast<const char*>(buffer(1)) + 16 * i;
  const auto size = load<std::int32_t>(view, 0);
  if (size <= longest_inline) return {view + 4, static_cast<std::size_t>(size)};
  const auto* data = static_cast<const char*>(buffer(2 + load<std::int32_t>(view, 2)));
  return {data + load<std::int32_t>(view, 3), static_cast<std::size_t>(size)};
}

Term Reader::looked_up(std::int64_t i) {
  const std::uint64_t index =
      type_.kind == Kind::natural ? natural_at(i) : static_cast<std::uint64_t>(signed_at(i));
  if (index >= seen_.size()) return problem("an index is outside of its dictionary");
  if (seen_[index] == 0) seen_[index] = child(0, static_cast<std::int64_t>(index));
  return seen_[index];
}

Term Reader::decimal(std::int64_t i) {
  Wide value = load_wide(buffer(1), i, type_.width);
  const Term exponent = enif_make_int(env_, -type_.scale);
  if (!options_.decimals) return make_tuple(env_, wide_term(env_, value), exponent);
  const bool negative = value.negative();
  if (negative) value.negate();
  Term keys[] = {atoms.struct_, arrow_atoms.coef, arrow_atoms.exp, arrow_atoms.sign};
  Term values[] = {arrow_atoms.decimal_struct, wide_term(env_, value), exponent,
                   enif_make_int(env_, negative ? -1 : 1)};
  Term map;
  enif_make_map_from_arrays(env_, keys, values, 4, &map);
  return map;
}

// The elements of a list: [from, to) of the child.
Term Reader::list_of(std::int64_t from, std::int64_t to) {
  const std::int64_t offset = children_[0].array_.offset;
  std::int64_t row;
  return children_[0].list(offset + from, offset + to, enif_make_list(env_, 0), &row);
}

Term Reader::structure(std::int64_t i) {
  std::vector<Term> values(children_.size());
  for (std::size_t n = 0; n < children_.size(); ++n) {
    values[n] = child(n, i);
    if (values[n] == 0) return 0;
  }
  Term map;
  if (make_distinct_map(env_, names_.data(), values.data(), values.size(), &map)) return map;
  return problem("a struct has two fields of one name");
}

Term Reader::map(std::int64_t i) {
  const std::int64_t from = offset_at(buffer(1), type_.width, i);
  const std::int64_t to = offset_at(buffer(1), type_.width, i + 1);
  Reader& entries = children_[0];
  std::vector<Term> keys;
  std::vector<Term> values;
  for (std::int64_t entry = entries.array_.offset + from; entry < entries.array_.offset + to; ++entry) {
    keys.push_back(entries.child(0, entry));
    values.push_back(entries.child(1, entry));
    if (keys.back() == 0 || values.back() == 0) return 0;
  }
  Term map;
  if (make_distinct_map(env_, keys.data(), values.data(), keys.size(), &map)) return map;
  return problem("a map has a key twice");
}

// Of a run-end encoded array the first child says where each run ends, in increasing order, the second has the values.
Term Reader::run(std::int64_t i) {
  const Reader& ends = children_[0];
  std::int64_t first = 0;
  std::int64_t last = ends.array_.length;
  while (first < last) {
    const std::int64_t middle = (first + last) / 2;
    if (ends.signed_at(ends.array_.offset + middle) > i) {
      last = middle;
    } else {
      first = middle + 1;
    }
  }
  return first < ends.array_.length ? child(1, first) : problem("a row is after the last run");
}

Term Reader::nested(std::int64_t i) {
  switch (type_.kind) {
    case Kind::list:
      return list_of(offset_at(buffer(1), type_.width, i), offset_at(buffer(1), type_.width, i + 1));
    case Kind::list_view: {
      const std::int64_t from = offset_at(buffer(1), type_.width, i);
      return list_of(from, from + offset_at(buffer(2), type_.width, i));
    }
    case Kind::fixed_list:
      return list_of(i * type_.width, (i + 1) * type_.width);
    case Kind::structure:
      return structure(i);
    case Kind::map:
      return map(i);
    case Kind::run_end:
      return run(i);
    case Kind::null:
      return atoms.nil;
    default:
      return problem("a type has no counterpart in Elixir");
  }
}

Term Reader::present(std::int64_t i) {
  switch (type_.kind) {
    case Kind::boolean:
      return bit_at(buffer(1), i) ? atoms.true_ : atoms.false_;
    case Kind::integer:
      return integer(i);
    case Kind::natural:
      return natural(i);
    case Kind::real:
      return real(i);
    case Kind::text:
      return text(i);
    case Kind::text_view:
      return utf8(view(i));
    case Kind::bytes:
      return bytes(slice(i));
    case Kind::bytes_view:
      return bytes(view(i));
    case Kind::fixed_bytes:
      return bytes(
          {static_cast<const char*>(buffer(1)) + i * type_.width, static_cast<std::size_t>(type_.width)});
    case Kind::date:
      return date(i);
    case Kind::time:
      return time(i);
    case Kind::timestamp:
      return timestamp(i);
    case Kind::duration:
      return duration(i);
    case Kind::decimal:
      return decimal(i);
    default:
      return nested(i);
  }
}

template <typename Make>
Term Reader::list_by(std::int64_t from, std::int64_t to, Term tail, std::int64_t* row, Make make) {
  for (std::int64_t i = to; i-- > from;) {
    const Term head = valid(i) ? make(i) : atoms.nil;
    if (head == 0) {
      *row = i;
      return 0;
    }
    tail = enif_make_list_cell(env_, head, tail);
  }
  return tail;
}

Term Reader::list(std::int64_t from, std::int64_t to, Term tail, std::int64_t* row) {
  const auto by = [&](auto make) { return list_by(from, to, tail, row, make); };
  if (!type_.dictionary.empty()) return by([this](std::int64_t i) { return looked_up(i); });
  if (type_.kind == Kind::integer && type_.width == 8)
    return by([this](std::int64_t i) { return enif_make_int64(env_, load<std::int64_t>(buffer(1), i)); });
  if (type_.kind == Kind::integer) return by([this](std::int64_t i) { return integer(i); });
  if (type_.kind == Kind::real) return by([this](std::int64_t i) { return real(i); });
  if (type_.kind == Kind::text) return by([this](std::int64_t i) { return text(i); });
  if (type_.kind == Kind::text_view) return by([this](std::int64_t i) { return utf8(view(i)); });
  return by([this](std::int64_t i) { return present(i); });
}

}  // namespace pythonx
