// Builders of columns: how the terms of one type become an array. build.cpp chooses among them.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "tables/arrow_atoms.hpp"
#include "tables/build.hpp"
#include "tables/built_array.hpp"
#include "vm/term.hpp"

namespace pythonx {

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

// The builder of a type; it refers to the type, which has to outlive it.
std::unique_ptr<Builder> make_builder(const Context& context, Type& type);

// Those of one group of types each: build_numbers.cpp, build_times.cpp, build_bytes.cpp,
// build_nested.cpp.
std::unique_ptr<Builder> make_number_builder(const Context& context, Type& type);
std::unique_ptr<Builder> make_time_builder(const Context& context, Type& type);
std::unique_ptr<Builder> make_bytes_builder(const Context& context, Type& type);
std::unique_ptr<Builder> make_nested_builder(const Context& context, Type& type);

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

 private:
  std::vector<T> values_;
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

}  // namespace pythonx
