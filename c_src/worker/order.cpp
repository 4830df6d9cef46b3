#include "order.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "atoms.hpp"
#include "functions.hpp"
#include "maps.hpp"

namespace pythonx::worker {
namespace {

using Pairs = std::vector<std::pair<Term, Term>>;

// Whether what is not made of terms is the same; what is goes to `open`.
bool same_boxes(const Term* a, const Term* b, Pairs* open) {
  const Kind kind = kind_of(a);
  if (kind == Kind::map) {
    if (a[0] != b[0]) return false;
    for (std::size_t i = 0; i < size_of(a); ++i) {
      const Term value = map_value(b, a[1 + 2 * i]);
      if (value == 0) return false;
      open->emplace_back(a[2 + 2 * i], value);
    }
    return true;
  }
  if (a[0] != b[0]) return false;
  if (kind == Kind::tuple) {
    for (std::size_t i = size_of(a); i > 0; --i) open->emplace_back(a[i], b[i]);
    return true;
  }
  if (kind == Kind::resource) return a[1] == b[1];
  if (kind == Kind::function) return function_in(a)->number == function_in(b)->number;
  if (kind == Kind::binary)
    return std::memcmp(reinterpret_cast<const void*>(a[2]), reinterpret_cast<const void*>(b[2]),
                       size_of(a)) == 0;
  return std::memcmp(a + 1, b + 1, size_of(a)) == 0;
}

// Two words, the second of which is the rest of the way.
bool same_lists(Term* a, Term* b, Pairs* open) {
  while (is_cell(*a) && is_cell(*b)) {
    if (*a == *b) return true;
    const Term x = cell_of(*a)[0];
    const Term y = cell_of(*b)[0];
    if (x != y) {
      if ((x & tag_mask) != (y & tag_mask) || !(is_box(x) || is_cell(x))) return false;
      // What comes first is compared first, or lists of many boxes would fill the memory.
      open->emplace_back(cell_of(*a)[1], cell_of(*b)[1]);
      open->emplace_back(x, y);
      *a = *b = empty_list;
      return true;
    }
    *a = cell_of(*a)[1];
    *b = cell_of(*b)[1];
  }
  return true;
}

std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15;
  return hash ^ hash >> 29;
}

std::uint64_t hash_bytes(std::uint64_t hash, const unsigned char* data, std::size_t size) {
  hash = mix(hash, size);
  for (; size >= sizeof(std::uint64_t); data += sizeof(std::uint64_t), size -= sizeof(std::uint64_t)) {
    std::uint64_t word = 0;
    std::memcpy(&word, data, sizeof(word));
    hash = mix(hash, word);
  }
  std::uint64_t rest = 0;
  if (size > 0) std::memcpy(&rest, data, size);
  return mix(hash, rest);
}

std::uint64_t hash_box(std::uint64_t hash, const Term* box, std::vector<Term>* open) {
  const unsigned char* data = nullptr;
  std::size_t size = 0;
  if (get_bytes(box_term(box), &data, &size)) return hash_bytes(hash, data, size);
  hash = mix(hash, box[0]);
  switch (kind_of(box)) {
    case Kind::tuple:
      for (std::size_t i = size_of(box); i > 0; --i) open->push_back(box[i]);
      return hash;
    case Kind::map: {
      // In any order: only how many there are, and the keys that are words.
      std::uint64_t sum = 0;
      for (std::size_t i = 0; i < size_of(box); ++i) {
        const Term key = box[1 + 2 * i];
        if (!is_box(key) && !is_cell(key)) sum += mix(1, key);
        const Term value = box[2 + 2 * i];
        if (!is_box(value) && !is_cell(value)) sum += mix(2, value);
        if (get_bytes(key, &data, &size)) sum += hash_bytes(3, data, size);
      }
      return mix(hash, sum);
    }
    case Kind::resource:
      return mix(hash, box[1]);
    case Kind::function:
      return mix(hash, function_in(box)->number);
    default:
      return hash_bytes(hash, bytes_in(box), size_of(box));
  }
}

// --- Order -----------------------------------------------------------------------------------------------------------

enum class Rank { number, atom, reference, function, port, pid, tuple, map, list, bits };

Rank rank_of(Term term) {
  switch (term & tag_mask) {
    case small_tag:
      return Rank::number;
    case atom_tag:
      return Rank::atom;
    case pid_tag:
      return Rank::pid;
    case cell_tag:
    case empty_list:
      return Rank::list;
    default:
      break;
  }
  const Term* box = box_of(term);
  switch (kind_of(box)) {
    case Kind::real:
    case Kind::integer:
      return Rank::number;
    case Kind::tuple:
      return Rank::tuple;
    case Kind::map:
      return Rank::map;
    case Kind::resource:
      return Rank::reference;
    case Kind::function:
      return Rank::function;
    case Kind::opaque:
      switch (extra_of(box)) {
        case ERL_NIF_TERM_TYPE_FUN:
          return Rank::function;
        case ERL_NIF_TERM_TYPE_PORT:
          return Rank::port;
        case ERL_NIF_TERM_TYPE_BITSTRING:
          return Rank::bits;
        default:
          return Rank::reference;
      }
    default:
      return Rank::bits;
  }
}

template <typename T>
int sign(T a, T b) {
  return a < b ? -1 : a > b ? 1 : 0;
}

int compare_integers(Term a, Term b) {
  if (is_small(a) && is_small(b)) return sign(small_value(a), small_value(b));
  const auto negative = [](Term term) {
    return is_small(term) ? small_value(term) < 0 : extra_of(box_of(term)) != 0;
  };
  if (negative(a) != negative(b)) return negative(a) ? -1 : 1;
  const int larger = negative(a) ? -1 : 1;
  if (is_small(a)) return -larger;
  if (is_small(b)) return larger;
  const Term* x = box_of(a);
  const Term* y = box_of(b);
  if (size_of(x) != size_of(y)) return size_of(x) < size_of(y) ? -larger : larger;
  for (std::size_t i = size_of(x); i-- > 0;)
    if (bytes_in(x)[i] != bytes_in(y)[i]) return bytes_in(x)[i] < bytes_in(y)[i] ? -larger : larger;
  return 0;
}

// An integer beyond what a double has an equal of counts as one that is near.
double as_real(Term term) {
  if (is_small(term)) return static_cast<double>(small_value(term));
  const Term* box = box_of(term);
  double value = 0;
  if (kind_of(box) == Kind::real) {
    std::memcpy(&value, box + 1, sizeof(value));
    return value;
  }
  for (std::size_t i = size_of(box); i-- > 0;) value = value * 256 + bytes_in(box)[i];
  return extra_of(box) != 0 ? -value : value;
}

int compare_numbers(Term a, Term b) {
  if (is_kind(a, Kind::real) || is_kind(b, Kind::real)) return sign(as_real(a), as_real(b));
  return compare_integers(a, b);
}

int compare_data(const unsigned char* a, std::size_t a_size, const unsigned char* b, std::size_t b_size) {
  const int order = std::memcmp(a, b, std::min(a_size, b_size));
  return order != 0 ? order : sign(a_size, b_size);
}

// What a term is as bytes: of a binary its own, of what is opaque those of its external format.
void data_of(Term term, const unsigned char** data, std::size_t* size) {
  if (get_bytes(term, data, size)) return;
  const Term* box = box_of(term);
  *data = bytes_in(box);
  *size = size_of(box);
  if (kind_of(box) == Kind::resource) *size = sizeof(Term);
  if (kind_of(box) != Kind::function) return;
  *data = reinterpret_cast<const unsigned char*>(&function_in(box)->number);
  *size = sizeof(function_in(box)->number);
}

int compare_words(Term a, Term b, Rank rank, Pairs* open) {
  switch (rank) {
    case Rank::number:
      return compare_numbers(a, b);
    case Rank::atom: {
      const Atom& x = atom_of(a);
      const Atom& y = atom_of(b);
      return compare_data(x.name, x.size, y.name, y.size);
    }
    case Rank::pid:
      return sign(a, b);
    case Rank::tuple: {
      const Term* x = box_of(a);
      const Term* y = box_of(b);
      if (x[0] != y[0]) return sign(x[0], y[0]);
      for (std::size_t i = size_of(x); i > 0; --i) open->emplace_back(x[i], y[i]);
      return 0;
    }
    case Rank::map:
      if (size_of(box_of(a)) != size_of(box_of(b))) return sign(size_of(box_of(a)), size_of(box_of(b)));
      return is_same(a, b) ? 0 : sign(hash_term(a), hash_term(b));
    case Rank::list:
      if (!is_cell(a) || !is_cell(b)) return sign(is_cell(a), is_cell(b));
      open->emplace_back(cell_of(a)[1], cell_of(b)[1]);
      open->emplace_back(cell_of(a)[0], cell_of(b)[0]);
      return 0;
    default: {
      const unsigned char* x = nullptr;
      const unsigned char* y = nullptr;
      std::size_t x_size = 0;
      std::size_t y_size = 0;
      data_of(a, &x, &x_size);
      data_of(b, &y, &y_size);
      return compare_data(x, x_size, y, y_size);
    }
  }
}

}  // namespace

bool is_same_deep(Term first, Term second) {
  Pairs open{{first, second}};
  while (!open.empty()) {
    auto [a, b] = open.back();
    open.pop_back();
    if (is_cell(a) && is_cell(b) && !same_lists(&a, &b, &open)) return false;
    if (a == b) continue;
    if (!is_box(a) || !is_box(b) || !same_boxes(box_of(a), box_of(b), &open)) return false;
  }
  return true;
}

std::uint64_t hash_term(Term term) {
  if (!is_box(term) && !is_cell(term)) return mix(0, term);
  const unsigned char* data = nullptr;
  std::size_t size = 0;
  if (get_bytes(term, &data, &size)) return hash_bytes(0, data, size);
  std::vector<Term> open{term};
  std::uint64_t hash = 0;
  while (!open.empty()) {
    term = open.back();
    open.pop_back();
    if (is_cell(term)) {
      hash = mix(hash, cell_tag);
      open.push_back(cell_of(term)[1]);
      open.push_back(cell_of(term)[0]);
    } else if (is_box(term)) {
      hash = hash_box(hash, box_of(term), &open);
    } else {
      hash = mix(hash, term);
    }
  }
  return hash;
}

int compare_terms(Term first, Term second) {
  Pairs open{{first, second}};
  while (!open.empty()) {
    const auto [a, b] = open.back();
    open.pop_back();
    if (a == b) continue;
    const Rank rank = rank_of(a);
    if (rank != rank_of(b)) return rank < rank_of(b) ? -1 : 1;
    if (const int order = compare_words(a, b, rank, &open); order != 0) return order;
  }
  return 0;
}

}  // namespace pythonx::worker
