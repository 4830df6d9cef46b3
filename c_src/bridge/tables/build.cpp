#include "tables/build.hpp"

#include "tables/builder.hpp"

namespace pythonx {
namespace {

class NullBuilder : public Builder {
 public:
  using Builder::Builder;

 protected:
  bool append(Term term) override { return fail(term, arrow_atoms.type); }
  void append_nothing() override {}
  void finish(Built& built) override {
    built.buffers.clear();
    built.memory.clear();
  }
};

class BooleanBuilder : public Builder {
 public:
  using Builder::Builder;

 protected:
  bool append(Term term) override {
    if (term != atoms.true_ && term != atoms.false_) return fail(term, arrow_atoms.type);
    bits_.push(term == atoms.true_);
    return true;
  }
  void append_nothing() override { bits_.push(false); }
  void finish(Built& built) override { built.add_buffer(bits_.take()); }

 private:
  Bits bits_;
};

}  // namespace

std::unique_ptr<Builder> make_builder(const Context& context, Type& type) {
  if (!type.dictionary.empty()) return make_bytes_builder(context, type);
  switch (type.kind) {
    case Kind::null:
      return std::make_unique<NullBuilder>(context, type);
    case Kind::boolean:
      return std::make_unique<BooleanBuilder>(context, type);
    case Kind::text:
    case Kind::bytes:
    case Kind::fixed_bytes:
      return make_bytes_builder(context, type);
    case Kind::list:
    case Kind::fixed_list:
    case Kind::structure:
    case Kind::map:
      return make_nested_builder(context, type);
    case Kind::date:
    case Kind::time:
    case Kind::timestamp:
    case Kind::duration:
      return make_time_builder(context, type);
    default:
      return make_number_builder(context, type);
  }
}

bool build_column(ErlNifEnv* env, Term list, Type type, Column* out, BuildFailure* failure) {
  const std::unique_ptr<Builder> builder = make_builder({env, failure}, type);
  for (Term head; enif_get_list_cell(env, list, &head, &list); ++failure->row) {
    if (!builder->add(head)) return false;
  }
  const ArrayPtr array = share(builder->finish());
  if (array->length > 0) out->chunks.push_back({array, 0, array->length});
  out->type = std::make_shared<Type>(std::move(type));
  return true;
}

namespace {

// A binary of Elixir, kept by an environment of its own. Nobody changes it: to append to a binary that somebody else has
// as well, the VM makes a new one.
struct KeptBinary {
  ErlNifEnv* env = enif_alloc_env();
  ErlNifBinary binary{};

  explicit KeptBinary(Term term) { enif_inspect_binary(env, enif_make_copy(env, term), &binary); }
  ~KeptBinary() { enif_free_env(env); }
  KeptBinary(const KeptBinary&) = delete;
  KeptBinary& operator=(const KeptBinary&) = delete;
};

// Readers of Arrow data may need values to be aligned to their size. A part of a binary may begin anywhere.
std::unique_ptr<Built> built_over(Term term, std::int64_t alignment) {
  auto built = std::make_unique<Built>();
  built->add_absent_buffer();
  auto kept = std::make_shared<KeptBinary>(term);
  const ErlNifBinary& binary = kept->binary;
  if (reinterpret_cast<std::uintptr_t>(binary.data) % static_cast<std::uintptr_t>(alignment) != 0) {
    built->add_buffer(std::vector<unsigned char>(binary.data, binary.data + binary.size));
    return built;
  }
  built->buffers.push_back(binary.data);
  built->memory.push_back(std::move(kept));
  return built;
}

}  // namespace

bool column_over(ErlNifEnv* env, Term binaries, const Type& type, Column* out, BuildFailure* failure) {
  out->type = std::make_shared<Type>(type);
  const std::int64_t alignment = type.kind == Kind::fixed_bytes ? 1 : type.width < 8 ? type.width : 8;
  for (Term head; enif_get_list_cell(env, binaries, &head, &binaries);) {
    ErlNifBinary binary;
    enif_inspect_binary(env, head, &binary);
    if (type.width == 0 || binary.size % static_cast<std::size_t>(type.width) != 0) {
      *failure = {0, enif_make_uint64(env, binary.size), arrow_atoms.size, type_term(env, type)};
      return false;
    }
    if (binary.size == 0) continue;
    std::unique_ptr<Built> built = built_over(head, alignment);
    built->finish(static_cast<std::int64_t>(binary.size) / type.width, 0);
    const ArrayPtr array = share(std::move(built));
    out->chunks.push_back({array, 0, array->length});
  }
  return true;
}

}  // namespace pythonx
