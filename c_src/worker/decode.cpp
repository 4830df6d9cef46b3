#include <cmath>
#include <string_view>
#include <vector>

#include "atoms.hpp"
#include "external.hpp"
#include "functions.hpp"
#include "maps.hpp"
#include "pids.hpp"

namespace pythonx::worker {
namespace {

std::uint32_t own_creation = 0;

constexpr std::size_t longest_reference = 5;

// Places that are still to be filled: `count` of them, `stride` words from each other, and when that is done `map` to be made one.
struct Places {
  Term* next;
  std::size_t count;
  std::size_t stride;
  Term* map;
};

class TermDecoder {
 public:
  TermDecoder(Env* env, const Input& input)
      : env_(env), input_(input), at_(input.data), end_(input.data + input.size) {}

  Decoded run(Term* out) {
    if (!has(1) || *at_++ != version_tag) return Decoded::malformed;
    if (!read(out)) return Decoded::malformed;
    while (!open_.empty()) {
      Places open = open_.back();
      if (open.count == 0) {
        open_.pop_back();
        if (open.map != nullptr && !finish_map(open.map)) return Decoded::malformed;
        continue;
      }
      // Most elements are no containers, and then the stack need not be touched.
      const std::size_t depth = open_.size();
      while (open.count > 0 && open_.size() == depth) {
        Term* slot = open.next;
        open.next += open.stride;
        --open.count;
        // It may move the stack.
        open_[depth - 1].next = open.next;
        open_[depth - 1].count = open.count;
        if (!read(slot)) return Decoded::malformed;
      }
    }
    return result_;
  }

  std::size_t used() const { return static_cast<std::size_t>(at_ - input_.data); }

 private:
  bool has(std::size_t size) const { return size <= static_cast<std::size_t>(end_ - at_); }
  static bool malformed() { return false; }

  std::uint32_t big_endian(std::size_t bytes) {
    std::uint32_t value = 0;
    for (; bytes > 0; --bytes) value = value << 8 | *at_++;
    return value;
  }

  bool read(Term* slot) {
    if (!has(1)) return malformed();
    const unsigned char* start = at_;
    switch (static_cast<Tag>(*at_++)) {
      case Tag::small_integer:
        if (!has(1)) return malformed();
        *slot = small_term(*at_++);
        return true;
      case Tag::integer:
        if (!has(4)) return malformed();
        *slot = small_term(static_cast<std::int32_t>(big_endian(4)));
        return true;
      case Tag::small_big:
        return has(1) ? integer(*at_++, slot) : malformed();
      case Tag::large_big:
        return has(4) ? integer(big_endian(4), slot) : malformed();
      case Tag::new_float:
        return real(slot);
      case Tag::small_atom_utf8:
      case Tag::atom_utf8:
        at_ = start;
        return atom(slot);
      case Tag::binary:
        return binary(slot);
      case Tag::nil:
        *slot = empty_list;
        return true;
      case Tag::list:
        return list(slot);
      case Tag::string:
        return string(slot);
      case Tag::small_tuple:
        return has(1) ? tuple(*at_++, slot) : malformed();
      case Tag::large_tuple:
        return has(4) ? tuple(big_endian(4), slot) : malformed();
      case Tag::map:
        return map(slot);
      case Tag::new_pid:
        return pid(slot);
      case Tag::newer_reference:
        return reference(start, slot);
      case Tag::new_port:
        return node_and(8) && opaque(ERL_NIF_TERM_TYPE_PORT, start, slot);
      case Tag::v4_port:
        return node_and(12) && opaque(ERL_NIF_TERM_TYPE_PORT, start, slot);
      case Tag::bit_binary:
        return bits(start, slot);
      case Tag::export_fun:
        return exported(start, slot);
      default:
        return malformed();
    }
  }

  bool integer(std::size_t size, Term* slot) {
    if (!has(1)) return malformed();
    const unsigned char sign = *at_++;
    if (sign > 1 || !has(size)) return malformed();
    *slot = make_integer(env_, sign != 0, at_, size);
    at_ += size;
    return true;
  }

  bool real(Term* slot) {
    if (!has(8)) return malformed();
    const std::uint64_t high = big_endian(4);
    const std::uint64_t bits = high << 32 | big_endian(4);
    double value = 0;
    std::memcpy(&value, &bits, sizeof(value));
    if (!std::isfinite(value)) return malformed();
    *slot = make_real(env_, value);
    return true;
  }

  bool atom(Term* slot) {
    if (!has(2)) return malformed();
    const Tag tag = static_cast<Tag>(*at_++);
    if (tag != Tag::small_atom_utf8 && (tag != Tag::atom_utf8 || !has(2))) return malformed();
    const std::size_t size = big_endian(tag == Tag::atom_utf8 ? 2 : 1);
    if (!has(size)) return malformed();
    *slot = find_atom(at_, size, input_.new_atoms);
    at_ += size;
    return *slot != 0 || malformed();
  }

  bool binary(Term* slot) {
    if (!has(4)) return malformed();
    const std::size_t size = big_endian(4);
    if (!has(size)) return malformed();
    const bool refers = input_.owner != nullptr && size > longest_short_binary;
    *slot = refers ? make_binary(env_, input_.owner, at_, size) : copy_bytes(env_, at_, size);
    at_ += size;
    return true;
  }

  bool list(Term* slot) {
    if (!has(4)) return malformed();
    const std::size_t count = big_endian(4);
    // Each element takes a byte at least, and the tail too.
    if (!has(count + 1)) return malformed();
    if (count == 0) return read_next(slot);
    Term* cells = env_->allocate(2 * count);
    for (std::size_t i = 0; i + 1 < count; ++i) cells[2 * i + 1] = cell_term(cells + 2 * (i + 1));
    *slot = cell_term(cells);
    // The tail comes last, and so lies below.
    open_.push_back({cells + 2 * count - 1, 1, 1, nullptr});
    open_.push_back({cells, count, 2, nullptr});
    return true;
  }

  // A list of no elements is its tail.
  bool read_next(Term* slot) {
    open_.push_back({slot, 1, 1, nullptr});
    return true;
  }

  bool string(Term* slot) {
    if (!has(2)) return malformed();
    const std::size_t count = big_endian(2);
    if (!has(count)) return malformed();
    Term list = empty_list;
    for (std::size_t i = count; i > 0; --i) list = cons(env_, small_term(at_[i - 1]), list);
    at_ += count;
    *slot = list;
    return true;
  }

  bool tuple(std::size_t arity, Term* slot) {
    if (!has(arity)) return malformed();
    Term* box = new_tuple(env_, arity);
    *slot = box_term(box);
    if (arity > 0) open_.push_back({box + 1, arity, 1, nullptr});
    return true;
  }

  bool map(Term* slot) {
    if (!has(4)) return malformed();
    const std::size_t count = big_endian(4);
    if (!has(2 * count)) return malformed();
    Term* box = new_map(env_, count);
    *slot = box_term(box);
    if (count > 0) open_.push_back({box + 1, 2 * count, 1, box});
    return true;
  }

  bool pid(Term* slot) {
    Pid pid{};
    if (!atom(&pid.node) || !has(12)) return malformed();
    pid.id = big_endian(4);
    pid.serial = big_endian(4);
    pid.creation = big_endian(4);
    *slot = pid_term(pid);
    return *slot != 0 || malformed();
  }

  // What has the name of a node, and that many bytes after it.
  bool node_and(std::size_t size) {
    Term node = 0;
    if (!atom(&node) || !has(size)) return malformed();
    at_ += size;
    return true;
  }

  bool opaque(ErlNifTermType type, const unsigned char* start, Term* slot) {
    *slot = make_opaque(env_, type, start, static_cast<std::size_t>(at_ - start));
    return true;
  }

  bool reference(const unsigned char* start, Term* slot) {
    if (!has(2)) return malformed();
    const std::size_t count = big_endian(2);
    Term node = 0;
    if (count == 0 || count > longest_reference || !atom(&node) || !has(4 + 4 * count)) return malformed();
    const std::uint32_t creation = big_endian(4);
    std::uint32_t words[longest_reference] = {};
    for (std::size_t i = 0; i < count; ++i) words[i] = big_endian(4);
    const std::uint64_t number = std::uint64_t{words[1]} << 32 | words[0];
    if (count == 3 && name_of(node) == function_node) {
      *slot = make_function(env_, creation, number, words[2]);
      return true;
    }
    const bool ours = count == 3 && creation == own_creation && name_of(node) == worker_node;
    if (ours && words[2] == static_cast<std::uint32_t>(Made::resource))
      return known(find_lent(env_, number), slot);
    if (ours && words[2] == static_cast<std::uint32_t>(Made::job))
      return known(find_job(env_, words[0]), slot);
    return opaque(ERL_NIF_TERM_TYPE_REFERENCE, start, slot);
  }

  // What is not known (any more) is an empty list, so that the rest can be read.
  bool known(Term term, Term* slot) {
    *slot = term == 0 ? empty_list : term;
    if (term == 0) result_ = Decoded::unknown;
    return true;
  }

  bool bits(const unsigned char* start, Term* slot) {
    if (!has(5)) return malformed();
    const std::size_t size = big_endian(4);
    const unsigned char last = *at_++;
    if (size == 0 || last == 0 || last > 8 || !has(size)) return malformed();
    at_ += size;
    if (last == 8) {
      *slot = copy_bytes(env_, start + 6, size);
      return true;
    }
    return opaque(ERL_NIF_TERM_TYPE_BITSTRING, start, slot);
  }

  bool exported(const unsigned char* start, Term* slot) {
    Term name = 0;
    if (!atom(&name) || !atom(&name) || !has(2) || *at_ != static_cast<unsigned char>(Tag::small_integer))
      return malformed();
    at_ += 2;
    return opaque(ERL_NIF_TERM_TYPE_FUN, start, slot);
  }

  Env* env_;
  const Input& input_;
  const unsigned char* at_;
  const unsigned char* end_;
  std::vector<Places> open_;
  Decoded result_ = Decoded::ok;
};

}  // namespace

void set_creation(std::uint32_t number) { own_creation = number; }
std::uint32_t creation() { return own_creation; }

Decoded decode_term(Env* env, const Input& input, Term* out, std::size_t* used) {
  TermDecoder decoder(env, input);
  const Decoded result = decoder.run(out);
  *used = decoder.used();
  return result;
}

}  // namespace pythonx::worker
