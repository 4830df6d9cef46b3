#include "table_read.hpp"

#include <algorithm>
#include <cmath>
#include <memory>

#include "arrow_atoms.hpp"
#include "arrow_value.hpp"
#include "text.hpp"

namespace pythonx {
namespace {

constexpr std::int64_t seconds_of_day = 86400;
constexpr std::int64_t last_year = 9999;  // of Elixir's calendar, and the first one negated

// Rows between two looks at whether anybody waits for the result.
constexpr std::int64_t rows_between_looks = 1 << 16;

// Reads the values of one array. Indices are into its buffers: they include its offset.
class Reader {
 public:
  Reader(ErlNifEnv* env, const Type& type, const ArrowArray& array, const ReadOptions& options,
         std::string* problem)
      : env_(env), type_(type), array_(array), options_(options), problem_(problem) {
    if (array.null_count != 0 && array.n_buffers > 0) validity_ = array.buffers[0];
    for (std::size_t i = 0; i < type.children.size(); ++i) {
      children_.emplace_back(env, type.children[i], *array.children[i], options, problem);
      names_.push_back(make_binary(env, type.children[i].name));
    }
    if (type.dictionary.empty()) return;
    children_.emplace_back(env, type.dictionary[0], *array.dictionary, options, problem);
    seen_.resize(static_cast<std::size_t>(array.dictionary->length));
  }

  // The rows [from, to) before `tail`; 0 with *row set to the one that has no term.
  Term list(std::int64_t from, std::int64_t to, Term tail, std::int64_t* row);

  // The term of a value; 0 with the problem set.
  Term value(std::int64_t i) {
    if (validity_ != nullptr && !bit_at(validity_, i)) return atoms.nil;
    return type_.dictionary.empty() ? present(i) : looked_up(i);
  }

 private:
  bool valid(std::int64_t i) const { return validity_ == nullptr || bit_at(validity_, i); }
  const void* buffer(int n) const { return array_.buffers[n]; }
  Term child(std::size_t n, std::int64_t i) { return children_[n].value(children_[n].array_.offset + i); }

  template <typename Make>
  Term list_by(std::int64_t from, std::int64_t to, Term tail, std::int64_t* row, Make make);
  Term problem(const char* text) {
    *problem_ = text;
    return 0;
  }

  Term present(std::int64_t i);
  Term nested(std::int64_t i);
  Term looked_up(std::int64_t i);
  Term integer(std::int64_t i) { return enif_make_int64(env_, signed_at(i)); }
  Term natural(std::int64_t i) { return enif_make_uint64(env_, natural_at(i)); }
  Term real(std::int64_t i);
  Term text(std::int64_t i) { return utf8(slice(i)); }
  Term utf8(std::string_view bytes);
  Term bytes(std::string_view bytes);
  std::string_view slice(std::int64_t i) const;
  std::string_view view(std::int64_t i) const;
  std::int64_t signed_at(std::int64_t i) const;
  std::uint64_t natural_at(std::int64_t i) const;

  Term date(std::int64_t i);
  Term time(std::int64_t i);
  Term timestamp(std::int64_t i);
  Term duration(std::int64_t i);
  Term decimal(std::int64_t i);
  bool microseconds(std::int64_t fraction, Term* out);

  Term list_of(std::int64_t from, std::int64_t to);
  Term structure(std::int64_t i);
  Term map(std::int64_t i);
  Term run(std::int64_t i);

  ErlNifEnv* env_;
  const Type& type_;
  const ArrowArray& array_;
  const ReadOptions& options_;
  std::string* problem_;
  const void* validity_ = nullptr;
  std::vector<Reader> children_;  // for a dictionary, its values
  std::vector<Term> names_;
  std::vector<Term> seen_;  // of a dictionary: the terms that were made already
};

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

Term Reader::date(std::int64_t i) {
  constexpr std::int64_t milliseconds = 1000 * seconds_of_day;
  std::int64_t days = signed_at(i);
  if (type_.width == 8) {
    if (days % milliseconds != 0) return problem("a date has a time of day, which Date cannot hold");
    days /= milliseconds;
  }
  const CivilDate civil = civil_of_days(days);
  if (civil.year > last_year || civil.year < -last_year)
    return problem("a date is outside of the years -9999 to 9999");
  Term keys[] = {atoms.struct_, arrow_atoms.calendar, arrow_atoms.day, arrow_atoms.month, arrow_atoms.year};
  Term values[] = {arrow_atoms.date_struct, arrow_atoms.iso, enif_make_int(env_, civil.day),
                   enif_make_int(env_, civil.month), enif_make_int64(env_, civil.year)};
  Term map;
  enif_make_map_from_arrays(env_, keys, values, 5, &map);
  return map;
}

// {microseconds, digits} for a part of a second in the unit of the type.
bool Reader::microseconds(std::int64_t fraction, Term* out) {
  const int digits = std::min(3 * static_cast<int>(type_.unit), 6);
  if (type_.unit == Unit::nanosecond) {
    if (fraction % 1000 != 0 && !options_.truncate) return false;
    fraction /= 1000;
  } else {
    fraction *= 1'000'000 / per_second(type_.unit);
  }
  *out = make_tuple(env_, enif_make_int64(env_, fraction), enif_make_int(env_, digits));
  return true;
}

constexpr char nanoseconds_text[] =
    "a value has nanoseconds, of which Elixir's types hold no parts of a thousand; nanoseconds: :truncate "
    "cuts them";

Term Reader::time(std::int64_t i) {
  const std::int64_t unit = per_second(type_.unit);
  const std::int64_t value = signed_at(i);
  if (value < 0 || value >= seconds_of_day * unit) return problem("a time is outside of the day");
  const std::int64_t second = value / unit;
  Term fraction;
  if (!microseconds(value % unit, &fraction)) return problem(nanoseconds_text);
  Term keys[] = {atoms.struct_,      arrow_atoms.calendar, arrow_atoms.hour,
                 arrow_atoms.minute, arrow_atoms.second,   arrow_atoms.microsecond};
  Term values[] = {arrow_atoms.time_struct,
                   arrow_atoms.iso,
                   enif_make_int64(env_, second / 3600),
                   enif_make_int64(env_, second / 60 % 60),
                   enif_make_int64(env_, second % 60),
                   fraction};
  Term map;
  enif_make_map_from_arrays(env_, keys, values, 6, &map);
  return map;
}

Term Reader::timestamp(std::int64_t i) {
  const std::int64_t unit = per_second(type_.unit);
  const std::int64_t value = signed_at(i);
  const std::int64_t seconds = floor_divide(value, unit);
  const std::int64_t days = floor_divide(seconds, seconds_of_day);
  const std::int64_t second = seconds - days * seconds_of_day;
  const CivilDate civil = civil_of_days(days);
  if (civil.year > last_year || civil.year < -last_year)
    return problem("a time is outside of the years -9999 to 9999");
  Term fraction;
  if (!microseconds(value - seconds * unit, &fraction)) return problem(nanoseconds_text);
  const Term zero = enif_make_int(env_, 0);
  Term keys[] = {atoms.struct_,         arrow_atoms.calendar,  arrow_atoms.year,
                 arrow_atoms.month,     arrow_atoms.day,       arrow_atoms.hour,
                 arrow_atoms.minute,    arrow_atoms.second,    arrow_atoms.microsecond,
                 arrow_atoms.time_zone, arrow_atoms.zone_abbr, arrow_atoms.utc_offset,
                 arrow_atoms.std_offset};
  Term values[] = {arrow_atoms.naive_struct,
                   arrow_atoms.iso,
                   enif_make_int64(env_, civil.year),
                   enif_make_int(env_, civil.month),
                   enif_make_int(env_, civil.day),
                   enif_make_int64(env_, second / 3600),
                   enif_make_int64(env_, second / 60 % 60),
                   enif_make_int64(env_, second % 60),
                   fraction,
                   0,
                   0,
                   zero,
                   zero};
  Term map;
  if (type_.zone.empty()) {
    enif_make_map_from_arrays(env_, keys, values, 9, &map);
    return map;
  }
  values[0] = arrow_atoms.datetime_struct;
  values[9] = make_binary(env_, "Etc/UTC");
  values[10] = make_binary(env_, "UTC");
  enif_make_map_from_arrays(env_, keys, values, 13, &map);
  return map;
}

Term Reader::duration(std::int64_t i) {
  const std::int64_t value = signed_at(i);
  if (!options_.durations) {
    const Term units[] = {arrow_atoms.second, arrow_atoms.millisecond, arrow_atoms.microsecond,
                          arrow_atoms.nanosecond};
    return make_tuple(env_, enif_make_int64(env_, value), units[static_cast<int>(type_.unit)]);
  }
  const std::int64_t unit = per_second(type_.unit);
  Term fraction;
  if (!microseconds(value % unit, &fraction)) return problem(nanoseconds_text);
  const Term zero = enif_make_int(env_, 0);
  Term keys[] = {atoms.struct_,      arrow_atoms.year,   arrow_atoms.month,
                 arrow_atoms.week,   arrow_atoms.day,    arrow_atoms.hour,
                 arrow_atoms.minute, arrow_atoms.second, arrow_atoms.microsecond};
  Term values[] = {arrow_atoms.duration_struct,         zero,    zero, zero, zero, zero, zero,
                   enif_make_int64(env_, value / unit), fraction};
  Term map;
  enif_make_map_from_arrays(env_, keys, values, 9, &map);
  return map;
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

// Calls `visit(batch, from, to, row)` for the parts of batches that lie in the rows [offset, offset + length), the last one
// first, `row` being the number of the first of them. Stops when it returns false.
template <typename Visit>
void visit_batches(const Table& table, std::int64_t offset, std::int64_t length, Visit visit) {
  std::int64_t end = table.rows;
  for (std::size_t batch = table.batches.size(); batch-- > 0;) {
    const std::int64_t start = end - table.batches[batch];
    const std::int64_t first = std::max(start, offset);
    for (std::int64_t last = std::min(end, offset + length); last > first;) {
      const std::int64_t from = std::max(first, last - rows_between_looks);
      if (!visit(batch, from - start, last - start, from)) return;
      last = from;
    }
    end = start;
  }
}

}  // namespace

Term read_column(ErlNifEnv* env, const Table& table, std::size_t index, std::int64_t offset,
                 std::int64_t length, const ReadOptions& options, ReadFailure* failure) {
  const Column& column = table.columns[index];
  Term list = enif_make_list(env, 0);
  std::unique_ptr<Reader> reader;
  std::size_t current = table.batches.size();
  visit_batches(
      table, offset, length, [&](std::size_t batch, std::int64_t from, std::int64_t to, std::int64_t row) {
        const Chunk& chunk = column.chunks[batch];
        if (batch != current)
          reader = std::make_unique<Reader>(env, *column.type, *chunk.array, options, &failure->text);
        current = batch;
        std::int64_t failed = 0;
        list = reader->list(chunk.offset + from, chunk.offset + to, list, &failed);
        if (list == 0) *failure = {index, row + failed - chunk.offset - from, failure->text};
        return list != 0 && enif_is_current_process_alive(env);
      });
  return list;
}

namespace {

// Reads the rows of a batch as maps.
class RowReader {
 public:
  RowReader(ErlNifEnv* env, const Table& table, std::size_t batch, const ReadOptions& options,
            ReadFailure* failure)
      : env_(env), failure_(failure) {
    for (const Column& column : table.columns) {
      const Chunk& chunk = column.chunks[batch];
      readers_.emplace_back(env, *column.type, *chunk.array, options, &failure->text);
      offsets_.push_back(chunk.offset);
      names_.push_back(make_binary(env, column.type->name));
    }
    values_.resize(names_.size());
  }

  // 0 with the column of the failure set.
  Term row(std::int64_t i) {
    for (std::size_t n = 0; n < readers_.size(); ++n) {
      values_[n] = readers_[n].value(offsets_[n] + i);
      if (values_[n] != 0) continue;
      failure_->column = n;
      return 0;
    }
    Term map;
    enif_make_map_from_arrays(env_, names_.data(), values_.data(), values_.size(), &map);
    return map;
  }

 private:
  ErlNifEnv* env_;
  ReadFailure* failure_;
  std::vector<Reader> readers_;
  std::vector<std::int64_t> offsets_;
  std::vector<Term> names_;
  std::vector<Term> values_;
};

}  // namespace

Term read_rows(ErlNifEnv* env, const Table& table, std::int64_t offset, std::int64_t length,
               const ReadOptions& options, ReadFailure* failure) {
  Term list = enif_make_list(env, 0);
  std::unique_ptr<RowReader> reader;
  std::size_t current = table.batches.size();
  visit_batches(table, offset, length,
                [&](std::size_t batch, std::int64_t from, std::int64_t to, std::int64_t row) {
                  if (batch != current)
                    reader = std::make_unique<RowReader>(env, table, batch, options, failure);
                  current = batch;
                  for (std::int64_t i = to; i-- > from && list != 0;) {
                    const Term map = reader->row(i);
                    if (map == 0) failure->row = row + i - from;
                    list = map == 0 ? 0 : enif_make_list_cell(env, map, list);
                  }
                  return list != 0 && enif_is_current_process_alive(env);
                });
  return list;
}

}  // namespace pythonx
