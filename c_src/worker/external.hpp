// The external term format (https://www.erlang.org/doc/apps/erts/erl_ext_dist), in both directions.
//
// Reading trusts nothing: every count is compared with the bytes that are left, each of which makes sixteen bytes of terms at most,
// and depth takes memory of the heap, never the C stack. Writing does not recurse either.
#pragma once

#include <sys/uio.h>

#include <exception>
#include <vector>

#include "heap.hpp"
#include "resources.hpp"

namespace pythonx::worker {

constexpr unsigned char version_tag = 131;

enum class Tag : unsigned char {
  new_float = 70,
  bit_binary = 77,
  new_pid = 88,
  new_port = 89,
  newer_reference = 90,
  small_integer = 97,
  integer = 98,
  small_tuple = 104,
  large_tuple = 105,
  nil = 106,
  string = 107,
  list = 108,
  binary = 109,
  small_big = 110,
  large_big = 111,
  new_fun = 112,
  export_fun = 113,
  map = 116,
  atom_utf8 = 118,
  small_atom_utf8 = 119,
  v4_port = 120,
};

// The nodes of references that mean something here: what this worker has made, and functions of the VM.
constexpr const char* worker_node = "pythonx@worker";
constexpr const char* function_node = "pythonx@function";

// The last of the three words of a reference of the worker: a resource (the others are its serial), what enif_make_ref has made, a
// job by its number.
enum class Made : std::uint32_t { resource = 0, reference = 1, job = 2 };

// The number of this worker among all of its VM, which is what tells its references from those of others. From `setup`.
void set_creation(std::uint32_t number);
std::uint32_t creation();

struct Input {
  const unsigned char* data;
  std::size_t size;
  Bytes* owner = nullptr;  // of the data, which longer binaries then refer to
  bool new_atoms = true;
};

enum class Decoded {
  ok,
  malformed,
  unknown,  // well-formed, with a handle that is not lent (any more), an empty list in its place
};

// Reads one term, and how many bytes it took.
Decoded decode_term(Env* env, const Input& input, Term* out, std::size_t* used);

// What a term takes beyond what there may be.
class TooLarge : public std::exception {};

// Bytes, a part of which lies elsewhere: long binaries are not copied.
class Output {
 public:
  Output() = default;
  ~Output();
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  // Forgets what was written. Keeps the memory, if that is not much.
  void clear();

  // Room for that many bytes, which are then written by `advance`.
  unsigned char* reserve(std::size_t size) {
    if (size > capacity_ - used_) grow(size);
    return data_ + used_;
  }
  void advance(std::size_t size) { used_ += size; }
  void put(const void* bytes, std::size_t size);
  void put_byte(unsigned char byte) {
    *reserve(1) = byte;
    used_ += 1;
  }
  void put_32(std::uint32_t value);

  // Bytes that stay where they are until this is written.
  void refer(const unsigned char* data, std::size_t size);

  void overwrite_32(std::size_t place, std::uint32_t value);
  // Where the next byte goes, for `overwrite_32`.
  std::size_t place() const { return used_; }
  std::size_t total() const { return used_ + elsewhere_; }

  // Whether all of it lies here, at `data`.
  bool is_plain() const { return segments_.empty(); }
  const unsigned char* data() const { return data_; }

  // All of it, as the system writes it.
  std::vector<iovec> parts() const;
  void copy_to(unsigned char* out) const;

  std::vector<Resource*>& resources() { return resources_; }

 private:
  struct Elsewhere {
    std::size_t place;
    const unsigned char* data;
    std::size_t size;
  };

  void grow(std::size_t size);

  unsigned char* data_ = nullptr;
  std::size_t capacity_ = 0;
  std::size_t used_ = 0;
  std::size_t elsewhere_ = 0;
  std::vector<Elsewhere> segments_;
  std::vector<Resource*> resources_;  // that were written, each as often
};

// Writes a term, with the version before it. Throws TooLarge beyond `limit` bytes in all.
void encode_term(Term term, std::size_t limit, Output* out);

}  // namespace pythonx::worker
