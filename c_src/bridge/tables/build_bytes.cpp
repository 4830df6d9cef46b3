// Columns of text and bytes, and dictionaries of them.
#include <string>
#include <unordered_map>

#include "conversion/text.hpp"
#include "tables/builder.hpp"

namespace pythonx {
namespace {

// Whether the bytes are UTF-8.
bool is_utf8(std::string_view bytes) {
  const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
  TextShape shape;
  return is_ascii(data, bytes.size()) || measure_utf8(data, bytes.size(), &shape);
}

// Text and bytes, both of any length. An atom is the text of its name.
class BytesBuilder : public Builder {
 public:
  using Builder::Builder;

  // The bytes of a term, valid until the next call; false with the failure set.
  bool get(Term term, std::string_view* out) {
    const bool text = type_.kind == Kind::text;
    if (!get_binary(env(), term, out)) {
      if (!text || !enif_is_atom(env(), term) || !get_name(env(), term, &name_))
        return fail(term, arrow_atoms.type);
      *out = name_;
    }
    return !text || is_utf8(*out) || fail(term, arrow_atoms.utf8);
  }

  void append_bytes(std::string_view bytes) {
    data_.insert(data_.end(), bytes.begin(), bytes.end());
    append_nothing();
  }

 protected:
  bool append(Term term) override {
    std::string_view bytes;
    if (!get(term, &bytes)) return false;
    append_bytes(bytes);
    return true;
  }
  void append_nothing() override { offsets_.push(static_cast<std::int64_t>(data_.size())); }
  void finish(Built& built) override {
    offsets_.finish(built, type_);
    built.add_buffer(std::move(data_));
  }

 private:
  Offsets offsets_;
  std::vector<char> data_;
  std::string name_;
};

class FixedBytesBuilder : public Builder {
 public:
  using Builder::Builder;

 protected:
  bool append(Term term) override {
    std::string_view bytes;
    if (!get_binary(env(), term, &bytes)) return fail(term, arrow_atoms.type);
    if (bytes.size() != static_cast<std::size_t>(type_.width)) return fail(term, arrow_atoms.size);
    data_.insert(data_.end(), bytes.begin(), bytes.end());
    return true;
  }
  void append_nothing() override { data_.resize(data_.size() + static_cast<std::size_t>(type_.width)); }
  void finish(Built& built) override { built.add_buffer(std::move(data_)); }

 private:
  std::vector<char> data_;
};

// Text or bytes of which each distinct one is stored once.
template <typename T>
class DictionaryBuilder : public Builder {
 public:
  DictionaryBuilder(const Context& context, Type& type)
      : Builder(context, type), values_(context, type.dictionary[0]) {}

 protected:
  bool append(Term term) override {
    std::string_view bytes;
    if (!values_.get(term, &bytes)) return false;
    const auto next = static_cast<std::int64_t>(numbers_.size());
    const auto [entry, is_new] = numbers_.emplace(std::string(bytes), next);
    if (is_new && !values_.add(term)) return false;
    const auto last = static_cast<std::uint64_t>(std::numeric_limits<T>::max());
    if (static_cast<std::uint64_t>(entry->second) > last) return fail(term, arrow_atoms.range);
    indices_.push_back(static_cast<T>(entry->second));
    return true;
  }
  void append_nothing() override { indices_.push_back(0); }
  void finish(Built& built) override {
    built.add_buffer(std::move(indices_));
    built.dictionary = static_cast<Builder&>(values_).finish();
  }

 private:
  BytesBuilder values_;
  std::unordered_map<std::string, std::int64_t> numbers_;
  std::vector<T> indices_;
};

}  // namespace

std::unique_ptr<Builder> make_bytes_builder(const Context& context, Type& type) {
  if (!type.dictionary.empty()) return by_integer<DictionaryBuilder>(context, type);
  if (type.kind == Kind::fixed_bytes) return std::make_unique<FixedBytesBuilder>(context, type);
  return std::make_unique<BytesBuilder>(context, type);
}

}  // namespace pythonx
