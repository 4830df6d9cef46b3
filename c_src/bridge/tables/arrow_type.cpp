// Above 400 lines: one table from formats to types and one back, which are read side by side.
#include "tables/arrow_type.hpp"

#include <cstdlib>
#include <cstring>

#include "tables/arrow_atoms.hpp"

namespace pythonx {

ArrowAtoms arrow_atoms;

void init_arrow_atoms(ErlNifEnv* env) {
#define X(name, text) arrow_atoms.name = enif_make_atom(env, text);
  PYTHONX_ARROW_ATOMS(X)
#undef X
}

namespace {

struct Simple {
  const char* format;
  int width;
  Kind kind;
  Unit unit;
};

constexpr Simple simple_formats[] = {
    {"n", 0, Kind::null, {}},
    {"b", 0, Kind::boolean, {}},
    {"c", 1, Kind::integer, {}},
    {"C", 1, Kind::natural, {}},
    {"s", 2, Kind::integer, {}},
    {"S", 2, Kind::natural, {}},
    {"i", 4, Kind::integer, {}},
    {"I", 4, Kind::natural, {}},
    {"l", 8, Kind::integer, {}},
    {"L", 8, Kind::natural, {}},
    {"e", 2, Kind::real, {}},
    {"f", 4, Kind::real, {}},
    {"g", 8, Kind::real, {}},
    {"u", 4, Kind::text, {}},
    {"U", 8, Kind::text, {}},
    {"z", 4, Kind::bytes, {}},
    {"Z", 8, Kind::bytes, {}},
    {"vu", 16, Kind::text_view, {}},
    {"vz", 16, Kind::bytes_view, {}},
    {"tdD", 4, Kind::date, {}},
    {"tdm", 8, Kind::date, {}},
    {"tts", 4, Kind::time, Unit::second},
    {"ttm", 4, Kind::time, Unit::millisecond},
    {"ttu", 8, Kind::time, Unit::microsecond},
    {"ttn", 8, Kind::time, Unit::nanosecond},
    {"tDs", 8, Kind::duration, Unit::second},
    {"tDm", 8, Kind::duration, Unit::millisecond},
    {"tDu", 8, Kind::duration, Unit::microsecond},
    {"tDn", 8, Kind::duration, Unit::nanosecond},
    {"+l", 4, Kind::list, {}},
    {"+L", 8, Kind::list, {}},
    {"+vl", 4, Kind::list_view, {}},
    {"+vL", 8, Kind::list_view, {}},
    {"+s", 0, Kind::structure, {}},
    {"+m", 4, Kind::map, {}},
    {"+r", 0, Kind::run_end, {}},
};

bool starts_with(const std::string& text, const char* prefix) {
  return text.compare(0, std::strlen(prefix), prefix) == 0;
}

constexpr char unit_letters[] = "smun";

bool read_unit(char letter, Unit* out) {
  const char* found = letter == '\0' ? nullptr : std::strchr(unit_letters, letter);
  if (found == nullptr) return false;
  *out = static_cast<Unit>(found - unit_letters);
  return true;
}

// "d:precision,scale" or "d:precision,scale,bits"
bool read_decimal(const char* text, Type& type) {
  char* rest;
  const long precision = std::strtol(text, &rest, 10);
  if (*rest != ',') return false;
  const long scale = std::strtol(rest + 1, &rest, 10);
  const long bits = *rest == ',' ? std::strtol(rest + 1, &rest, 10) : 128;
  if (*rest != '\0' || (bits != 32 && bits != 64 && bits != 128 && bits != 256)) return false;
  type.kind = Kind::decimal;
  type.precision = static_cast<int>(precision);
  type.scale = static_cast<int>(scale);
  type.width = bits / 8;
  return true;
}

bool read_sized(const char* text, Kind kind, Type& type) {
  char* rest;
  const long long size = std::strtoll(text, &rest, 10);
  if (*rest != '\0' || rest == text || size < 0) return false;
  type.kind = kind;
  type.width = size;
  return true;
}

// "ts" unit ":" zone
bool read_timestamp(const std::string& format, Type& type) {
  if (format.size() < 4 || format[3] != ':' || !read_unit(format[2], &type.unit)) return false;
  type.kind = Kind::timestamp;
  type.width = 8;
  type.zone = format.substr(4);
  return true;
}

bool read_format(const std::string& format, Type& type) {
  for (const Simple& simple : simple_formats) {
    if (format != simple.format) continue;
    type.kind = simple.kind;
    type.width = simple.width;
    type.unit = simple.unit;
    return true;
  }
  if (starts_with(format, "d:")) return read_decimal(format.c_str() + 2, type);
  if (starts_with(format, "w:")) return read_sized(format.c_str() + 2, Kind::fixed_bytes, type);
  if (starts_with(format, "+w:")) return read_sized(format.c_str() + 3, Kind::fixed_list, type);
  return starts_with(format, "ts") && read_timestamp(format, type);
}

// The number of children that values of the type need; -1 for any number.
int expected_children(Kind kind) {
  switch (kind) {
    case Kind::list:
    case Kind::list_view:
    case Kind::fixed_list:
    case Kind::map:
      return 1;
    case Kind::run_end:
      return 2;
    case Kind::structure:
    case Kind::unsupported:
      return -1;
    default:
      return 0;
  }
}

bool has_expected_shape(const Type& type) {
  const bool index = type.kind == Kind::integer || type.kind == Kind::natural;
  if (!type.dictionary.empty() && !index) return false;
  const int expected = expected_children(type.kind);
  if (expected >= 0 && type.children.size() != static_cast<std::size_t>(expected)) return false;
  if (type.kind == Kind::map && type.children[0].kind == Kind::structure)
    return type.children[0].children.size() == 2;
  if (type.kind == Kind::run_end) return type.children[0].kind == Kind::integer;
  return type.kind != Kind::map;
}

// Encoded as a count, then for each key and each value its length and its bytes, all int32 of the machine.
std::string read_metadata(const char* metadata) {
  if (metadata == nullptr) return {};
  const char* end = metadata;
  const auto take = [&end] {
    std::int32_t value;
    std::memcpy(&value, end, sizeof(value));
    end += sizeof(value);
    return value;
  };
  for (std::int64_t parts = 2 * static_cast<std::int64_t>(take()); parts > 0; --parts) {
    const std::int32_t size = take();
    end += size;
  }
  return {metadata, static_cast<std::size_t>(end - metadata)};
}

}  // namespace

Type read_schema(const ArrowSchema& schema, int depth) {
  Type type;
  type.format = schema.format == nullptr ? "" : schema.format;
  type.name = schema.name == nullptr ? "" : schema.name;
  type.metadata = read_metadata(schema.metadata);
  type.flags = schema.flags;
  for (std::int64_t i = 0; i < schema.n_children && schema.children != nullptr; ++i) {
    if (schema.children[i] == nullptr) break;
    type.children.push_back(read_schema(*schema.children[i], depth + 1));
  }
  if (schema.dictionary != nullptr) type.dictionary.push_back(read_schema(*schema.dictionary, depth + 1));
  const bool known = depth < deepest_type && read_format(type.format, type) && has_expected_shape(type);
  if (!known) type.kind = Kind::unsupported;
  return type;
}

bool is_plain(const Type& type) {
  if (!type.dictionary.empty()) return false;
  switch (type.kind) {
    case Kind::integer:
    case Kind::natural:
    case Kind::real:
    case Kind::fixed_bytes:
    case Kind::date:
    case Kind::time:
    case Kind::timestamp:
    case Kind::duration:
    case Kind::decimal:
      return true;
    default:
      return false;
  }
}

namespace {

Term unit_atom(Unit unit) {
  const Term names[] = {arrow_atoms.second, arrow_atoms.millisecond, arrow_atoms.microsecond,
                        arrow_atoms.nanosecond};
  return names[static_cast<int>(unit)];
}

bool read_unit_atom(Term term, Unit* out) {
  for (const Unit unit : {Unit::second, Unit::millisecond, Unit::microsecond, Unit::nanosecond}) {
    if (term != unit_atom(unit)) continue;
    *out = unit;
    return true;
  }
  return false;
}

Term sized(ErlNifEnv* env, Term name, std::int64_t size) {
  return make_tuple(env, name, enif_make_int64(env, size));
}

Term fields_term(ErlNifEnv* env, const std::vector<Type>& children) {
  std::vector<Term> fields;
  fields.reserve(children.size());
  for (const Type& child : children) {
    fields.push_back(make_tuple(env, make_binary(env, child.name), type_term(env, child)));
  }
  return enif_make_list_from_array(env, fields.data(), static_cast<unsigned>(fields.size()));
}

Term nested_type_term(ErlNifEnv* env, const Type& type) {
  const auto child = [&](const Type& of) { return type_term(env, of); };
  const auto& children = type.children;
  switch (type.kind) {
    case Kind::list:
    case Kind::list_view:
      return make_tuple(env, arrow_atoms.list, child(children[0]));
    case Kind::fixed_list:
      return make_tuple(env, arrow_atoms.fixed_size_list, child(children[0]),
                        enif_make_int64(env, type.width));
    case Kind::structure:
      return make_tuple(env, arrow_atoms.struct_type, fields_term(env, children));
    case Kind::map:
      return make_tuple(env, arrow_atoms.map, child(children[0].children[0]), child(children[0].children[1]));
    case Kind::run_end:
      return child(children[1]);
    default:
      return make_tuple(env, arrow_atoms.unsupported, make_binary(env, type.format));
  }
}

Term scalar_type_term(ErlNifEnv* env, const Type& type) {
  const Term unit = unit_atom(type.unit);
  switch (type.kind) {
    case Kind::null:
      return arrow_atoms.null;
    case Kind::boolean:
      return arrow_atoms.boolean;
    case Kind::integer:
      return sized(env, arrow_atoms.s, 8 * type.width);
    case Kind::natural:
      return sized(env, arrow_atoms.u, 8 * type.width);
    case Kind::real:
      return sized(env, arrow_atoms.f, 8 * type.width);
    case Kind::text:
    case Kind::text_view:
      return arrow_atoms.string;
    case Kind::bytes:
    case Kind::bytes_view:
      return arrow_atoms.binary;
    case Kind::fixed_bytes:
      return sized(env, arrow_atoms.fixed_size_binary, type.width);
    case Kind::date:
      return arrow_atoms.date;
    case Kind::time:
      return make_tuple(env, arrow_atoms.time, unit);
    case Kind::duration:
      return make_tuple(env, arrow_atoms.duration, unit);
    case Kind::timestamp:
      return type.zone.empty() ? make_tuple(env, arrow_atoms.naive_datetime, unit)
                               : make_tuple(env, arrow_atoms.datetime, unit, make_binary(env, type.zone));
    case Kind::decimal:
      return make_tuple(env, arrow_atoms.decimal, enif_make_int(env, type.precision),
                        enif_make_int(env, type.scale));
    default:
      return nested_type_term(env, type);
  }
}

}  // namespace

Term type_term(ErlNifEnv* env, const Type& type) {
  const Term term = scalar_type_term(env, type);
  if (type.dictionary.empty()) return term;
  return make_tuple(env, arrow_atoms.dictionary, term, type_term(env, type.dictionary[0]));
}

namespace {

struct TypeReader {
  ErlNifEnv* env;
  Type& type;
  int depth;

  bool set(Kind kind, std::int64_t width) {
    type.kind = kind;
    type.width = width;
    return true;
  }

  bool child(Term term, const char* name) {
    type.children.emplace_back();
    type.children.back().name = name;
    return read_type(env, term, &type.children.back(), depth + 1);
  }

  bool atom(Term term) {
    if (term == arrow_atoms.null) return set(Kind::null, 0);
    if (term == arrow_atoms.boolean) return set(Kind::boolean, 0);
    if (term == arrow_atoms.string) return set(Kind::text, 4);
    if (term == arrow_atoms.binary) return set(Kind::bytes, 4);
    return term == arrow_atoms.date && set(Kind::date, 4);
  }

  bool number(Kind kind, Term bits, int smallest) {
    long value;
    if (!enif_get_long(env, bits, &value)) return false;
    const bool valid = value >= smallest && (value == 8 || value == 16 || value == 32 || value == 64);
    return valid && set(kind, value / 8);
  }

  bool timed(Kind kind, Term unit) {
    if (!read_unit_atom(unit, &type.unit)) return false;
    const bool short_time = kind == Kind::time && type.unit < Unit::microsecond;
    return set(kind, short_time ? 4 : 8);
  }

  bool fields(Term list) {
    set(Kind::structure, 0);
    for (Term pair; enif_get_list_cell(env, list, &pair, &list);) {
      const Term* items;
      int arity;
      std::string_view name;
      if (!enif_get_tuple(env, pair, &arity, &items) || arity != 2 || !get_binary(env, items[0], &name))
        return false;
      if (!child(items[1], std::string(name).c_str())) return false;
    }
    return enif_is_empty_list(env, list) != 0;
  }

  bool pair(Term name, Term of) {
    long size;
    if (name == arrow_atoms.s) return number(Kind::integer, of, 8);
    if (name == arrow_atoms.u) return number(Kind::natural, of, 8);
    if (name == arrow_atoms.f) return number(Kind::real, of, 16);
    if (name == arrow_atoms.time) return timed(Kind::time, of);
    if (name == arrow_atoms.naive_datetime) return timed(Kind::timestamp, of);
    if (name == arrow_atoms.duration) return timed(Kind::duration, of);
    if (name == arrow_atoms.list) return set(Kind::list, 4) && child(of, "item");
    if (name == arrow_atoms.struct_type) return fields(of);
    if (name != arrow_atoms.fixed_size_binary || !enif_get_long(env, of, &size)) return false;
    return size >= 0 && size <= INT32_MAX && set(Kind::fixed_bytes, size);
  }

  bool decimal(Term precision, Term scale) {
    if (!enif_get_int(env, precision, &type.precision) || !enif_get_int(env, scale, &type.scale))
      return false;
    if (type.precision < 1 || type.precision > 76 || type.scale > type.precision || type.scale < -76)
      return false;
    return set(Kind::decimal, type.precision <= 38 ? 16 : 32);
  }

  bool map(Term key, Term value) {
    set(Kind::map, 4);
    type.children.emplace_back();
    Type& entries = type.children[0];
    entries.name = "entries";
    entries.flags = 0;
    entries.kind = Kind::structure;
    TypeReader reader{env, entries, depth + 1};
    if (!reader.child(key, "key") || !reader.child(value, "value")) return false;
    entries.children[0].flags = 0;
    set_format(entries);
    return true;
  }

  bool dictionary(Term index, Term values) {
    type.dictionary.emplace_back();
    if (!read_type(env, values, &type.dictionary[0], depth + 1)) return false;
    const Kind kind = type.dictionary[0].kind;
    if (kind != Kind::text && kind != Kind::bytes) return false;
    const Term* items;
    int arity;
    if (!enif_get_tuple(env, index, &arity, &items) || arity != 2) return false;
    return (items[0] == arrow_atoms.s || items[0] == arrow_atoms.u) && pair(items[0], items[1]);
  }

  bool triple(Term name, Term first, Term second) {
    std::string_view text;
    long size;
    if (name == arrow_atoms.decimal) return decimal(first, second);
    if (name == arrow_atoms.map) return map(first, second);
    if (name == arrow_atoms.dictionary) return dictionary(first, second);
    if (name == arrow_atoms.datetime) {
      if (!get_binary(env, second, &text) || text.empty()) return false;
      type.zone = std::string(text);
      return timed(Kind::timestamp, first);
    }
    if (name != arrow_atoms.fixed_size_list || !enif_get_long(env, second, &size)) return false;
    return size >= 0 && size <= INT32_MAX && set(Kind::fixed_list, size) && child(first, "item");
  }

  bool read(Term term) {
    const Term* items;
    int arity;
    if (enif_is_atom(env, term)) return atom(term);
    if (!enif_get_tuple(env, term, &arity, &items)) return false;
    if (arity == 2) return pair(items[0], items[1]);
    return arity == 3 && triple(items[0], items[1], items[2]);
  }
};

std::string decimal_format(const Type& type) {
  std::string text = "d:" + std::to_string(type.precision) + "," + std::to_string(type.scale);
  return type.width == 16 ? text : text + "," + std::to_string(8 * type.width);
}

}  // namespace

bool read_type(ErlNifEnv* env, Term term, Type* out, int depth) {
  if (depth > deepest_type || !TypeReader{env, *out, depth}.read(term)) return false;
  set_format(*out);
  return true;
}

void set_format(Type& type) {
  const std::string unit(1, unit_letters[static_cast<int>(type.unit)]);
  switch (type.kind) {
    case Kind::timestamp:
      type.format = "ts" + unit + ":" + type.zone;
      return;
    case Kind::time:
      type.format = "tt" + unit;
      return;
    case Kind::duration:
      type.format = "tD" + unit;
      return;
    case Kind::decimal:
      type.format = decimal_format(type);
      return;
    case Kind::fixed_bytes:
      type.format = "w:" + std::to_string(type.width);
      return;
    case Kind::fixed_list:
      type.format = "+w:" + std::to_string(type.width);
      return;
    default:
      for (const Simple& simple : simple_formats) {
        if (simple.kind == type.kind && simple.width == type.width) type.format = simple.format;
      }
  }
}

}  // namespace pythonx
