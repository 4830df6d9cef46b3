// The memory of columns as binaries of Elixir, without a copy.
//
// Ownership. Each binary is a resource with a shared pointer to the array it shows; table.hpp says what the last one does.
// The destructor may run on any scheduler.
#include <algorithm>

#include "tables/arrow_value.hpp"
#include "tables/built_array.hpp"
#include "tables/read.hpp"
#include "vm/resource.hpp"

namespace pythonx {
namespace {

struct ColumnMemory {
  ArrayPtr array;
};

ResourceType<ColumnMemory> column_type;

Term binary_over(ErlNifEnv* env, const ArrayPtr& owner, const void* data, std::int64_t size) {
  if (size <= 0 || data == nullptr) return make_binary(env, "");
  ColumnMemory* memory = column_type.make(owner);
  const Term binary = enif_make_resource_binary(env, memory, data, static_cast<std::size_t>(size));
  enif_release_resource(memory);
  return binary;
}

bool has_validity(Kind kind) {
  return kind != Kind::null && kind != Kind::run_end && kind != Kind::unsupported;
}

// The bytes of a buffer that the values [0, end) take.
std::int64_t buffer_size(const Type& type, const ArrowArray& array, std::int64_t n, std::int64_t end) {
  const std::int64_t bits = (end + 7) / 8;
  if (n == 0 || type.kind == Kind::boolean) return bits;
  switch (type.kind) {
    case Kind::text:
    case Kind::bytes:
      // An array without values need not have offsets.
      if (n == 2)
        return end == 0 || array.buffers[1] == nullptr ? 0 : offset_at(array.buffers[1], type.width, end);
      [[fallthrough]];
    case Kind::list:
    case Kind::map:
      return end == 0 ? 0 : (end + 1) * type.width;
    case Kind::text_view:
    case Kind::bytes_view:
      if (n == array.n_buffers - 1) return 8 * (array.n_buffers - 3);
      return n == 1 ? 16 * end : load<std::int64_t>(array.buffers[array.n_buffers - 1], n - 2);
    default:
      return end * type.width;
  }
}

Term buffers_of(ErlNifEnv* env, const Type& type, const ArrowArray& array, const ArrayPtr& owner,
                std::int64_t end) {
  std::vector<Term> terms;
  for (std::int64_t n = 0; n < array.n_buffers && type.kind != Kind::unsupported; ++n) {
    const void* data = array.buffers[n];
    const bool absent = data == nullptr && n == 0 && has_validity(type.kind);
    terms.push_back(absent ? atoms.nil : binary_over(env, owner, data, buffer_size(type, array, n, end)));
  }
  return enif_make_list_from_array(env, terms.data(), static_cast<unsigned>(terms.size()));
}

Term chunk_term(ErlNifEnv* env, const Type& type, const ArrowArray& array, const ArrayPtr& owner,
                std::int64_t offset, std::int64_t length) {
  std::vector<Term> children;
  for (std::size_t i = 0; i < type.children.size(); ++i) {
    const ArrowArray& child = *array.children[i];
    children.push_back(chunk_term(env, type.children[i], child, owner, child.offset, child.length));
  }
  const ArrowArray* values = array.dictionary;
  const Term dictionary =
      values == nullptr ? atoms.nil
                        : chunk_term(env, type.dictionary[0], *values, owner, values->offset, values->length);
  const bool whole = offset == array.offset && length == array.length;
  const Term nulls = array.null_count == 0           ? enif_make_int64(env, 0)
                     : whole && array.null_count > 0 ? enif_make_int64(env, array.null_count)
                                                     : atoms.nil;
  const Term items[] = {
      type_term(env, type),
      make_binary(env, type.format),
      enif_make_int64(env, length),
      enif_make_int64(env, offset),
      nulls,
      buffers_of(env, type, array, owner, offset + length),
      enif_make_list_from_array(env, children.data(), static_cast<unsigned>(children.size())),
      dictionary};
  return enif_make_tuple_from_array(env, items, 8);
}

// A copy of an array, with offsets and lengths as they are. One of an unknown layout is shared.
std::unique_ptr<Built> copy_array(const Type& type, const ArrowArray& array, std::int64_t end) {
  auto built = std::make_unique<Built>();
  for (std::int64_t n = 0; n < array.n_buffers; ++n) {
    const auto* data = static_cast<const char*>(array.buffers[n]);
    if (data == nullptr) {
      built->add_absent_buffer();
    } else {
      built->add_buffer(std::vector<char>(data, data + buffer_size(type, array, n, end)));
    }
  }
  for (std::size_t i = 0; i < type.children.size(); ++i) {
    const ArrowArray& child = *array.children[i];
    built->add_child(copy_array(type.children[i], child, child.offset + child.length));
  }
  if (array.dictionary != nullptr) {
    const ArrowArray& values = *array.dictionary;
    built->dictionary = copy_array(type.dictionary[0], values, values.offset + values.length);
  }
  built->finish(array.length, array.null_count);
  built->array.offset = array.offset;
  return built;
}

bool is_known(const Type& type) {
  return type.kind != Kind::unsupported &&
         std::all_of(type.children.begin(), type.children.end(), is_known) &&
         std::all_of(type.dictionary.begin(), type.dictionary.end(), is_known);
}

}  // namespace

TablePtr copy_of(const Table& table) {
  auto copy = std::make_shared<Table>(table);
  for (Column& column : copy->columns) {
    if (!is_known(*column.type)) continue;
    for (Chunk& chunk : column.chunks) {
      std::unique_ptr<Built> built = copy_array(*column.type, *chunk.array, chunk.offset + chunk.length);
      built->array.offset = chunk.offset;
      built->array.length = chunk.length;
      if (chunk.length != chunk.array->length && chunk.array->null_count != 0) built->array.null_count = -1;
      chunk.array = share(std::move(built));
    }
  }
  return copy;
}

bool open_column_type(ErlNifEnv* env) { return column_type.open(env, "pythonx_column"); }

std::int64_t count_nulls(const Chunk& chunk) {
  const ArrowArray& array = *chunk.array;
  if (array.null_count == 0 || array.n_buffers == 0 || array.buffers[0] == nullptr) return 0;
  if (array.null_count > 0 && array.length == chunk.length) return array.null_count;
  const auto* bits = static_cast<const std::uint8_t*>(array.buffers[0]);
  std::int64_t valid = 0;
  std::int64_t i = chunk.offset;
  const std::int64_t end = chunk.offset + chunk.length;
  for (; i < end && i % 8 != 0; ++i) valid += bit_at(bits, i) ? 1 : 0;
  for (; i + 64 <= end; i += 64) valid += __builtin_popcountll(load<std::uint64_t>(bits + i / 8, 0));
  for (; i < end; ++i) valid += bit_at(bits, i) ? 1 : 0;
  return chunk.length - valid;
}

Term column_binaries(ErlNifEnv* env, const Column& column) {
  const std::int64_t width = column.type->width;
  std::vector<Term> binaries;
  for (const Chunk& chunk : column.chunks) {
    const auto* data = static_cast<const char*>(chunk.array->buffers[1]) + chunk.offset * width;
    binaries.push_back(binary_over(env, chunk.array, data, chunk.length * width));
  }
  return enif_make_list_from_array(env, binaries.data(), static_cast<unsigned>(binaries.size()));
}

Term column_chunks(ErlNifEnv* env, const Column& column) {
  std::vector<Term> chunks;
  chunks.reserve(column.chunks.size());
  for (const Chunk& chunk : column.chunks) {
    chunks.push_back(chunk_term(env, *column.type, *chunk.array, chunk.array, chunk.offset, chunk.length));
  }
  return enif_make_list_from_array(env, chunks.data(), static_cast<unsigned>(chunks.size()));
}

}  // namespace pythonx
