// What type a column of terms has.
#include <algorithm>
#include <utility>

#include "conversion/atom.hpp"
#include "tables/arrow_atoms.hpp"
#include "tables/arrow_value.hpp"
#include "tables/build.hpp"

namespace pythonx {
namespace {

// What is known of a column from the values seen so far.
class Guess {
 public:
  Guess(ErlNifEnv* env, int depth, BuildFailure* failure) : env_(env), depth_(depth), failure_(failure) {}

  // False with the failure set when the value has no type, or another than those before it.
  bool add(Term term);
  Type type() const;

 private:
  struct Field {
    std::string name;
    FieldKey key;
    std::vector<Guess> guess;  // one
  };

  bool fail(Term term, Term reason) {
    // What is nested has set it already.
    if (failure_->reason == 0) *failure_ = {failure_->row, term, reason, 0};
    return false;
  }

  bool see(Kind kind, Term term);
  bool add_atom(Term term);
  bool add_integer(Term term);
  bool add_list(Term list);
  bool add_struct(Term term, Term name);
  bool add_timestamp(Term term, bool zoned);
  bool add_decimal(Term term);
  bool add_map(Term map);
  bool add_new_fields(Term map);

  ErlNifEnv* env_;
  int depth_;
  BuildFailure* failure_;
  Kind kind_ = Kind::null;
  bool negative_ = false;  // of integers: one is
  bool large_ = false;     // one is beyond 64 bits with a sign
  std::string zone_;       // of timestamps; empty for naive ones
  int digits_ = 1;         // of decimals: before the point
  int scale_ = 0;
  std::vector<Guess> element_;
  std::vector<Field> fields_;
};

bool Guess::see(Kind kind, Term term) {
  const bool number = kind == Kind::integer || kind == Kind::real;
  const bool had_number = kind_ == Kind::integer || kind_ == Kind::real;
  if (kind_ == Kind::null || (number && had_number)) {
    if (kind_ != Kind::real) kind_ = kind;
    return true;
  }
  return kind_ == kind || fail(term, arrow_atoms.mixed);
}

bool Guess::add_atom(Term term) {
  if (term == atoms.nil) return true;
  if (term == atoms.true_ || term == atoms.false_) return see(Kind::boolean, term);
  const bool real = term == atoms.nan || term == atoms.infinity || term == atoms.neg_infinity;
  return see(real ? Kind::real : Kind::text, term);
}

bool Guess::add_integer(Term term) {
  ErlNifSInt64 value;
  ErlNifUInt64 unsigned_value;
  if (!see(Kind::integer, term)) return false;
  if (enif_get_int64(env_, term, &value)) {
    negative_ = negative_ || value < 0;
  } else if (enif_get_uint64(env_, term, &unsigned_value)) {
    large_ = true;
  } else {
    return fail(term, arrow_atoms.range);
  }
  return !(negative_ && large_) || kind_ == Kind::real || fail(term, arrow_atoms.range);
}

bool Guess::add_list(Term list) {
  if (depth_ >= deepest_type) return fail(list, arrow_atoms.type);
  if (!see(Kind::list, list)) return false;
  if (element_.empty()) element_.emplace_back(env_, depth_ + 1, failure_);
  for (Term head; enif_get_list_cell(env_, list, &head, &list);) {
    if (!element_[0].add(head)) return false;
  }
  return enif_is_empty_list(env_, list) || fail(list, arrow_atoms.improper);
}

bool Guess::add_timestamp(Term term, bool zoned) {
  std::string zone;
  if (zoned) {
    Term zone_term;
    if (!enif_get_map_value(env_, term, arrow_atoms.time_zone, &zone_term) ||
        !get_name(env_, zone_term, &zone))
      return fail(term, arrow_atoms.type);
    if (zone == "Etc/UTC") zone = "UTC";
  }
  const bool first = kind_ == Kind::null;
  if (!see(Kind::timestamp, term)) return false;
  if (!first && zone_.empty() == zoned) return fail(term, arrow_atoms.mixed);
  // Instants of several zones have UTC in common.
  zone_ = first || zone == zone_ ? zone : "UTC";
  return true;
}

bool Guess::add_decimal(Term term) {
  Term coefficient;
  bool negative;
  bool integer;
  int exponent;
  Wide value;
  if (!see(Kind::decimal, term)) return false;
  if (!get_decimal(env_, term, &coefficient, &negative, &exponent)) return fail(term, arrow_atoms.type);
  if (!get_wide(env_, coefficient, &value, &integer)) return fail(term, arrow_atoms.range);
  if (exponent > 76 || exponent < -76) return fail(term, arrow_atoms.range);
  if (value.negative()) value.negate();
  digits_ = std::max(digits_, digits_of(value) + exponent);
  scale_ = std::max(scale_, -exponent);
  return digits_ + scale_ <= 76 || fail(term, arrow_atoms.range);
}

bool Guess::add_struct(Term term, Term name) {
  if (name == arrow_atoms.date_struct) return see(Kind::date, term);
  if (name == arrow_atoms.time_struct) return see(Kind::time, term);
  if (name == arrow_atoms.naive_struct) return add_timestamp(term, false);
  if (name == arrow_atoms.datetime_struct) return add_timestamp(term, true);
  if (name == arrow_atoms.duration_struct) return see(Kind::duration, term);
  if (name == arrow_atoms.decimal_struct) return add_decimal(term);
  return fail(term, arrow_atoms.type);
}

// Rows of maps tend to have the same keys: those that are known are looked up, and only other ones searched for.
bool Guess::add_map(Term map) {
  if (depth_ >= deepest_type) return fail(map, arrow_atoms.type);
  if (!see(Kind::structure, map)) return false;
  std::size_t size = 0;
  enif_get_map_size(env_, map, &size);
  std::size_t found = 0;
  for (Field& field : fields_) {
    Term value;
    if (!field.key.get(env_, map, &value)) continue;
    ++found;
    if (!field.guess[0].add(value)) return false;
  }
  return found == size || add_new_fields(map);
}

bool Guess::add_new_fields(Term map) {
  ErlNifMapIterator iterator;
  Term key;
  Term value;
  bool ok = enif_map_iterator_create(env_, map, &iterator, ERL_NIF_MAP_ITERATOR_FIRST) != 0;
  for (; ok && enif_map_iterator_get_pair(env_, &iterator, &key, &value);
       enif_map_iterator_next(env_, &iterator)) {
    std::string name;
    ok = (get_name(env_, key, &name) && name.find('\0') == std::string::npos) || fail(key, arrow_atoms.key);
    const auto same = [&](const Field& field) { return field.name == name; };
    if (!ok || std::any_of(fields_.begin(), fields_.end(), same)) continue;
    fields_.push_back({name, FieldKey(env_, name), {Guess(env_, depth_ + 1, failure_)}});
    ok = fields_.back().guess[0].add(value);
  }
  enif_map_iterator_destroy(env_, &iterator);
  return ok;
}

bool Guess::add(Term term) {
  if (enif_is_atom(env_, term)) return add_atom(term);
  if (enif_is_binary(env_, term)) return see(Kind::text, term);
  if (enif_is_list(env_, term)) return add_list(term);
  if (enif_is_map(env_, term)) {
    const Term name = struct_name(env_, term);
    return name == 0 ? add_map(term) : add_struct(term, name);
  }
  double real;
  if (enif_get_double(env_, term, &real)) return see(Kind::real, term);
  return enif_is_number(env_, term) ? add_integer(term) : fail(term, arrow_atoms.type);
}

Type Guess::type() const {
  Type type;
  type.kind = kind_;
  switch (kind_) {
    case Kind::integer:
      if (large_) type.kind = Kind::natural;
      [[fallthrough]];
    case Kind::real:
    case Kind::time:
    case Kind::timestamp:
    case Kind::duration:
      type.width = 8;
      type.zone = zone_;
      break;
    case Kind::text:
    case Kind::date:
      type.width = 4;
      break;
    case Kind::decimal:
      type.scale = scale_;
      type.precision = digits_ + scale_ <= 38 ? 38 : 76;
      type.width = type.precision == 38 ? 16 : 32;
      break;
    case Kind::list:
      type.width = 4;
      type.children.push_back(element_[0].type());
      type.children[0].name = "item";
      break;
    default:
      break;
  }
  for (const Field& field : fields_) {
    type.children.push_back(field.guess[0].type());
    type.children.back().name = field.name;
  }
  set_format(type);
  return type;
}

}  // namespace

bool infer_type(ErlNifEnv* env, Term list, Type* out, BuildFailure* failure) {
  Guess guess(env, 0, failure);
  for (Term head; enif_get_list_cell(env, list, &head, &list); ++failure->row) {
    if (!guess.add(head)) return false;
  }
  *out = guess.type();
  return true;
}

FieldKey::FieldKey(ErlNifEnv* env, const std::string& name) : binary(make_binary(env, name)), atom(0) {
  Term found;
  if (find_atom(name, &found)) atom = found;
}

bool FieldKey::get(ErlNifEnv* env, Term map, Term* value) const {
  return enif_get_map_value(env, map, binary, value) ||
         (atom != 0 && enif_get_map_value(env, map, atom, value));
}

bool get_name(ErlNifEnv* env, Term term, std::string* out) {
  std::string_view text;
  if (get_binary(env, term, &text)) {
    *out = std::string(text);
    return true;
  }
  return term != atoms.nil && enif_is_atom(env, term) && read_atom(env, term, out);
}

Term struct_name(ErlNifEnv* env, Term term) {
  Term name;
  return enif_get_map_value(env, term, atoms.struct_, &name) ? name : 0;
}

bool get_decimal(ErlNifEnv* env, Term term, Term* coefficient, bool* negative, int* exponent) {
  const Term* items;
  int arity;
  *negative = false;
  if (enif_get_tuple(env, term, &arity, &items)) {
    *coefficient = arity == 2 ? items[0] : 0;
    return arity == 2 && enif_get_int(env, items[1], exponent);
  }
  Term sign;
  Term exp;
  if (struct_name(env, term) != arrow_atoms.decimal_struct) return false;
  if (!enif_get_map_value(env, term, arrow_atoms.coef, coefficient)) return false;
  if (!enif_get_map_value(env, term, arrow_atoms.exp, &exp) || !enif_get_int(env, exp, exponent))
    return false;
  int sign_value;
  if (!enif_get_map_value(env, term, arrow_atoms.sign, &sign) || !enif_get_int(env, sign, &sign_value))
    return false;
  *negative = sign_value < 0;
  return !enif_is_atom(env, *coefficient);
}

}  // namespace pythonx
