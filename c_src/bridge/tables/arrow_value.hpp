// Reading and writing single values of Arrow's buffers: bits, half floats, the calendar, wide integers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "vm/term.hpp"

namespace pythonx {

// Buffers need not be aligned.
template <typename T>
inline T load(const void* buffer, std::int64_t index) {
  T value;
  std::memcpy(&value, static_cast<const char*>(buffer) + index * static_cast<std::int64_t>(sizeof(T)),
              sizeof(T));
  return value;
}

inline bool bit_at(const void* bits, std::int64_t index) {
  return (static_cast<const std::uint8_t*>(bits)[index >> 3] >> (index & 7) & 1) != 0;
}

// The nth offset of a buffer of 4-byte or 8-byte ones.
inline std::int64_t offset_at(const void* buffer, std::int64_t width, std::int64_t index) {
  return width == 4 ? load<std::int32_t>(buffer, index) : load<std::int64_t>(buffer, index);
}

constexpr std::int64_t floor_divide(std::int64_t value, std::int64_t by) {
  return value / by - (value % by < 0 ? 1 : 0);
}

constexpr std::int64_t seconds_of_day = 86400;
constexpr std::int64_t last_year = 9999;  // of Elixir's calendar, and the first one negated

struct CivilDate {
  std::int64_t year;
  int month;
  int day;
};

// Days since 1970-01-01 in the proleptic Gregorian calendar, both ways.
CivilDate civil_of_days(std::int64_t days);
std::int64_t days_of_civil(const CivilDate& date);

double double_of_half(std::uint16_t half);
// The nearest half; an infinity for what is too large.
std::uint16_t half_of_double(double value);

// A signed integer of 256 bits in two's complement, least significant first: what decimals are made of.
struct Wide {
  std::uint64_t limbs[4] = {0, 0, 0, 0};

  bool negative() const { return (limbs[3] >> 63) != 0; }
  void negate();
  // Of a magnitude. False when the product needs more than 255 bits.
  bool multiply(std::uint32_t factor);
  // Of a magnitude; returns the remainder.
  std::uint32_t divide(std::uint32_t divisor);
  bool is_zero() const { return (limbs[0] | limbs[1] | limbs[2] | limbs[3]) == 0; }
};

// How many decimal digits a magnitude has: 1 for zero.
int digits_of(Wide magnitude);

Wide load_wide(const void* buffer, std::int64_t index, std::int64_t width);
Term wide_term(ErlNifEnv* env, const Wide& value);
// False for what is no integer, or does not fit 255 bits and a sign (then *integer is true).
bool get_wide(ErlNifEnv* env, Term term, Wide* out, bool* integer);

}  // namespace pythonx
