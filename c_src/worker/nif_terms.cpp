// The functions of erl_nif.h that make terms and look at them. What each does is written there (https://www.erlang.org/doc/apps/erts/
// erl_nif); they are safe to call from any thread that has the environment to itself.
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <string>
#include <vector>

#include "atoms.hpp"
#include "external.hpp"
#include "functions.hpp"
#include "heap.hpp"
#include "order.hpp"
#include "pids.hpp"
#include "processes.hpp"

using namespace pythonx::worker;

namespace {

template <typename T>
int get_number(Term term, T* out) {
  std::int64_t value = 0;
  if (!get_int64(term, &value)) return 0;
  *out = static_cast<T>(value);
  return *out == value && (value >= 0 || T(-1) < T(0));
}

// The name of an atom in Latin-1, with a NUL after it; 0 when it has other characters, or there is no room.
int get_latin1(const Atom& atom, char* out, std::size_t size) {
  if (atom.characters >= size) return 0;
  for (std::size_t i = 0; i < atom.size; ++i) {
    unsigned character = atom.name[i];
    if (character >= 0x80) {
      if (character > 0xC3) return 0;
      character = (character & 0x03) << 6 | (atom.name[++i] & 0x3F);
    }
    *out++ = static_cast<char>(character);
  }
  *out = '\0';
  return static_cast<int>(atom.characters) + 1;
}

// Of an atom alone, with a version: its name, and what is before it.
std::size_t name_of_atom(const unsigned char* data, std::size_t size) {
  const std::size_t start = size > 1 && data[1] == static_cast<unsigned char>(Tag::atom_utf8) ? 4 : 3;
  const bool atom =
      size >= start && (start == 4 || data[1] == static_cast<unsigned char>(Tag::small_atom_utf8));
  return atom ? start : 0;
}

// Whether what is all of the data is an atom that only the VM has.
bool is_new_atom_of_vm(Env* env, const unsigned char* data, std::size_t size) {
  const std::size_t start = name_of_atom(data, size);
  return start != 0 && is_atom_of_vm(copy_bytes(env, data + start, size - start));
}

std::size_t read_external(Env* env, const unsigned char* data, std::size_t size, unsigned options,
                          Term* out) {
  const bool safe = (options & ERL_NIF_BIN2TERM_SAFE) != 0;
  std::size_t used = 0;
  if (decode_term(env, {data, size, nullptr, !safe}, out, &used) == Decoded::ok) return used;
  if (!safe || !is_new_atom_of_vm(env, data, size)) return 0;
  return decode_term(env, {data, size}, out, &used) == Decoded::ok ? used : 0;
}

std::string describe(Term term) {
  if (!is_kind(term, Kind::function)) return "#Term<>";
  return "#Fun<" + std::to_string(function_in(box_of(term))->number) + ">";
}

}  // namespace

extern "C" {

ErlNifEnv* enif_alloc_env() { return new Env; }
void enif_free_env(ErlNifEnv* env) { delete env; }

// --- Atoms and numbers -----------------------------------------------------------------------------------------------

ERL_NIF_TERM enif_make_atom(ErlNifEnv*, const char* name) {
  // Bytes of Latin-1.
  std::string text;
  for (; *name != '\0'; ++name) {
    const auto byte = static_cast<unsigned char>(*name);
    if (byte >= 0x80) text.push_back(static_cast<char>(0xC0 | byte >> 6));
    text.push_back(static_cast<char>(byte < 0x80 ? byte : 0x80 | (byte & 0x3F)));
  }
  return find_atom(text);
}

int enif_is_atom(ErlNifEnv*, ERL_NIF_TERM term) { return is_atom(term); }

int enif_get_atom(ErlNifEnv*, ERL_NIF_TERM term, char* out, unsigned size, ErlNifCharEncoding) {
  return is_atom(term) ? get_latin1(atom_of(term), out, size) : 0;
}

ERL_NIF_TERM enif_make_int(ErlNifEnv*, int value) { return small_term(value); }
ERL_NIF_TERM enif_make_uint(ErlNifEnv*, unsigned value) { return small_term(value); }
ERL_NIF_TERM enif_make_long(ErlNifEnv* env, long value) { return make_int64(env, value); }
ERL_NIF_TERM enif_make_ulong(ErlNifEnv* env, unsigned long value) { return make_uint64(env, value); }

int enif_get_int(ErlNifEnv*, ERL_NIF_TERM term, int* out) { return get_number(term, out); }
int enif_get_uint(ErlNifEnv*, ERL_NIF_TERM term, unsigned* out) { return get_number(term, out); }

int enif_get_long(ErlNifEnv*, ERL_NIF_TERM term, long* out) {
  std::int64_t value = 0;
  if (!get_int64(term, &value)) return 0;
  *out = value;
  return 1;
}

int enif_get_ulong(ErlNifEnv*, ERL_NIF_TERM term, unsigned long* out) {
  std::uint64_t value = 0;
  if (!get_uint64(term, &value)) return 0;
  *out = value;
  return 1;
}

ERL_NIF_TERM enif_make_double(ErlNifEnv* env, double value) {
  return std::isfinite(value) ? make_real(env, value) : enif_make_badarg(env);
}

int enif_get_double(ErlNifEnv*, ERL_NIF_TERM term, double* out) {
  if (!is_kind(term, Kind::real)) return 0;
  std::memcpy(out, box_of(term) + 1, sizeof(*out));
  return 1;
}

int enif_is_number(ErlNifEnv*, ERL_NIF_TERM term) {
  return is_small(term) || is_kind(term, Kind::integer) || is_kind(term, Kind::real);
}

// --- Binaries --------------------------------------------------------------------------------------------------------

int enif_is_binary(ErlNifEnv*, ERL_NIF_TERM term) {
  return is_kind(term, Kind::bytes) || is_kind(term, Kind::binary);
}

int enif_inspect_binary(ErlNifEnv*, ERL_NIF_TERM term, ErlNifBinary* out) {
  const unsigned char* data = nullptr;
  if (!get_bytes(term, &data, &out->size)) return 0;
  out->data = const_cast<unsigned char*>(data);
  out->ref_bin = nullptr;
  return 1;
}

int enif_alloc_binary(size_t size, ErlNifBinary* out) {
  Bytes* bytes = make_bytes(size);
  out->size = size;
  out->data = bytes->data;
  out->ref_bin = bytes;
  return 1;
}

void enif_release_binary(ErlNifBinary* binary) {
  if (binary->ref_bin != nullptr) release(static_cast<Bytes*>(binary->ref_bin));
  binary->ref_bin = nullptr;
}

// The bytes are the environment's from now on.
ERL_NIF_TERM enif_make_binary(ErlNifEnv* env, ErlNifBinary* binary) {
  auto* bytes = static_cast<Bytes*>(binary->ref_bin);
  if (bytes == nullptr) return copy_bytes(env, binary->data, binary->size);
  binary->ref_bin = nullptr;
  env->own(bytes);
  return make_binary(env, bytes, binary->data, binary->size);
}

unsigned char* enif_make_new_binary(ErlNifEnv* env, size_t size, ERL_NIF_TERM* out) {
  if (size <= longest_short_binary) {
    Term* box = env->allocate(1 + words_for(size));
    box[0] = header(Kind::bytes, size);
    *out = box_term(box);
    return reinterpret_cast<unsigned char*>(box + 1);
  }
  Bytes* bytes = make_bytes(size);
  env->own(bytes);
  *out = make_binary(env, bytes, bytes->data, size);
  return bytes->data;
}

// --- Lists and tuples ------------------------------------------------------------------------------------------------

int enif_is_list(ErlNifEnv*, ERL_NIF_TERM term) { return is_cell(term) || term == empty_list; }
int enif_is_empty_list(ErlNifEnv*, ERL_NIF_TERM term) { return term == empty_list; }
int enif_is_tuple(ErlNifEnv*, ERL_NIF_TERM term) { return is_kind(term, Kind::tuple); }

int enif_get_list_cell(ErlNifEnv*, ERL_NIF_TERM term, ERL_NIF_TERM* head, ERL_NIF_TERM* tail) {
  if (!is_cell(term)) return 0;
  const Term* cell = cell_of(term);
  *head = cell[0];
  *tail = cell[1];
  return 1;
}

int enif_get_list_length(ErlNifEnv*, ERL_NIF_TERM term, unsigned* out) {
  unsigned length = 0;
  for (; is_cell(term); term = cell_of(term)[1]) ++length;
  *out = length;
  return term == empty_list;
}

ERL_NIF_TERM enif_make_list_cell(ErlNifEnv* env, ERL_NIF_TERM head, ERL_NIF_TERM tail) {
  return cons(env, head, tail);
}

ERL_NIF_TERM enif_make_list_from_array(ErlNifEnv* env, const ERL_NIF_TERM items[], unsigned count) {
  Term list = empty_list;
  for (unsigned i = count; i > 0; --i) list = cons(env, items[i - 1], list);
  return list;
}

ERL_NIF_TERM enif_make_list(ErlNifEnv* env, unsigned count, ...) {
  std::vector<Term> items(count);
  va_list arguments;
  va_start(arguments, count);
  for (Term& item : items) item = va_arg(arguments, ERL_NIF_TERM);
  va_end(arguments);
  return enif_make_list_from_array(env, items.data(), count);
}

int enif_get_tuple(ErlNifEnv*, ERL_NIF_TERM term, int* arity, const ERL_NIF_TERM** items) {
  if (!is_kind(term, Kind::tuple)) return 0;
  const Term* box = box_of(term);
  *arity = static_cast<int>(size_of(box));
  *items = box + 1;
  return 1;
}

ERL_NIF_TERM enif_make_tuple_from_array(ErlNifEnv* env, const ERL_NIF_TERM items[], unsigned count) {
  Term* box = new_tuple(env, count);
  if (count > 0) std::memcpy(box + 1, items, count * sizeof(Term));
  return box_term(box);
}

// --- All terms -------------------------------------------------------------------------------------------------------

ErlNifTermType enif_term_type(ErlNifEnv*, ERL_NIF_TERM term) {
  switch (term & tag_mask) {
    case small_tag:
      return ERL_NIF_TERM_TYPE_INTEGER;
    case atom_tag:
      return ERL_NIF_TERM_TYPE_ATOM;
    case pid_tag:
      return ERL_NIF_TERM_TYPE_PID;
    case cell_tag:
    case empty_list:
      return ERL_NIF_TERM_TYPE_LIST;
    default:
      break;
  }
  const Term* box = box_of(term);
  switch (kind_of(box)) {
    case Kind::real:
      return ERL_NIF_TERM_TYPE_FLOAT;
    case Kind::integer:
      return ERL_NIF_TERM_TYPE_INTEGER;
    case Kind::tuple:
      return ERL_NIF_TERM_TYPE_TUPLE;
    case Kind::map:
      return ERL_NIF_TERM_TYPE_MAP;
    case Kind::opaque:
      return static_cast<ErlNifTermType>(extra_of(box));
    case Kind::resource:
      return ERL_NIF_TERM_TYPE_REFERENCE;
    case Kind::function:
      return ERL_NIF_TERM_TYPE_FUN;
    default:
      return ERL_NIF_TERM_TYPE_BITSTRING;
  }
}

ERL_NIF_TERM enif_make_copy(ErlNifEnv* env, ERL_NIF_TERM term) { return copy_term(env, term); }
int enif_is_identical(ERL_NIF_TERM a, ERL_NIF_TERM b) { return is_same(a, b); }
int enif_compare(ERL_NIF_TERM a, ERL_NIF_TERM b) { return compare_terms(a, b); }
ErlNifUInt64 enif_hash(ErlNifHash, ERL_NIF_TERM term, ErlNifUInt64 salt) { return hash_term(term) ^ salt; }

size_t enif_binary_to_term(ErlNifEnv* env, const unsigned char* data, size_t size, ERL_NIF_TERM* out,
                           unsigned options) {
  return read_external(env, data, size, options, out);
}

int enif_term_to_binary(ErlNifEnv*, ERL_NIF_TERM term, ErlNifBinary* out) {
  Output output;
  try {
    encode_term(term, UINT32_MAX, &output);
  } catch (const TooLarge&) {
    return 0;
  }
  enif_alloc_binary(output.total(), out);
  output.copy_to(out->data);
  return 1;
}

// Either all is one term, or there is none.
int enif_snprintf(char* out, size_t size, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int length = std::string_view(format) == "%T"
                         ? std::snprintf(out, size, "%s", describe(va_arg(arguments, ERL_NIF_TERM)).c_str())
                         : std::vsnprintf(out, size, format, arguments);
  va_end(arguments);
  return length;
}

// --- Exceptions ------------------------------------------------------------------------------------------------------

ERL_NIF_TERM enif_raise_exception(ErlNifEnv* env, ERL_NIF_TERM reason) {
  env->exception = reason;
  return 0;
}

ERL_NIF_TERM enif_make_badarg(ErlNifEnv* env) {
  static const Term badarg = find_atom("badarg");
  return enif_raise_exception(env, badarg);
}

}  // extern "C"
