#include "heap.hpp"

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

#include "maps.hpp"

using namespace pythonx::worker;

namespace {

// Chunks of this size are kept for whoever comes next, as many as these: the system takes longer to give memory than it takes to
// fill it.
constexpr std::size_t large_chunk = 1 << 20;
constexpr std::size_t most_kept_chunks = 32;

std::mutex chunk_mutex;
Chunk* kept_chunks = nullptr;
std::size_t kept_chunk_count = 0;

Chunk* new_chunk(std::size_t size) {
  if (size == large_chunk) {
    const std::lock_guard<std::mutex> lock(chunk_mutex);
    if (kept_chunks != nullptr) {
      Chunk* chunk = kept_chunks;
      kept_chunks = chunk->next;
      --kept_chunk_count;
      return chunk;
    }
  }
  auto* chunk = static_cast<Chunk*>(std::malloc(size));
  if (chunk == nullptr) throw std::bad_alloc();
  chunk->size = size;
  return chunk;
}

void free_chunk(Chunk* chunk) {
  if (chunk->size == large_chunk) {
    const std::lock_guard<std::mutex> lock(chunk_mutex);
    if (kept_chunk_count < most_kept_chunks) {
      chunk->next = kept_chunks;
      kept_chunks = chunk;
      ++kept_chunk_count;
      return;
    }
  }
  std::free(chunk);
}

}  // namespace

Term* enif_environment_t::allocate_chunk(std::size_t size) {
  const std::size_t needed = size + sizeof(Chunk);
  if (needed < size) throw std::bad_alloc();
  Chunk* chunk = new_chunk(std::max(needed, next_size));
  chunk->next = chunks;
  chunks = chunk;
  char* begin = reinterpret_cast<char*>(chunk + 1);
  // What is large has a chunk to itself, and the one in use stays so.
  if (needed <= next_size / 2 || end - top < 1024) {
    top = begin + size;
    end = reinterpret_cast<char*>(chunk) + chunk->size;
  }
  next_size = std::min(2 * next_size, large_chunk);
  return reinterpret_cast<Term*>(begin);
}

void enif_environment_t::free_chunks() {
  while (chunks != nullptr) {
    Chunk* next = chunks->next;
    free_chunk(chunks);
    chunks = next;
  }
}

void enif_environment_t::own(Counted* object) {
  Term* memory = nullptr;
  try {
    memory = allocate(words_for(sizeof(Owned)));
  } catch (...) {
    release(object);
    throw;
  }
  owned = new (memory) Owned{owned, object};
}

void enif_environment_t::refer_to(Counted* object) {
  if (owned != nullptr && owned->object == object) return;
  keep(object);
  own(object);
}

void enif_environment_t::release_owned() {
  for (Owned* entry = owned; entry != nullptr; entry = entry->next) release(entry->object);
}

namespace pythonx::worker {

Bytes* make_bytes(std::size_t size) {
  void* memory = std::malloc(sizeof(Bytes) + std::max<std::size_t>(size, 1));
  if (memory == nullptr) throw std::bad_alloc();
  auto* bytes = new (memory) Bytes;
  bytes->data = reinterpret_cast<unsigned char*>(bytes + 1);
  bytes->extent = size;
  bytes->destroy = [](Counted* object) { std::free(static_cast<Bytes*>(object)); };
  return bytes;
}

namespace {

// A box with bytes in it.
Term* new_box(Env* env, Kind kind, unsigned extra, const unsigned char* data, std::size_t size) {
  Term* box = env->allocate(1 + words_for(size));
  box[0] = header(kind, size, extra);
  if (size > 0) std::memcpy(box + 1, data, size);
  return box;
}

std::uint64_t magnitude_of(const Term* box) {
  std::uint64_t value = 0;
  std::memcpy(&value, box + 1, size_of(box));
  return value;
}

}  // namespace

Term make_integer(Env* env, bool negative, const unsigned char* magnitude, std::size_t size) {
  while (size > 0 && magnitude[size - 1] == 0) --size;
  if (size <= sizeof(std::uint64_t)) {
    std::uint64_t value = 0;
    if (size > 0) std::memcpy(&value, magnitude, size);
    if (value <= static_cast<std::uint64_t>(largest_small) + (negative ? 1 : 0)) {
      const auto number = static_cast<std::int64_t>(value);
      return small_term(negative ? -number : number);
    }
  }
  return box_term(new_box(env, Kind::integer, negative ? 1 : 0, magnitude, size));
}

Term make_int64(Env* env, std::int64_t value) {
  if (fits_small(value)) return small_term(value);
  const auto bits = static_cast<std::uint64_t>(value);
  const std::uint64_t magnitude = value < 0 ? ~bits + 1 : bits;
  return make_integer(env, value < 0, reinterpret_cast<const unsigned char*>(&magnitude), sizeof(magnitude));
}

Term make_uint64(Env* env, std::uint64_t value) {
  if (value <= static_cast<std::uint64_t>(largest_small)) return small_term(static_cast<std::int64_t>(value));
  return make_integer(env, false, reinterpret_cast<const unsigned char*>(&value), sizeof(value));
}

bool get_int64(Term term, std::int64_t* out) {
  if (is_small(term)) {
    *out = small_value(term);
    return true;
  }
  if (!is_kind(term, Kind::integer)) return false;
  const Term* box = box_of(term);
  if (size_of(box) > sizeof(std::uint64_t)) return false;
  const std::uint64_t magnitude = magnitude_of(box);
  constexpr std::uint64_t limit = std::uint64_t{1} << 63;
  const bool negative = extra_of(box) != 0;
  if (magnitude > (negative ? limit : limit - 1)) return false;
  *out = static_cast<std::int64_t>(negative ? ~magnitude + 1 : magnitude);
  return true;
}

bool get_uint64(Term term, std::uint64_t* out) {
  if (is_small(term)) {
    *out = static_cast<std::uint64_t>(small_value(term));
    return small_value(term) >= 0;
  }
  if (!is_kind(term, Kind::integer)) return false;
  const Term* box = box_of(term);
  if (size_of(box) > sizeof(std::uint64_t) || extra_of(box) != 0) return false;
  *out = magnitude_of(box);
  return true;
}

Term make_real(Env* env, double value) {
  Term* box = env->allocate(2);
  box[0] = header(Kind::real, sizeof(value));
  std::memcpy(box + 1, &value, sizeof(value));
  return box_term(box);
}

Term copy_bytes(Env* env, const unsigned char* data, std::size_t size) {
  if (size <= longest_short_binary) return box_term(new_box(env, Kind::bytes, 0, data, size));
  Bytes* bytes = make_bytes(size);
  std::memcpy(bytes->data, data, size);
  env->own(bytes);
  return make_binary(env, bytes, bytes->data, size);
}

Term make_binary(Env* env, Counted* owner, const unsigned char* data, std::size_t size) {
  env->refer_to(owner);
  Term* box = env->allocate(3);
  box[0] = header(Kind::binary, size);
  box[1] = reinterpret_cast<Term>(owner);
  box[2] = reinterpret_cast<Term>(data);
  return box_term(box);
}

Term make_opaque(Env* env, ErlNifTermType type, const unsigned char* external, std::size_t size) {
  return box_term(new_box(env, Kind::opaque, static_cast<unsigned>(type), external, size));
}

namespace {

// Terms that are still to be copied, from one place to another.
struct Copy {
  const Term* from;
  Term* to;
  std::size_t count;
};

class Copier {
 public:
  explicit Copier(Env* env) : env_(env) {}

  Term run(Term root) {
    Term result = 0;
    begin(root, &result);
    while (!open_.empty()) {
      Copy& copy = open_.back();
      if (copy.count == 0) {
        open_.pop_back();
        continue;
      }
      --copy.count;
      begin(*copy.from++, copy.to++);
    }
    return result;
  }

 private:
  void begin(Term term, Term* out) {
    if (is_cell(term)) {
      list(term, out);
    } else if (is_box(term)) {
      *out = box(box_of(term));
    } else {
      *out = term;
    }
  }

  // Along the cells; heads that are no words are left for later.
  void list(Term term, Term* out) {
    for (; is_cell(term); term = cell_of(term)[1]) {
      const Term* from = cell_of(term);
      Term* to = env_->allocate(2);
      *out = cell_term(to);
      to[0] = is_box(from[0]) ? box(box_of(from[0])) : from[0];
      if (is_cell(from[0])) open_.push_back({from, to, 1});
      out = to + 1;
    }
    *out = is_box(term) ? box(box_of(term)) : term;
  }

  Term box(const Term* from) {
    switch (kind_of(from)) {
      case Kind::tuple:
        return container(from, size_of(from), 1 + size_of(from));
      case Kind::map:
        return container(from, 2 * size_of(from), map_words(size_of(from)));
      case Kind::binary:
        return binary(from);
      case Kind::resource:
      case Kind::function:
        env_->refer_to(reinterpret_cast<Counted*>(from[1]));
        return words(from, 2);
      default:
        return words(from, 1 + words_for(size_of(from)));
    }
  }

  Term words(const Term* from, std::size_t count) {
    Term* to = env_->allocate(count);
    std::memcpy(to, from, count * sizeof(Term));
    return box_term(to);
  }

  // With the index of a map, which is one of places.
  Term container(const Term* from, std::size_t terms, std::size_t all) {
    Term* to = env_->allocate(all);
    to[0] = from[0];
    if (all > 1 + terms) std::memcpy(to + 1 + terms, from + 1 + terms, (all - 1 - terms) * sizeof(Term));
    if (terms > 0) open_.push_back({from + 1, to + 1, terms});
    return box_term(to);
  }

  Term binary(const Term* from) {
    auto* owner = reinterpret_cast<Counted*>(from[1]);
    const auto* data = reinterpret_cast<const unsigned char*>(from[2]);
    const std::size_t size = size_of(from);
    const bool part = owner->extent != 0 && size < owner->extent / 8;
    return part ? copy_bytes(env_, data, size) : make_binary(env_, owner, data, size);
  }

  Env* env_;
  std::vector<Copy> open_;
};

}  // namespace

Term copy_term(Env* env, Term term) {
  if (!is_cell(term) && !is_box(term)) return term;
  return Copier(env).run(term);
}

}  // namespace pythonx::worker
