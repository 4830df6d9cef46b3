// Terms, and the environments that hold them.
//
// A term is a word. Its lowest three bits say what it is:
//
//   0  no term (0 as a whole)             4  an atom: its number, see atoms.hpp
//   1  a list cell: where it is           5  the empty list
//   2  a box: where it is                 6  a pid, see pids.hpp
//   3  an integer of 61 bits
//
// A cell is two words, head and tail. A box begins with a word that says what is in it: its kind in 8 bits, 8 bits for what the
// kind may want to know, and a size.
//
//   real       a double
//   integer    beyond 61 bits: the magnitude, little endian, without leading zeros; the extra bits are 1 for a negative one
//   tuple      as many terms
//   map        as many pairs of terms, and an index of them if they are many (maps.hpp)
//   bytes      a short binary: its bytes
//   binary     a longer one: whom the bytes belong to (counted), where they are; the size is theirs
//   opaque     port, reference, exported function, bitstring: the bytes of its external format; the extra bits are its ErlNifTermType
//   resource   a resource (resources.hpp)
//   function   a function of the VM (functions.hpp)
//
// Ownership: terms lie in the chunks of their environment, which never move, and end with it. An environment holds a reference to
// each counted thing that a term of it refers to. It belongs to one thread at a time, and has no lock.
//
// What needs memory that there is not throws std::bad_alloc, which the bridge answers as anything else that it has no memory for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "counted.hpp"
#include "nif.hpp"

namespace pythonx::worker {

constexpr unsigned tag_bits = 3;
constexpr Term tag_mask = 7;
constexpr Term cell_tag = 1;
constexpr Term box_tag = 2;
constexpr Term small_tag = 3;
constexpr Term atom_tag = 4;
constexpr Term empty_list = 5;
constexpr Term pid_tag = 6;

enum class Kind : std::uint8_t { real, integer, tuple, map, bytes, binary, opaque, resource, function };

constexpr std::size_t longest_short_binary = 64;

struct Chunk {
  Chunk* next;
  std::size_t size;
};

struct Owned {
  Owned* next;
  Counted* object;
};

}  // namespace pythonx::worker

// The name is of erl_nif.h.
struct enif_environment_t {
  char* top;
  char* end;
  pythonx::worker::Chunk* chunks;
  pythonx::worker::Owned* owned;
  std::size_t next_size;
  ERL_NIF_TERM caller;     // the process that calls, or 0
  ERL_NIF_TERM exception;  // what was raised, or 0
  char first[512];

  enif_environment_t() { init(); }
  ~enif_environment_t() { clear(); }
  enif_environment_t(const enif_environment_t&) = delete;
  enif_environment_t& operator=(const enif_environment_t&) = delete;

  // Ends all terms.
  void clear() {
    if (owned != nullptr) release_owned();
    if (chunks != nullptr) free_chunks();
    init();
  }

  ERL_NIF_TERM* allocate(std::size_t words) {
    const std::size_t size = words * sizeof(ERL_NIF_TERM);
    if (size > static_cast<std::size_t>(end - top)) return allocate_chunk(size);
    auto* memory = reinterpret_cast<ERL_NIF_TERM*>(top);
    top += size;
    return memory;
  }

  // Takes the reference.
  void own(pythonx::worker::Counted* object);
  // A reference of its own, unless it had one just now.
  void refer_to(pythonx::worker::Counted* object);

 private:
  void init() {
    top = first;
    end = first + sizeof(first);
    chunks = nullptr;
    owned = nullptr;
    next_size = 4096;
    caller = exception = 0;
  }
  ERL_NIF_TERM* allocate_chunk(std::size_t size);
  void free_chunks();
  void release_owned();
};

namespace pythonx::worker {

using Env = enif_environment_t;

inline bool is_cell(Term term) { return (term & tag_mask) == cell_tag; }
inline bool is_box(Term term) { return (term & tag_mask) == box_tag; }
inline bool is_small(Term term) { return (term & tag_mask) == small_tag; }
inline bool is_atom(Term term) { return (term & tag_mask) == atom_tag; }
inline bool is_pid(Term term) { return (term & tag_mask) == pid_tag; }

inline Term* cell_of(Term term) { return reinterpret_cast<Term*>(term - cell_tag); }
inline Term* box_of(Term term) { return reinterpret_cast<Term*>(term - box_tag); }
inline Term cell_term(const Term* cell) { return reinterpret_cast<Term>(cell) + cell_tag; }
inline Term box_term(const Term* box) { return reinterpret_cast<Term>(box) + box_tag; }

inline Term header(Kind kind, std::size_t size, unsigned extra = 0) {
  return static_cast<Term>(kind) | static_cast<Term>(extra) << 8 | static_cast<Term>(size) << 16;
}
inline Kind kind_of(const Term* box) { return static_cast<Kind>(*box & 0xFF); }
inline unsigned extra_of(const Term* box) { return static_cast<unsigned>(*box >> 8) & 0xFF; }
inline std::size_t size_of(const Term* box) { return *box >> 16; }
inline bool is_kind(Term term, Kind kind) { return is_box(term) && kind_of(box_of(term)) == kind; }

constexpr std::size_t words_for(std::size_t bytes) { return (bytes + sizeof(Term) - 1) / sizeof(Term); }

constexpr std::int64_t largest_small = (std::int64_t{1} << 60) - 1;
constexpr std::int64_t smallest_small = -(std::int64_t{1} << 60);
inline bool fits_small(std::int64_t value) { return value <= largest_small && value >= smallest_small; }
inline Term small_term(std::int64_t value) { return static_cast<Term>(value) << tag_bits | small_tag; }
inline std::int64_t small_value(Term term) { return static_cast<std::int64_t>(term) >> tag_bits; }

inline const unsigned char* bytes_in(const Term* box) {
  return reinterpret_cast<const unsigned char*>(box + 1);
}

// The bytes of a `bytes` or a `binary`, and nothing else; false for other terms.
inline bool get_bytes(Term term, const unsigned char** data, std::size_t* size) {
  if (!is_box(term)) return false;
  const Term* box = box_of(term);
  if (kind_of(box) == Kind::bytes) {
    *data = bytes_in(box);
  } else if (kind_of(box) == Kind::binary) {
    *data = reinterpret_cast<const unsigned char*>(box[2]);
  } else {
    return false;
  }
  *size = size_of(box);
  return true;
}

inline Term cons(Env* env, Term head, Term tail) {
  Term* cell = env->allocate(2);
  cell[0] = head;
  cell[1] = tail;
  return cell_term(cell);
}

// A tuple whose elements are still to be put in.
inline Term* new_tuple(Env* env, std::size_t arity) {
  Term* box = env->allocate(1 + arity);
  box[0] = header(Kind::tuple, arity);
  return box;
}

Term make_integer(Env* env, bool negative, const unsigned char* magnitude, std::size_t size);
Term make_int64(Env* env, std::int64_t value);
Term make_uint64(Env* env, std::uint64_t value);
bool get_int64(Term term, std::int64_t* out);
bool get_uint64(Term term, std::uint64_t* out);
Term make_real(Env* env, double value);
Term copy_bytes(Env* env, const unsigned char* data, std::size_t size);
// A binary over bytes that `owner` keeps in place. The environment takes a reference of its own.
Term make_binary(Env* env, Counted* owner, const unsigned char* data, std::size_t size);
Term make_opaque(Env* env, ErlNifTermType type, const unsigned char* external, std::size_t size);

// A copy in `env` of a term of another environment.
Term copy_term(Env* env, Term term);

}  // namespace pythonx::worker
