#include <algorithm>
#include <cstdlib>
#include <new>
#include <string_view>

#include "atoms.hpp"
#include "external.hpp"
#include "functions.hpp"
#include "maps.hpp"
#include "pids.hpp"

namespace pythonx::worker {
namespace {

// Binaries from here on are not copied: a part of its own costs the system as much as copying some kilobytes.
constexpr std::size_t long_binary = 16384;

constexpr std::size_t most_output_kept = 1 << 20;

unsigned char* put_big_endian(unsigned char* out, std::uint64_t value, std::size_t bytes) {
  for (std::size_t i = bytes; i-- > 0; value >>= 8) out[i] = static_cast<unsigned char>(value);
  return out + bytes;
}

// What is still to be written: terms beside each other, or the rest of a list, of which `count` elements have been.
struct Pending {
  const Term* next;  // nullptr for a list
  std::size_t count;
  Term rest;
  std::size_t place;  // of the length of the list
};

class TermEncoder {
 public:
  TermEncoder(std::size_t limit, Output* out) : limit_(limit), out_(out) {}

  void run(Term root) {
    out_->put_byte(version_tag);
    begin(root);
    while (!open_.empty()) {
      if (out_->total() > limit_) throw TooLarge();
      if (open_.back().next == nullptr) {
        list();
      } else {
        elements();
      }
    }
    if (out_->total() > limit_) throw TooLarge();
  }

 private:
  // What is large enough to be looked at in between.
  static constexpr std::size_t portion = 4096;

  void elements() {
    const std::size_t depth = open_.size();
    for (std::size_t i = 0; i < portion; ++i) {
      Pending& open = open_[depth - 1];
      if (open.count == 0) {
        open_.pop_back();
        return;
      }
      --open.count;
      begin(*open.next++);
      if (open_.size() != depth) return;
    }
  }

  void list() {
    const std::size_t depth = open_.size();
    Pending open = open_.back();
    for (std::size_t i = 0; i < portion && is_cell(open.rest); ++i) {
      const Term head = cell_of(open.rest)[0];
      open.rest = cell_of(open.rest)[1];
      ++open.count;
      if (is_small(head)) {
        small(head);
        continue;
      }
      open_[depth - 1] = open;
      begin(head);
      if (open_.size() != depth) return;
    }
    if (is_cell(open.rest)) {
      open_[depth - 1] = open;
      return;
    }
    if (open.count > UINT32_MAX) throw TooLarge();
    out_->overwrite_32(open.place, static_cast<std::uint32_t>(open.count));
    open_.pop_back();
    begin(open.rest);
  }

  void begin(Term term) {
    switch (term & tag_mask) {
      case small_tag:
        return small(term);
      case atom_tag:
        return atom(term);
      case empty_list:
        return out_->put_byte(static_cast<unsigned char>(Tag::nil));
      case pid_tag:
        return pid(pid_of(term));
      case cell_tag:
        out_->put_byte(static_cast<unsigned char>(Tag::list));
        open_.push_back({nullptr, 0, term, out_->place()});
        out_->put_32(0);
        return;
      default:
        return box(box_of(term));
    }
  }

  void small(Term term) {
    const std::int64_t value = small_value(term);
    unsigned char* start = out_->reserve(11);
    unsigned char* out = start;
    if (value >= 0 && value <= 255) {
      *out++ = static_cast<unsigned char>(Tag::small_integer);
      *out++ = static_cast<unsigned char>(value);
    } else if (value == static_cast<std::int32_t>(value)) {
      *out++ = static_cast<unsigned char>(Tag::integer);
      out = put_big_endian(out, static_cast<std::uint64_t>(value), 4);
    } else {
      auto magnitude = static_cast<std::uint64_t>(value < 0 ? -value : value);
      *out++ = static_cast<unsigned char>(Tag::small_big);
      unsigned char* size = out++;
      *out++ = value < 0 ? 1 : 0;
      for (; magnitude != 0; magnitude >>= 8) *out++ = static_cast<unsigned char>(magnitude);
      *size = static_cast<unsigned char>(out - size - 2);
    }
    out_->advance(static_cast<std::size_t>(out - start));
  }

  void atom(Term term) {
    const Atom& atom = atom_of(term);
    unsigned char* out = out_->reserve(3 + atom.size);
    const std::size_t width = atom.size < 256 ? 1 : 2;
    *out++ = static_cast<unsigned char>(width == 1 ? Tag::small_atom_utf8 : Tag::atom_utf8);
    out = put_big_endian(out, atom.size, width);
    std::memcpy(out, atom.name, atom.size);
    out_->advance(1 + width + atom.size);
  }

  void pid(const Pid& pid) {
    out_->put_byte(static_cast<unsigned char>(Tag::new_pid));
    atom(pid.node);
    out_->put_32(pid.id);
    out_->put_32(pid.serial);
    out_->put_32(pid.creation);
  }

  void box(const Term* box) {
    const std::size_t size = size_of(box);
    switch (kind_of(box)) {
      case Kind::real: {
        std::uint64_t bits = 0;
        std::memcpy(&bits, box + 1, sizeof(bits));
        unsigned char* out = out_->reserve(9);
        *out++ = static_cast<unsigned char>(Tag::new_float);
        put_big_endian(out, bits, 8);
        return out_->advance(9);
      }
      case Kind::integer:
        return integer(box, size);
      case Kind::tuple:
        return tuple(box, size);
      case Kind::map:
        out_->put_byte(static_cast<unsigned char>(Tag::map));
        out_->put_32(static_cast<std::uint32_t>(size));
        if (size > 0) open_.push_back({box + 1, 2 * size, 0, 0});
        return;
      case Kind::bytes:
        return binary(bytes_in(box), size);
      case Kind::binary:
        return binary(reinterpret_cast<const unsigned char*>(box[2]), size);
      case Kind::opaque:
        return out_->put(bytes_in(box), size);
      case Kind::resource: {
        Resource* resource = resource_in(box);
        out_->resources().push_back(resource);
        return reference(worker_node, creation(), serial_of(resource), 0);
      }
      case Kind::function: {
        const Function* function = function_in(box);
        return reference(function_node, function->creation, function->number, function->last);
      }
    }
  }

  void integer(const Term* box, std::size_t size) {
    if (size > UINT32_MAX) throw TooLarge();
    if (size < 256) {
      out_->put_byte(static_cast<unsigned char>(Tag::small_big));
      out_->put_byte(static_cast<unsigned char>(size));
    } else {
      out_->put_byte(static_cast<unsigned char>(Tag::large_big));
      out_->put_32(static_cast<std::uint32_t>(size));
    }
    out_->put_byte(static_cast<unsigned char>(extra_of(box)));
    out_->put(bytes_in(box), size);
  }

  void tuple(const Term* box, std::size_t arity) {
    if (arity < 256) {
      out_->put_byte(static_cast<unsigned char>(Tag::small_tuple));
      out_->put_byte(static_cast<unsigned char>(arity));
    } else {
      out_->put_byte(static_cast<unsigned char>(Tag::large_tuple));
      out_->put_32(static_cast<std::uint32_t>(arity));
    }
    if (arity > 0) open_.push_back({box + 1, arity, 0, 0});
  }

  void binary(const unsigned char* data, std::size_t size) {
    if (size > limit_) throw TooLarge();
    out_->put_byte(static_cast<unsigned char>(Tag::binary));
    out_->put_32(static_cast<std::uint32_t>(size));
    if (size < long_binary) {
      out_->put(data, size);
    } else {
      out_->refer(data, size);
    }
  }

  void reference(std::string_view node, std::uint32_t creation, std::uint64_t number, std::uint32_t last) {
    out_->put_byte(static_cast<unsigned char>(Tag::newer_reference));
    const unsigned char head[] = {0, 3, static_cast<unsigned char>(Tag::small_atom_utf8),
                                  static_cast<unsigned char>(node.size())};
    out_->put(head, sizeof(head));
    out_->put(node.data(), node.size());
    out_->put_32(creation);
    out_->put_32(static_cast<std::uint32_t>(number));
    out_->put_32(static_cast<std::uint32_t>(number >> 32));
    out_->put_32(last);
  }

  std::size_t limit_;
  Output* out_;
  std::vector<Pending> open_;
};

}  // namespace

Output::~Output() { std::free(data_); }

void Output::clear() {
  if (capacity_ > most_output_kept) {
    std::free(data_);
    data_ = nullptr;
    capacity_ = 0;
  }
  used_ = elsewhere_ = 0;
  segments_.clear();
  resources_.clear();
}

void Output::grow(std::size_t size) {
  const std::size_t capacity = std::max({std::size_t{1024}, 2 * capacity_, used_ + size});
  auto* data = static_cast<unsigned char*>(std::realloc(data_, capacity));
  if (data == nullptr) throw std::bad_alloc();
  data_ = data;
  capacity_ = capacity;
}

void Output::put(const void* bytes, std::size_t size) {
  if (size == 0) return;
  std::memcpy(reserve(size), bytes, size);
  used_ += size;
}

void Output::put_32(std::uint32_t value) {
  put_big_endian(reserve(4), value, 4);
  used_ += 4;
}

void Output::refer(const unsigned char* data, std::size_t size) {
  segments_.push_back({used_, data, size});
  elsewhere_ += size;
}

void Output::overwrite_32(std::size_t place, std::uint32_t value) { put_big_endian(data_ + place, value, 4); }

std::vector<iovec> Output::parts() const {
  std::vector<iovec> parts;
  parts.reserve(2 * segments_.size() + 1);
  std::size_t from = 0;
  for (const Elsewhere& segment : segments_) {
    if (segment.place > from) parts.push_back({data_ + from, segment.place - from});
    parts.push_back({const_cast<unsigned char*>(segment.data), segment.size});
    from = segment.place;
  }
  if (used_ > from) parts.push_back({data_ + from, used_ - from});
  return parts;
}

void Output::copy_to(unsigned char* out) const {
  for (const iovec& part : parts()) {
    std::memcpy(out, part.iov_base, part.iov_len);
    out += part.iov_len;
  }
}

void encode_term(Term term, std::size_t limit, Output* out) { TermEncoder(limit, out).run(term); }

}  // namespace pythonx::worker
