// The atoms of types and of Elixir's structs for dates, times and numbers.
#pragma once

#include "vm/term.hpp"

namespace pythonx {

#define PYTHONX_ARROW_ATOMS(X)              \
  X(null, "null")                           \
  X(boolean, "boolean")                     \
  X(s, "s")                                 \
  X(u, "u")                                 \
  X(f, "f")                                 \
  X(string, "string")                       \
  X(binary, "binary")                       \
  X(fixed_size_binary, "fixed_size_binary") \
  X(date, "date")                           \
  X(time, "time")                           \
  X(naive_datetime, "naive_datetime")       \
  X(datetime, "datetime")                   \
  X(duration, "duration")                   \
  X(decimal, "decimal")                     \
  X(list, "list")                           \
  X(fixed_size_list, "fixed_size_list")     \
  X(struct_type, "struct")                  \
  X(map, "map")                             \
  X(dictionary, "dictionary")               \
  X(unsupported, "unsupported")             \
  X(second, "second")                       \
  X(millisecond, "millisecond")             \
  X(microsecond, "microsecond")             \
  X(nanosecond, "nanosecond")               \
  X(calendar, "calendar")                   \
  X(year, "year")                           \
  X(month, "month")                         \
  X(week, "week")                           \
  X(day, "day")                             \
  X(hour, "hour")                           \
  X(minute, "minute")                       \
  X(time_zone, "time_zone")                 \
  X(zone_abbr, "zone_abbr")                 \
  X(utc_offset, "utc_offset")               \
  X(std_offset, "std_offset")               \
  X(sign, "sign")                           \
  X(coef, "coef")                           \
  X(exp, "exp")                             \
  X(iso, "Elixir.Calendar.ISO")             \
  X(date_struct, "Elixir.Date")             \
  X(time_struct, "Elixir.Time")             \
  X(naive_struct, "Elixir.NaiveDateTime")   \
  X(datetime_struct, "Elixir.DateTime")     \
  X(duration_struct, "Elixir.Duration")     \
  X(decimal_struct, "Elixir.Decimal")       \
  X(type, "type")                           \
  X(range, "range")                         \
  X(precision, "precision")                 \
  X(utf8, "utf8")                           \
  X(key, "key")                             \
  X(mixed, "mixed")                         \
  X(length, "length")                       \
  X(improper, "improper")                   \
  X(size, "size")                           \
  X(column, "column")                       \
  X(rows, "rows")

struct ArrowAtoms {
#define X(name, text) Term name;
  PYTHONX_ARROW_ATOMS(X)
#undef X
};

extern ArrowAtoms arrow_atoms;

// Makes every atom of `arrow_atoms`. Called once, when the library is loaded.
void init_arrow_atoms(ErlNifEnv* env);

}  // namespace pythonx
