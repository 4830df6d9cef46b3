// Columns of lists, structs and maps.
#include "tables/builder.hpp"

namespace pythonx {
namespace {

// Adds the elements of a list and counts them; false with the failure set.
template <typename Fail>
bool add_all(ErlNifEnv* env, Builder& builder, Term list, std::int64_t* count, Fail fail) {
  Term rest = list;
  for (Term head; enif_get_list_cell(env, rest, &head, &rest); ++*count) {
    if (!builder.add(head)) return false;
  }
  return enif_is_empty_list(env, rest) || fail(list, arrow_atoms.improper);
}

class ListBuilder : public Builder {
 public:
  ListBuilder(const Context& context, Type& type)
      : Builder(context, type), child_(make_builder(context, type.children[0])) {}

 protected:
  bool append(Term term) override {
    if (!enif_is_list(env(), term)) return fail(term, arrow_atoms.type);
    if (!add_all(env(), *child_, term, &end_, [this](Term at, Term why) { return fail(at, why); }))
      return false;
    append_nothing();
    return true;
  }
  void append_nothing() override { offsets_.push(end_); }
  void finish(Built& built) override {
    offsets_.finish(built, type_);
    built.add_child(child_->finish());
  }

 private:
  std::unique_ptr<Builder> child_;
  Offsets offsets_;
  std::int64_t end_ = 0;
};

class FixedListBuilder : public Builder {
 public:
  FixedListBuilder(const Context& context, Type& type)
      : Builder(context, type), child_(make_builder(context, type.children[0])) {}

 protected:
  bool append(Term term) override {
    std::int64_t count = 0;
    if (!enif_is_list(env(), term)) return fail(term, arrow_atoms.type);
    if (!add_all(env(), *child_, term, &count, [this](Term at, Term why) { return fail(at, why); }))
      return false;
    return count == type_.width || fail(term, arrow_atoms.length);
  }
  void append_nothing() override {
    for (std::int64_t i = 0; i < type_.width; ++i) child_->add_null();
  }
  void finish(Built& built) override { built.add_child(child_->finish()); }

 private:
  std::unique_ptr<Builder> child_;
};

class StructBuilder : public Builder {
 public:
  StructBuilder(const Context& context, Type& type) : Builder(context, type) {
    for (Type& field : type.children) {
      children_.push_back(make_builder(context, field));
      keys_.emplace_back(context.env, field.name);
    }
  }

 protected:
  bool append(Term term) override {
    std::size_t size = 0;
    if (!enif_get_map_size(env(), term, &size) || struct_name(env(), term) != 0)
      return fail(term, arrow_atoms.type);
    std::size_t found = 0;
    for (std::size_t i = 0; i < children_.size(); ++i) {
      Term value = atoms.nil;
      if (keys_[i].get(env(), term, &value)) ++found;
      if (!children_[i]->add(value)) return false;
    }
    // A key that is no field, or two that are the same one.
    return found == size || fail(term, arrow_atoms.key);
  }
  void append_nothing() override {
    for (auto& child : children_) child->add_null();
  }
  void finish(Built& built) override {
    for (auto& child : children_) built.add_child(child->finish());
  }

 private:
  std::vector<std::unique_ptr<Builder>> children_;
  std::vector<FieldKey> keys_;
};

// Keys of a struct with their values; the entries themselves are never null.
class EntriesBuilder : public Builder {
 public:
  EntriesBuilder(const Context& context, Type& type)
      : Builder(context, type),
        key_(make_builder(context, type.children[0])),
        value_(make_builder(context, type.children[1])) {}

  bool add_entry(Term key, Term value) {
    if (key == atoms.nil) return fail(key, arrow_atoms.key);
    ++length_;
    return key_->add(key) && value_->add(value);
  }

 protected:
  bool append(Term term) override { return fail(term, arrow_atoms.type); }
  void append_nothing() override {}
  void finish(Built& built) override {
    built.add_child(key_->finish());
    built.add_child(value_->finish());
  }

 private:
  std::unique_ptr<Builder> key_;
  std::unique_ptr<Builder> value_;
};

class MapBuilder : public Builder {
 public:
  MapBuilder(const Context& context, Type& type)
      : Builder(context, type), entries_(context, type.children[0]) {}

 protected:
  bool append(Term term) override {
    ErlNifMapIterator iterator;
    if (!enif_is_map(env(), term) || struct_name(env(), term) != 0) return fail(term, arrow_atoms.type);
    if (!enif_map_iterator_create(env(), term, &iterator, ERL_NIF_MAP_ITERATOR_FIRST)) return false;
    Term key;
    Term value;
    bool ok = true;
    while (ok && enif_map_iterator_get_pair(env(), &iterator, &key, &value)) {
      ok = entries_.add_entry(key, value);
      enif_map_iterator_next(env(), &iterator);
      ++end_;
    }
    enif_map_iterator_destroy(env(), &iterator);
    // Maps have no form with longer offsets.
    if (ok && end_ > std::numeric_limits<std::int32_t>::max()) ok = fail(term, arrow_atoms.range);
    if (ok) append_nothing();
    return ok;
  }
  void append_nothing() override { offsets_.push(end_); }
  void finish(Built& built) override {
    offsets_.finish(built, type_);
    built.add_child(static_cast<Builder&>(entries_).finish());
  }

 private:
  EntriesBuilder entries_;
  Offsets offsets_;
  std::int64_t end_ = 0;
};

}  // namespace

std::unique_ptr<Builder> make_nested_builder(const Context& context, Type& type) {
  switch (type.kind) {
    case Kind::list:
      return std::make_unique<ListBuilder>(context, type);
    case Kind::fixed_list:
      return std::make_unique<FixedListBuilder>(context, type);
    case Kind::structure:
      return std::make_unique<StructBuilder>(context, type);
    default:
      return std::make_unique<MapBuilder>(context, type);
  }
}

}  // namespace pythonx
