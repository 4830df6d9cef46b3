// Types of columns: the format strings of Arrow, and the terms that stand for them in Elixir.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tables/arrow_abi.hpp"
#include "vm/term.hpp"

namespace pythonx {

enum class Kind : std::uint8_t {
  null,
  boolean,
  integer,
  natural,  // unsigned integers
  real,
  text,
  bytes,
  text_view,
  bytes_view,
  fixed_bytes,
  date,
  time,
  timestamp,
  duration,
  decimal,
  list,
  list_view,
  fixed_list,
  structure,
  map,
  run_end,
  unsupported,  // passed on to Python as it came, never read
};

enum class Unit : std::uint8_t { second, millisecond, microsecond, nanosecond };

// How many of a unit are in a second.
constexpr std::int64_t per_second(Unit unit) {
  return unit == Unit::second        ? 1
         : unit == Unit::millisecond ? 1'000
         : unit == Unit::microsecond ? 1'000'000
                                     : 1'000'000'000;
}

struct Type {
  Kind kind = Kind::null;
  Unit unit = Unit::microsecond;
  std::int64_t width = 0;  // bytes of a value, or of an offset; of a fixed-size list, its elements
  int precision = 0;
  int scale = 0;
  std::string zone;  // of a timestamp; empty for one without
  std::string format;
  std::string name;
  std::string metadata;  // as Arrow encodes it; empty for none
  std::int64_t flags = arrow_flag_nullable;
  std::vector<Type> children;
  std::vector<Type> dictionary;  // the type of the values, when this is the type of indices into them
};

// Types that are nested deeper than this are not read: the walks over values recurse once for each level.
constexpr int deepest_type = 64;

// The type that a schema describes. Never fails: what is unknown, or nested too deeply, is Kind::unsupported.
Type read_schema(const ArrowSchema& schema, int depth = 0);

// Whether values have a fixed number of bytes, and can be given and taken as plain memory.
bool is_plain(const Type& type);

// The term for a type; the way back, false for a term that stands for none.
Term type_term(ErlNifEnv* env, const Type& type);
bool read_type(ErlNifEnv* env, Term term, Type* out, int depth = 0);

// Sets `format` from everything else.
void set_format(Type& type);

}  // namespace pythonx
