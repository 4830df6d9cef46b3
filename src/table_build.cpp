#include "table_build.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <unordered_map>

#include "arrow_atoms.hpp"
#include "arrow_value.hpp"
#include "built_array.hpp"
#include "text.hpp"

namespace pythonx {
namespace {

constexpr std::int64_t seconds_of_day = 86400;

class Bits {
 public:
  void push(bool bit) {
    if (size_ % 8 == 0) bytes_.push_back(0);
    if (bit) bytes_.back() = static_cast<std::uint8_t>(bytes_.back() | 1U << (size_ % 8));
    ++size_;
  }
  void push_ones(std::int64_t count) {
    for (; count > 0; --count) push(true);
  }
  std::vector<std::uint8_t>&& take() { return std::move(bytes_); }

 private:
  std::vector<std::uint8_t> bytes_;
  std::int64_t size_ = 0;
};

struct Context {
  ErlNifEnv* env;
  BuildFailure* failure;
};

// Takes the values of one array. What `append` refuses ends it all.
class Builder {
 public:
  Builder(const Context& context, Type& type) : context_(context), type_(type) {}
  virtual ~Builder() = default;
  Builder(const Builder&) = delete;
  Builder& operator=(const Builder&) = delete;

  bool add(Term term) {
    if (term == atoms.nil) {
      add_null();
      return true;
    }
    if (!append(term)) return false;
    if (nulls_ > 0) validity_.push(true);
    ++length_;
    return true;
  }

  void add_null() {
    // Most columns have none, and need no bits then.
    if (nulls_ == 0) validity_.push_ones(length_);
    validity_.push(false);
    append_nothing();
    ++nulls_;
    ++length_;
  }

  std::unique_ptr<Built> finish() {
    auto built = std::make_unique<Built>();
    if (nulls_ == 0) built->add_absent_buffer();
    if (nulls_ > 0) built->add_buffer(validity_.take());
    finish(*built);
    built->finish(length_, nulls_);
    set_format(type_);
    return built;
  }

 protected:
  virtual bool append(Term term) = 0;
  virtual void append_nothing() = 0;  // what lies under a null
  virtual void finish(Built& built) = 0;

  bool fail(Term term, Term reason) {
    const std::int64_t row = context_.failure->row;
    *context_.failure = {row, term, reason, type_term(env(), type_)};
    return false;
  }
  ErlNifEnv* env() const { return context_.env; }

  const Context context_;
  Type& type_;
  std::int64_t length_ = 0;
  std::int64_t nulls_ = 0;

 private:
  Bits validity_;
};

std::unique_ptr<Builder> make_builder(const Context& context, Type& type);

class NullBuilder : public Builder {
 public:
  using Builder::Builder;

 protected:
  bool append(Term term) override { return fail(term, arrow_atoms.type); }
  void append_nothing() override {}
  void finish(Built& built) override {
    built.buffers.clear();
    built.memory.clear();
  }
};

class BooleanBuilder : public Builder {
 public:
  using Builder::Builder;

 protected:
  bool append(Term term) override {
    if (term != atoms.true_ && term != atoms.false_) return fail(term, arrow_atoms.type);
    bits_.push(term == atoms.true_);
    return true;
  }
  void append_nothing() override { bits_.push(false); }
  void finish(Built& built) override { built.add_buffer(bits_.take()); }

 private:
  Bits bits_;
};

// Values of a fixed number of bytes; a subclass says what a term is.
template <typename T>
class ValueBuilder : public Builder {
 public:
  using Builder::Builder;

 protected:
  virtual bool convert(Term term, T* out) = 0;
  bool append(Term term) override {
    T value{};
    if (!convert(term, &value)) return false;
    values_.push_back(value);
    return true;
  }
  void append_nothing() override { values_.push_back(T{}); }
  void finish(Built& built) override { built.add_buffer(std::move(values_)); }

  bool get_field(Term map, Term key, std::int64_t* out) {
    Term value;
    ErlNifSInt64 number;
    if (!enif_get_map_value(env(), map, key, &value) || !enif_get_int64(env(), value, &number)) return false;
    *out = number;
    return true;
  }

  bool is_iso(Term map) {
    Term calendar;
    return enif_get_map_value(env(), map, arrow_atoms.calendar, &calendar) && calendar == arrow_atoms.iso;
  }

 private:
  std::vector<T> values_;
};

template <typename T>
class IntegerBuilder : public ValueBuilder<T> {
 public:
  using ValueBuilder<T>::ValueBuilder;

 protected:
  bool convert(Term term, T* out) override {
    using Wider = std::conditional_t<std::is_signed_v<T>, ErlNifSInt64, ErlNifUInt64>;
    Wider value = 0;
    double real;
    const bool got = std::is_signed_v<T>
                         ? enif_get_int64(this->env(), term, reinterpret_cast<ErlNifSInt64*>(&value)) != 0
                         : enif_get_uint64(this->env(), term, reinterpret_cast<ErlNifUInt64*>(&value)) != 0;
    *out = static_cast<T>(value);
    if (got && static_cast<Wider>(*out) == value) return true;
    const bool integer = enif_is_number(this->env(), term) && !enif_get_double(this->env(), term, &real);
    return this->fail(term, integer ? arrow_atoms.range : arrow_atoms.type);
  }
};

template <typename T>
class RealBuilder : public ValueBuilder<T> {
 public:
  using ValueBuilder<T>::ValueBuilder;

 protected:
  bool convert(Term term, T* out) override {
    double value;
    if (!get(term, &value)) return false;
    if constexpr (std::is_same_v<T, std::uint16_t>) {
      *out = half_of_double(value);
      if (std::isfinite(value) && (*out & 0x7FFF) == 0x7C00) return this->fail(term, arrow_atoms.range);
    } else {
      *out = static_cast<T>(value);
      if (std::isfinite(value) && !std::isfinite(*out)) return this->fail(term, arrow_atoms.range);
    }
    return true;
  }

 private:
  bool get(Term term, double* out) {
    if (enif_get_double(this->env(), term, out)) return true;
    if (enif_is_number(this->env(), term)) return get_integer(term, out);
    if (term == atoms.nan) *out = std::numeric_limits<double>::quiet_NaN();
    if (term == atoms.infinity) *out = std::numeric_limits<double>::infinity();
    if (term == atoms.neg_infinity) *out = -std::numeric_limits<double>::infinity();
    const bool special = term == atoms.nan || term == atoms.infinity || term == atoms.neg_infinity;
    return special || this->fail(term, arrow_atoms.type);
  }

  // Not one that would be rounded: nobody has asked for that.
  bool get_integer(Term term, double* out) {
    constexpr std::int64_t exact = std::int64_t{1} << 53;
    ErlNifSInt64 value;
    if (!enif_get_int64(this->env(), term, &value)) return this->fail(term, arrow_atoms.range);
    *out = static_cast<double>(value);
    const bool whole = value >= -exact && value <= exact;
    return whole || this->fail(term, arrow_atoms.precision);
  }
};

class DateBuilder : public ValueBuilder<std::int32_t> {
 public:
  using ValueBuilder::ValueBuilder;

 protected:
  bool convert(Term term, std::int32_t* out) override {
    std::int64_t year;
    std::int64_t month;
    std::int64_t day;
    const bool date = struct_name(env(), term) == arrow_atoms.date_struct && is_iso(term) &&
                      get_field(term, arrow_atoms.year, &year) &&
                      get_field(term, arrow_atoms.month, &month) && get_field(term, arrow_atoms.day, &day);
    if (!date) return fail(term, arrow_atoms.type);
    *out = static_cast<std::int32_t>(days_of_civil({year, static_cast<int>(month), static_cast<int>(day)}));
    return true;
  }
};

// Times, timestamps and durations: whole numbers of a unit.
template <typename T>
class TimedBuilder : public ValueBuilder<T> {
 public:
  using ValueBuilder<T>::ValueBuilder;

 protected:
  bool convert(Term term, T* out) override {
    std::int64_t seconds = 0;
    std::int64_t microseconds = 0;
    if (this->type_.kind == Kind::duration && enif_is_tuple(this->env(), term))
      return convert_pair(term, out);
    if (!get(term, &seconds, &microseconds)) return this->fail(term, arrow_atoms.type);
    return scale(term, seconds, microseconds, out);
  }

 private:
  bool get(Term term, std::int64_t* seconds, std::int64_t* microseconds) {
    const Term name = struct_name(this->env(), term);
    if (!get_microseconds(term, microseconds)) return false;
    switch (this->type_.kind) {
      case Kind::time:
        return name == arrow_atoms.time_struct && get_clock(term, seconds);
      case Kind::duration:
        return name == arrow_atoms.duration_struct && get_duration(term, seconds);
      default:
        return name == (this->type_.zone.empty() ? arrow_atoms.naive_struct : arrow_atoms.datetime_struct) &&
               get_instant(term, seconds);
    }
  }

  bool get_microseconds(Term term, std::int64_t* out) {
    Term pair;
    const Term* items;
    int arity;
    ErlNifSInt64 value;
    if (!enif_get_map_value(this->env(), term, arrow_atoms.microsecond, &pair)) return false;
    if (!enif_get_tuple(this->env(), pair, &arity, &items) || arity != 2) return false;
    if (!enif_get_int64(this->env(), items[0], &value)) return false;
    *out = value;
    return true;
  }

  bool get_clock(Term term, std::int64_t* seconds) {
    std::int64_t hour;
    std::int64_t minute;
    if (!this->is_iso(term) || !this->get_field(term, arrow_atoms.hour, &hour)) return false;
    if (!this->get_field(term, arrow_atoms.minute, &minute)) return false;
    if (!this->get_field(term, arrow_atoms.second, seconds)) return false;
    *seconds += 60 * minute + 3600 * hour;
    return true;
  }

  bool get_instant(Term term, std::int64_t* seconds) {
    std::int64_t year;
    std::int64_t month;
    std::int64_t day;
    if (!get_clock(term, seconds) || !this->get_field(term, arrow_atoms.year, &year)) return false;
    if (!this->get_field(term, arrow_atoms.month, &month) || !this->get_field(term, arrow_atoms.day, &day))
      return false;
    *seconds += seconds_of_day * days_of_civil({year, static_cast<int>(month), static_cast<int>(day)});
    if (this->type_.zone.empty()) return true;
    std::int64_t utc_offset;
    std::int64_t std_offset;
    if (!this->get_field(term, arrow_atoms.utc_offset, &utc_offset)) return false;
    if (!this->get_field(term, arrow_atoms.std_offset, &std_offset)) return false;
    *seconds -= utc_offset + std_offset;
    return true;
  }

  // Months have no length of their own.
  bool get_duration(Term term, std::int64_t* seconds) {
    std::int64_t fields[7];
    const Term keys[] = {arrow_atoms.year, arrow_atoms.month,  arrow_atoms.week,  arrow_atoms.day,
                         arrow_atoms.hour, arrow_atoms.minute, arrow_atoms.second};
    for (int i = 0; i < 7; ++i) {
      if (!this->get_field(term, keys[i], &fields[i])) return false;
    }
    if (fields[0] != 0 || fields[1] != 0) return false;
    // In 128 bits nothing of this overflows.
    const __int128 total = __int128{fields[2]} * 7 * seconds_of_day + __int128{fields[3]} * seconds_of_day +
                           __int128{fields[4]} * 3600 + __int128{fields[5]} * 60 + fields[6];
    *seconds = static_cast<std::int64_t>(total);
    return *seconds == total;
  }

  // {value, unit}
  bool convert_pair(Term term, T* out) {
    const Term* items;
    int arity;
    ErlNifSInt64 value;
    enif_get_tuple(this->env(), term, &arity, &items);
    if (arity != 2 || !enif_get_int64(this->env(), items[0], &value))
      return this->fail(term, arrow_atoms.type);
    const Term units[] = {arrow_atoms.second, arrow_atoms.millisecond, arrow_atoms.microsecond,
                          arrow_atoms.nanosecond};
    for (int unit = 0; unit < 4; ++unit) {
      if (items[1] == units[unit]) return rescale(term, value, per_second(static_cast<Unit>(unit)), out);
    }
    return this->fail(term, arrow_atoms.type);
  }

  bool scale(Term term, std::int64_t seconds, std::int64_t microseconds, T* out) {
    return rescale(term, __int128{seconds} * 1'000'000 + microseconds, 1'000'000, out);
  }

  bool rescale(Term term, __int128 value, std::int64_t per, T* out) {
    value *= per_second(this->type_.unit);
    if (value % per != 0) return this->fail(term, arrow_atoms.precision);
    value /= per;
    *out = static_cast<T>(value);
    return *out == value || this->fail(term, arrow_atoms.range);
  }
};

template <std::size_t Width>
struct Raw {
  char bytes[Width];
};

template <std::size_t Width>
class DecimalBuilder : public ValueBuilder<Raw<Width>> {
 public:
  using ValueBuilder<Raw<Width>>::ValueBuilder;

 protected:
  bool convert(Term term, Raw<Width>* out) override {
    Wide value;
    if (!get(term, &value)) return false;
    std::memcpy(out->bytes, value.limbs, Width);
    return true;
  }

 private:
  bool get(Term term, Wide* out) {
    Term coefficient = term;
    bool negative = false;
    bool integer;
    int exponent = 0;
    const bool plain = enif_is_number(this->env(), term) != 0;
    if (!plain && !get_decimal(this->env(), term, &coefficient, &negative, &exponent))
      return this->fail(term, arrow_atoms.type);
    if (!get_wide(this->env(), coefficient, out, &integer))
      return this->fail(term, integer ? arrow_atoms.range : arrow_atoms.type);
    if (out->negative()) {
      out->negate();
      negative = !negative;
    }
    if (!rescale(term, exponent, out)) return false;
    if (digits_of(*out) > this->type_.precision) return this->fail(term, arrow_atoms.range);
    if (negative) out->negate();
    return true;
  }

  bool rescale(Term term, int exponent, Wide* magnitude) {
    std::int64_t shift = std::int64_t{exponent} + this->type_.scale;
    if (magnitude->is_zero()) return true;
    for (; shift > 0; --shift) {
      if (!magnitude->multiply(10)) return this->fail(term, arrow_atoms.range);
    }
    for (; shift < 0; ++shift) {
      if (magnitude->divide(10) != 0) return this->fail(term, arrow_atoms.precision);
    }
    return true;
  }
};

// Offsets are 32 bits wide until they no longer are enough.
class Offsets {
 public:
  void push(std::int64_t offset) {
    if (!wide() && offset > std::numeric_limits<std::int32_t>::max())
      large_.assign(small_.begin(), small_.end());
    if (wide()) {
      large_.push_back(offset);
    } else {
      small_.push_back(static_cast<std::int32_t>(offset));
    }
  }

  void finish(Built& built, Type& type) {
    type.width = wide() ? 8 : 4;
    if (wide()) {
      built.add_buffer(std::move(large_));
    } else {
      built.add_buffer(std::move(small_));
    }
  }

 private:
  bool wide() const { return !large_.empty(); }

  std::vector<std::int32_t> small_{0};
  std::vector<std::int64_t> large_;
};

// Whether the bytes are UTF-8.
bool is_utf8(std::string_view bytes) {
  const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
  TextShape shape;
  return is_ascii(data, bytes.size()) || measure_utf8(data, bytes.size(), &shape);
}

// Text and bytes, both of any length. An atom is the text of its name.
class BytesBuilder : public Builder {
 public:
  using Builder::Builder;

  // The bytes of a term, valid until the next call; false with the failure set.
  bool get(Term term, std::string_view* out) {
    const bool text = type_.kind == Kind::text;
    if (!get_binary(env(), term, out)) {
      if (!text || !enif_is_atom(env(), term) || !get_name(env(), term, &name_))
        return fail(term, arrow_atoms.type);
      *out = name_;
    }
    return !text || is_utf8(*out) || fail(term, arrow_atoms.utf8);
  }

  void append_bytes(std::string_view bytes) {
    data_.insert(data_.end(), bytes.begin(), bytes.end());
    append_nothing();
  }

 protected:
  bool append(Term term) override {
    std::string_view bytes;
    if (!get(term, &bytes)) return false;
    append_bytes(bytes);
    return true;
  }
  void append_nothing() override { offsets_.push(static_cast<std::int64_t>(data_.size())); }
  void finish(Built& built) override {
    offsets_.finish(built, type_);
    built.add_buffer(std::move(data_));
  }

 private:
  Offsets offsets_;
  std::vector<char> data_;
  std::string name_;
};

class FixedBytesBuilder : public Builder {
 public:
  using Builder::Builder;

 protected:
  bool append(Term term) override {
    std::string_view bytes;
    if (!get_binary(env(), term, &bytes)) return fail(term, arrow_atoms.type);
    if (bytes.size() != static_cast<std::size_t>(type_.width)) return fail(term, arrow_atoms.size);
    data_.insert(data_.end(), bytes.begin(), bytes.end());
    return true;
  }
  void append_nothing() override { data_.resize(data_.size() + static_cast<std::size_t>(type_.width)); }
  void finish(Built& built) override { built.add_buffer(std::move(data_)); }

 private:
  std::vector<char> data_;
};

// Adds the elements of a list and counts them; false with the failure set.
template <typename Fail>
bool add_all(ErlNifEnv* env, Builder& builder, Term list, std::int64_t* count, Fail fail) {
  Term rest = list;
  for (Term head; enif_get_list_cell(env, rest, &head, &rest); ++*count) {
    if (!builder.add(head)) return false;
  }
  return enif_is_empty_list(env, rest) || fail(list, arrow_atoms.improper);
}

class ListBuilder : public Builder {
 public:
  ListBuilder(const Context& context, Type& type)
      : Builder(context, type), child_(make_builder(context, type.children[0])) {}

 protected:
  bool append(Term term) override {
    if (!enif_is_list(env(), term)) return fail(term, arrow_atoms.type);
    if (!add_all(env(), *child_, term, &end_, [this](Term at, Term why) { return fail(at, why); }))
      return false;
    append_nothing();
    return true;
  }
  void append_nothing() override { offsets_.push(end_); }
  void finish(Built& built) override {
    offsets_.finish(built, type_);
    built.add_child(child_->finish());
  }

 private:
  std::unique_ptr<Builder> child_;
  Offsets offsets_;
  std::int64_t end_ = 0;
};

class FixedListBuilder : public Builder {
 public:
  FixedListBuilder(const Context& context, Type& type)
      : Builder(context, type), child_(make_builder(context, type.children[0])) {}

 protected:
  bool append(Term term) override {
    std::int64_t count = 0;
    if (!enif_is_list(env(), term)) return fail(term, arrow_atoms.type);
    if (!add_all(env(), *child_, term, &count, [this](Term at, Term why) { return fail(at, why); }))
      return false;
    return count == type_.width || fail(term, arrow_atoms.length);
  }
  void append_nothing() override {
    for (std::int64_t i = 0; i < type_.width; ++i) child_->add_null();
  }
  void finish(Built& built) override { built.add_child(child_->finish()); }

 private:
  std::unique_ptr<Builder> child_;
};

class StructBuilder : public Builder {
 public:
  StructBuilder(const Context& context, Type& type) : Builder(context, type) {
    for (Type& field : type.children) {
      children_.push_back(make_builder(context, field));
      keys_.emplace_back(context.env, field.name);
    }
  }

 protected:
  bool append(Term term) override {
    std::size_t size = 0;
    if (!enif_get_map_size(env(), term, &size) || struct_name(env(), term) != 0)
      return fail(term, arrow_atoms.type);
    std::size_t found = 0;
    for (std::size_t i = 0; i < children_.size(); ++i) {
      Term value = atoms.nil;
      if (keys_[i].get(env(), term, &value)) ++found;
      if (!children_[i]->add(value)) return false;
    }
    // A key that is no field, or two that are the same one.
    return found == size || fail(term, arrow_atoms.key);
  }
  void append_nothing() override {
    for (auto& child : children_) child->add_null();
  }
  void finish(Built& built) override {
    for (auto& child : children_) built.add_child(child->finish());
  }

 private:
  std::vector<std::unique_ptr<Builder>> children_;
  std::vector<FieldKey> keys_;
};

// Keys of a struct with their values; the entries themselves are never null.
class EntriesBuilder : public Builder {
 public:
  EntriesBuilder(const Context& context, Type& type)
      : Builder(context, type),
        key_(make_builder(context, type.children[0])),
        value_(make_builder(context, type.children[1])) {}

  bool add_entry(Term key, Term value) {
    if (key == atoms.nil) return fail(key, arrow_atoms.key);
    ++length_;
    return key_->add(key) && value_->add(value);
  }

 protected:
  bool append(Term term) override { return fail(term, arrow_atoms.type); }
  void append_nothing() override {}
  void finish(Built& built) override {
    built.add_child(key_->finish());
    built.add_child(value_->finish());
  }

 private:
  std::unique_ptr<Builder> key_;
  std::unique_ptr<Builder> value_;
};

class MapBuilder : public Builder {
 public:
  MapBuilder(const Context& context, Type& type)
      : Builder(context, type), entries_(context, type.children[0]) {}

 protected:
  bool append(Term term) override {
    ErlNifMapIterator iterator;
    if (!enif_is_map(env(), term) || struct_name(env(), term) != 0) return fail(term, arrow_atoms.type);
    if (!enif_map_iterator_create(env(), term, &iterator, ERL_NIF_MAP_ITERATOR_FIRST)) return false;
    Term key;
    Term value;
    bool ok = true;
    while (ok && enif_map_iterator_get_pair(env(), &iterator, &key, &value)) {
      ok = entries_.add_entry(key, value);
      enif_map_iterator_next(env(), &iterator);
      ++end_;
    }
    enif_map_iterator_destroy(env(), &iterator);
    // Maps have no form with longer offsets.
    if (ok && end_ > std::numeric_limits<std::int32_t>::max()) ok = fail(term, arrow_atoms.range);
    if (ok) append_nothing();
    return ok;
  }
  void append_nothing() override { offsets_.push(end_); }
  void finish(Built& built) override {
    offsets_.finish(built, type_);
    built.add_child(static_cast<Builder&>(entries_).finish());
  }

 private:
  EntriesBuilder entries_;
  Offsets offsets_;
  std::int64_t end_ = 0;
};

// Text or bytes of which each distinct one is stored once.
template <typename T>
class DictionaryBuilder : public Builder {
 public:
  DictionaryBuilder(const Context& context, Type& type)
      : Builder(context, type), values_(context, type.dictionary[0]) {}

 protected:
  bool append(Term term) override {
    std::string_view bytes;
    if (!values_.get(term, &bytes)) return false;
    const auto next = static_cast<std::int64_t>(numbers_.size());
    const auto [entry, is_new] = numbers_.emplace(std::string(bytes), next);
    if (is_new && !values_.add(term)) return false;
    if (next > static_cast<std::int64_t>(std::numeric_limits<T>::max())) return fail(term, arrow_atoms.range);
    indices_.push_back(static_cast<T>(entry->second));
    return true;
  }
  void append_nothing() override { indices_.push_back(0); }
  void finish(Built& built) override {
    built.add_buffer(std::move(indices_));
    built.dictionary = static_cast<Builder&>(values_).finish();
  }

 private:
  BytesBuilder values_;
  std::unordered_map<std::string, std::int64_t> numbers_;
  std::vector<T> indices_;
};

// The builder for an unsigned or signed integer type of the width.
template <template <typename> class Kind_>
std::unique_ptr<Builder> by_integer(const Context& context, Type& type) {
  const bool with_sign = type.kind == Kind::integer;
  switch (type.width) {
    case 1:
      if (with_sign) return std::make_unique<Kind_<std::int8_t>>(context, type);
      return std::make_unique<Kind_<std::uint8_t>>(context, type);
    case 2:
      if (with_sign) return std::make_unique<Kind_<std::int16_t>>(context, type);
      return std::make_unique<Kind_<std::uint16_t>>(context, type);
    case 4:
      if (with_sign) return std::make_unique<Kind_<std::int32_t>>(context, type);
      return std::make_unique<Kind_<std::uint32_t>>(context, type);
    default:
      if (with_sign) return std::make_unique<Kind_<std::int64_t>>(context, type);
      return std::make_unique<Kind_<std::uint64_t>>(context, type);
  }
}

std::unique_ptr<Builder> make_value_builder(const Context& context, Type& type) {
  switch (type.kind) {
    case Kind::real:
      if (type.width == 2) return std::make_unique<RealBuilder<std::uint16_t>>(context, type);
      if (type.width == 4) return std::make_unique<RealBuilder<float>>(context, type);
      return std::make_unique<RealBuilder<double>>(context, type);
    case Kind::date:
      return std::make_unique<DateBuilder>(context, type);
    case Kind::time:
    case Kind::timestamp:
    case Kind::duration:
      if (type.width == 4) return std::make_unique<TimedBuilder<std::int32_t>>(context, type);
      return std::make_unique<TimedBuilder<std::int64_t>>(context, type);
    case Kind::decimal:
      if (type.width == 16) return std::make_unique<DecimalBuilder<16>>(context, type);
      return std::make_unique<DecimalBuilder<32>>(context, type);
    case Kind::fixed_bytes:
      return std::make_unique<FixedBytesBuilder>(context, type);
    default:
      return by_integer<IntegerBuilder>(context, type);
  }
}

std::unique_ptr<Builder> make_builder(const Context& context, Type& type) {
  if (!type.dictionary.empty()) return by_integer<DictionaryBuilder>(context, type);
  switch (type.kind) {
    case Kind::null:
      return std::make_unique<NullBuilder>(context, type);
    case Kind::boolean:
      return std::make_unique<BooleanBuilder>(context, type);
    case Kind::text:
    case Kind::bytes:
      return std::make_unique<BytesBuilder>(context, type);
    case Kind::list:
      return std::make_unique<ListBuilder>(context, type);
    case Kind::fixed_list:
      return std::make_unique<FixedListBuilder>(context, type);
    case Kind::structure:
      return std::make_unique<StructBuilder>(context, type);
    case Kind::map:
      return std::make_unique<MapBuilder>(context, type);
    default:
      return make_value_builder(context, type);
  }
}

}  // namespace

bool build_column(ErlNifEnv* env, Term list, Type type, Column* out, BuildFailure* failure) {
  const std::unique_ptr<Builder> builder = make_builder({env, failure}, type);
  for (Term head; enif_get_list_cell(env, list, &head, &list); ++failure->row) {
    if (!builder->add(head)) return false;
  }
  const ArrayPtr array = share(builder->finish());
  if (array->length > 0) out->chunks.push_back({array, 0, array->length});
  out->type = std::make_shared<Type>(std::move(type));
  return true;
}

namespace {

// A binary of Elixir, kept by an environment of its own. Nobody changes it: to append to a binary that somebody else has
// as well, the VM makes a new one.
struct KeptBinary {
  ErlNifEnv* env = enif_alloc_env();
  ErlNifBinary binary{};

  explicit KeptBinary(Term term) { enif_inspect_binary(env, enif_make_copy(env, term), &binary); }
  ~KeptBinary() { enif_free_env(env); }
  KeptBinary(const KeptBinary&) = delete;
  KeptBinary& operator=(const KeptBinary&) = delete;
};

// Readers of Arrow data may need values to be aligned to their size. A part of a binary may begin anywhere.
std::unique_ptr<Built> built_over(Term term, std::int64_t alignment) {
  auto built = std::make_unique<Built>();
  built->add_absent_buffer();
  auto kept = std::make_shared<KeptBinary>(term);
  const ErlNifBinary& binary = kept->binary;
  if (reinterpret_cast<std::uintptr_t>(binary.data) % static_cast<std::uintptr_t>(alignment) != 0) {
    built->add_buffer(std::vector<unsigned char>(binary.data, binary.data + binary.size));
    return built;
  }
  built->buffers.push_back(binary.data);
  built->memory.push_back(std::move(kept));
  return built;
}

}  // namespace

bool column_over(ErlNifEnv* env, Term binaries, const Type& type, Column* out, BuildFailure* failure) {
  out->type = std::make_shared<Type>(type);
  const std::int64_t alignment = type.kind == Kind::fixed_bytes ? 1 : type.width < 8 ? type.width : 8;
  for (Term head; enif_get_list_cell(env, binaries, &head, &binaries);) {
    ErlNifBinary binary;
    enif_inspect_binary(env, head, &binary);
    if (type.width == 0 || binary.size % static_cast<std::size_t>(type.width) != 0) {
      *failure = {0, enif_make_uint64(env, binary.size), arrow_atoms.size, type_term(env, type)};
      return false;
    }
    if (binary.size == 0) continue;
    std::unique_ptr<Built> built = built_over(head, alignment);
    built->finish(static_cast<std::int64_t>(binary.size) / type.width, 0);
    const ArrayPtr array = share(std::move(built));
    out->chunks.push_back({array, 0, array->length});
  }
  return true;
}

}  // namespace pythonx
