// The values of an array as terms. read.cpp reads tables with it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tables/arrow_value.hpp"
#include "tables/check.hpp"
#include "tables/read.hpp"
#include "vm/term.hpp"

namespace pythonx {

// Reads the values of one array. Indices are into its buffers: they include its offset.
class Reader {
 public:
  Reader(ErlNifEnv* env, const Type& type, const ArrowArray& array, const ReadOptions& options,
         std::string* problem)
      : env_(env), type_(type), array_(array), options_(options), problem_(problem) {
    validity_ = validity_of(array);
    for (std::size_t i = 0; i < type.children.size(); ++i) {
      children_.emplace_back(env, type.children[i], *array.children[i], options, problem);
      names_.push_back(make_binary(env, type.children[i].name));
    }
    if (type.dictionary.empty()) return;
    children_.emplace_back(env, type.dictionary[0], *array.dictionary, options, problem);
    seen_.resize(static_cast<std::size_t>(array.dictionary->length));
  }

  // The rows [from, to) before `tail`; 0 with *row set to the one that has no term.
  Term list(std::int64_t from, std::int64_t to, Term tail, std::int64_t* row);

  // The term of a value; 0 with the problem set.
  Term value(std::int64_t i) {
    if (validity_ != nullptr && !bit_at(validity_, i)) return atoms.nil;
    return type_.dictionary.empty() ? present(i) : looked_up(i);
  }

 private:
  bool valid(std::int64_t i) const { return validity_ == nullptr || bit_at(validity_, i); }
  const void* buffer(int n) const { return array_.buffers[n]; }
  Term child(std::size_t n, std::int64_t i) { return children_[n].value(children_[n].array_.offset + i); }

  template <typename Make>
  Term list_by(std::int64_t from, std::int64_t to, Term tail, std::int64_t* row, Make make);
  Term problem(const char* text) {
    *problem_ = text;
    return 0;
  }

  Term present(std::int64_t i);
  Term nested(std::int64_t i);
  Term looked_up(std::int64_t i);
  Term integer(std::int64_t i) { return enif_make_int64(env_, signed_at(i)); }
  Term natural(std::int64_t i) { return enif_make_uint64(env_, natural_at(i)); }
  Term real(std::int64_t i);
  Term text(std::int64_t i) { return utf8(slice(i)); }
  Term utf8(std::string_view bytes);
  Term bytes(std::string_view bytes);
  std::string_view slice(std::int64_t i) const;
  std::string_view view(std::int64_t i) const;
  std::int64_t signed_at(std::int64_t i) const;
  std::uint64_t natural_at(std::int64_t i) const;

  Term date(std::int64_t i);
  Term time(std::int64_t i);
  Term timestamp(std::int64_t i);
  Term duration(std::int64_t i);
  Term decimal(std::int64_t i);
  bool microseconds(std::int64_t fraction, Term* out);

  Term list_of(std::int64_t from, std::int64_t to);
  Term structure(std::int64_t i);
  Term map(std::int64_t i);
  Term run(std::int64_t i);

  ErlNifEnv* env_;
  const Type& type_;
  const ArrowArray& array_;
  const ReadOptions& options_;
  std::string* problem_;
  const void* validity_ = nullptr;
  std::vector<Reader> children_;  // for a dictionary, its values
  std::vector<Term> names_;
  std::vector<Term> seen_;  // of a dictionary: the terms that were made already
};

}  // namespace pythonx
