// Dates, times, timestamps and durations.
#include <algorithm>

#include "tables/arrow_atoms.hpp"
#include "tables/reader.hpp"

namespace pythonx {
namespace {

constexpr char nanoseconds_text[] =
    "a value has parts of a microsecond, which Elixir's types cannot hold; nanoseconds: :truncate cuts them "
    "off";

}  // namespace

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

}  // namespace pythonx
