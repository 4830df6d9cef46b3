// Columns of dates, times, timestamps and durations.
#include "tables/arrow_value.hpp"
#include "tables/builder.hpp"

namespace pythonx {
namespace {

bool get_field(ErlNifEnv* env, Term map, Term key, std::int64_t* out) {
  Term value;
  ErlNifSInt64 number;
  if (!enif_get_map_value(env, map, key, &value) || !enif_get_int64(env, value, &number)) return false;
  *out = number;
  return true;
}

// One of the numbers from 0 to `last`. Structs need not be valid: anybody may change a field.
bool get_part(ErlNifEnv* env, Term map, Term key, std::int64_t last, std::int64_t* out) {
  return get_field(env, map, key, out) && *out >= 0 && *out <= last;
}

bool is_iso(ErlNifEnv* env, Term map) {
  Term calendar;
  return enif_get_map_value(env, map, arrow_atoms.calendar, &calendar) && calendar == arrow_atoms.iso;
}

// The day of a struct with a date, counted from 1970.
bool get_days(ErlNifEnv* env, Term term, std::int64_t* out) {
  std::int64_t year;
  std::int64_t month;
  std::int64_t day;
  if (!is_iso(env, term) || !get_field(env, term, arrow_atoms.year, &year)) return false;
  if (!get_part(env, term, arrow_atoms.month, 12, &month)) return false;
  if (!get_part(env, term, arrow_atoms.day, 31, &day)) return false;
  if (year > last_year || year < -last_year) return false;
  *out = days_of_civil({year, static_cast<int>(month), static_cast<int>(day)});
  // A day that the month has not is one of the next.
  const CivilDate civil = civil_of_days(*out);
  return civil.month == month && civil.day == day;
}

class DateBuilder : public ValueBuilder<std::int32_t> {
 public:
  using ValueBuilder::ValueBuilder;

 protected:
  bool convert(Term term, std::int32_t* out) override {
    std::int64_t days;
    if (struct_name(env(), term) != arrow_atoms.date_struct || !get_days(env(), term, &days))
      return fail(term, arrow_atoms.type);
    *out = static_cast<std::int32_t>(days);
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
    if (!is_iso(this->env(), term) || !get_part(this->env(), term, arrow_atoms.hour, 23, &hour)) return false;
    if (!get_part(this->env(), term, arrow_atoms.minute, 59, &minute)) return false;
    if (!get_part(this->env(), term, arrow_atoms.second, 59, seconds)) return false;
    *seconds += 60 * minute + 3600 * hour;
    return true;
  }

  bool get_instant(Term term, std::int64_t* seconds) {
    std::int64_t days;
    if (!get_clock(term, seconds) || !get_days(this->env(), term, &days)) return false;
    *seconds += seconds_of_day * days;
    if (this->type_.zone.empty()) return true;
    std::int64_t utc_offset;
    std::int64_t std_offset;
    if (!get_field(this->env(), term, arrow_atoms.utc_offset, &utc_offset)) return false;
    if (!get_field(this->env(), term, arrow_atoms.std_offset, &std_offset)) return false;
    *seconds -= utc_offset + std_offset;
    return true;
  }

  // Months have no length of their own.
  bool get_duration(Term term, std::int64_t* seconds) {
    std::int64_t fields[7];
    const Term keys[] = {arrow_atoms.year, arrow_atoms.month,  arrow_atoms.week,  arrow_atoms.day,
                         arrow_atoms.hour, arrow_atoms.minute, arrow_atoms.second};
    for (int i = 0; i < 7; ++i) {
      if (!get_field(this->env(), term, keys[i], &fields[i])) return false;
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

}  // namespace

std::unique_ptr<Builder> make_time_builder(const Context& context, Type& type) {
  if (type.kind == Kind::date) return std::make_unique<DateBuilder>(context, type);
  if (type.width == 4) return std::make_unique<TimedBuilder<std::int32_t>>(context, type);
  return std::make_unique<TimedBuilder<std::int64_t>>(context, type);
}

}  // namespace pythonx
