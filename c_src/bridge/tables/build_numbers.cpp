// Columns of integers, floats and decimals.
#include <cmath>
#include <cstring>

#include "tables/arrow_value.hpp"
#include "tables/builder.hpp"

namespace pythonx {
namespace {

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

}  // namespace

std::unique_ptr<Builder> make_number_builder(const Context& context, Type& type) {
  switch (type.kind) {
    case Kind::real:
      if (type.width == 2) return std::make_unique<RealBuilder<std::uint16_t>>(context, type);
      if (type.width == 4) return std::make_unique<RealBuilder<float>>(context, type);
      return std::make_unique<RealBuilder<double>>(context, type);
    case Kind::decimal:
      if (type.width == 16) return std::make_unique<DecimalBuilder<16>>(context, type);
      return std::make_unique<DecimalBuilder<32>>(context, type);
    default:
      return by_integer<IntegerBuilder>(context, type);
  }
}

}  // namespace pythonx
