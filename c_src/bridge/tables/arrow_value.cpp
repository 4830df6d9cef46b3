#include "tables/arrow_value.hpp"

#include <cmath>

namespace pythonx {

// The year begins in March here, so that the leap day is its last one. An era is 400 years.
constexpr std::int64_t days_of_era = 146097;
constexpr std::int64_t epoch = 719468;  // days from 0000-03-01 to 1970-01-01

CivilDate civil_of_days(std::int64_t days) {
  days += epoch;
  const std::int64_t era = floor_divide(days, days_of_era);
  const std::int64_t day_of_era = days - era * days_of_era;
  const std::int64_t year_of_era =
      (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  const std::int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const std::int64_t month = (5 * day_of_year + 2) / 153;  // 0 is March
  const auto day = static_cast<int>(day_of_year - (153 * month + 2) / 5 + 1);
  const auto civil_month = static_cast<int>(month < 10 ? month + 3 : month - 9);
  return {era * 400 + year_of_era + (civil_month <= 2 ? 1 : 0), civil_month, day};
}

std::int64_t days_of_civil(const CivilDate& date) {
  const std::int64_t year = date.year - (date.month <= 2 ? 1 : 0);
  const std::int64_t era = floor_divide(year, 400);
  const std::int64_t year_of_era = year - era * 400;
  const std::int64_t month = date.month > 2 ? date.month - 3 : date.month + 9;
  const std::int64_t day_of_year = (153 * month + 2) / 5 + date.day - 1;
  return era * days_of_era + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - epoch;
}

double double_of_half(std::uint16_t half) {
  const int exponent = half >> 10 & 0x1F;
  const int fraction = half & 0x3FF;
  const double sign = (half & 0x8000) != 0 ? -1.0 : 1.0;
  if (exponent == 0x1F) return fraction == 0 ? sign * HUGE_VAL : std::nan("");
  return exponent == 0 ? sign * std::ldexp(fraction, -24)
                       : sign * std::ldexp(fraction + 0x400, exponent - 25);
}

std::uint16_t half_of_double(double value) {
  const auto sign = static_cast<std::uint16_t>(std::signbit(value) ? 0x8000 : 0);
  const double magnitude = std::fabs(value);
  if (std::isnan(value)) return sign | 0x7E00;
  if (magnitude == 0) return sign;
  // From here on the nearest half, by ties to even, is beyond the largest one, 65504.
  if (magnitude >= 65520.0) return sign | 0x7C00;
  int exponent;
  std::frexp(magnitude, &exponent);
  // A step of the format at this magnitude is 2 ** (exponent - 11), and at least 2 ** -24.
  const int step = exponent - 11 < -24 ? -24 : exponent - 11;
  const auto steps = static_cast<std::uint16_t>(std::nearbyint(std::ldexp(magnitude, -step)));
  // Rounding up to the next power of two carries into the exponent by itself.
  const auto biased = static_cast<std::uint16_t>((step + 24) << 10);
  return static_cast<std::uint16_t>(sign | (biased + steps));
}

void Wide::negate() {
  std::uint64_t carry = 1;
  for (std::uint64_t& limb : limbs) {
    limb = ~limb + carry;
    carry = carry != 0 && limb == 0 ? 1 : 0;
  }
}

bool Wide::multiply(std::uint32_t factor) {
  unsigned __int128 carry = 0;
  for (std::uint64_t& limb : limbs) {
    carry += static_cast<unsigned __int128>(limb) * factor;
    limb = static_cast<std::uint64_t>(carry);
    carry >>= 64;
  }
  return carry == 0 && !negative();
}

std::uint32_t Wide::divide(std::uint32_t divisor) {
  unsigned __int128 rest = 0;
  for (int i = 3; i >= 0; --i) {
    rest = rest << 64 | limbs[i];
    limbs[i] = static_cast<std::uint64_t>(rest / divisor);
    rest %= divisor;
  }
  return static_cast<std::uint32_t>(rest);
}

int digits_of(Wide magnitude) {
  int digits = 0;
  do {
    magnitude.divide(10);
    ++digits;
  } while (!magnitude.is_zero());
  return digits;
}

Wide load_wide(const void* buffer, std::int64_t index, std::int64_t width) {
  Wide value;
  const char* bytes = static_cast<const char*>(buffer) + index * width;
  const auto size = static_cast<std::size_t>(width);
  if ((bytes[size - 1] & 0x80) != 0) std::memset(value.limbs, 0xFF, sizeof(value.limbs));
  std::memcpy(value.limbs, bytes, size);
  return value;
}

namespace {

// The external term format, as in conversion/integer.cpp.
constexpr unsigned char version_tag = 131;
constexpr unsigned char small_big_tag = 110;
constexpr std::size_t big_header = 4;

}  // namespace

Term wide_term(ErlNifEnv* env, const Wide& value) {
  const auto low = static_cast<std::int64_t>(value.limbs[0]);
  const std::uint64_t extension = low < 0 ? ~0ULL : 0;
  if (value.limbs[1] == extension && value.limbs[2] == extension && value.limbs[3] == extension)
    return enif_make_int64(env, low);
  Wide magnitude = value;
  if (value.negative()) magnitude.negate();
  unsigned char external[big_header + sizeof(magnitude.limbs)] = {
      version_tag, small_big_tag, sizeof(magnitude.limbs), static_cast<unsigned char>(value.negative())};
  std::memcpy(external + big_header, magnitude.limbs, sizeof(magnitude.limbs));
  // Leading zeros would make a number that is not equal to itself.
  std::size_t size = sizeof(magnitude.limbs);
  while (external[big_header + size - 1] == 0) --size;
  external[2] = static_cast<unsigned char>(size);
  Term term;
  return enif_binary_to_term(env, external, big_header + size, &term, 0) != 0 ? term : 0;
}

bool get_wide(ErlNifEnv* env, Term term, Wide* out, bool* integer) {
  ErlNifSInt64 small;
  *integer = enif_is_number(env, term) != 0;
  *out = Wide();
  if (enif_get_int64(env, term, &small)) {
    out->limbs[0] = static_cast<std::uint64_t>(small);
    if (small < 0) out->limbs[1] = out->limbs[2] = out->limbs[3] = ~0ULL;
    return true;
  }
  double real;
  if (enif_get_double(env, term, &real)) *integer = false;
  ErlNifBinary external;
  if (!*integer || !enif_term_to_binary(env, term, &external)) return false;
  const std::size_t size = external.size - big_header;
  const bool fits = external.data[1] == small_big_tag && size <= sizeof(out->limbs);
  const bool negative = external.data[3] != 0;
  if (fits) std::memcpy(out->limbs, external.data + big_header, size);
  enif_release_binary(&external);
  if (!fits || out->negative()) return false;
  if (negative) out->negate();
  return true;
}

}  // namespace pythonx
