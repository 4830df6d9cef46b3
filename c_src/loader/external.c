// Looks over a term in the external format without making it: what goes to a worker of a pool, and what comes from there
// (Pythonx.Pool.External has the rules).
//
// It tells which process identifiers are in it, as bytes, and by flags whether there is something that somebody has to look at:
// functions, references of workers, of functions, structs. What is no term, or one in a form that is not let through, is told by
// the reason. Nothing is kept of what is walked over but how many terms are still to come, so depth costs nothing; each of them
// takes a byte at least, so no size can announce more than there is.
//
// The bytes may come in pieces, as :erlang.term_to_iovec/1 makes them. Only the bytes of binaries cross from one to the next.

#include "external.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "term.h"

enum { FUNCTIONS = 1, WORKER_REFERENCES = 2, FUNCTION_REFERENCES = 4, STRUCTS = 8, OBJECTS = 16 };

enum { MOST_PIDS = 1 << 16, LARGE = 1 << 16 };

typedef struct {
  ErlNifEnv* env;
  const unsigned char* at;   // in the piece
  const unsigned char* end;  // of it
  ERL_NIF_TERM piece;        // a binary, in which `at` is
  const unsigned char* begin;
  ERL_NIF_TERM rest;  // the pieces behind it
  uint64_t left;      // bytes in all of them, `at` on
  unsigned flags;
  ERL_NIF_TERM pids;
  unsigned count;
  const unsigned char* last;  // the latest of the pids, in the piece
  size_t last_size;
  const char* failure;
} scan;

static bool fail(scan* s, const char* reason) {
  s->failure = reason;
  return false;
}

static bool next_piece(scan* s) {
  ErlNifBinary binary;
  while (s->at == s->end) {
    ERL_NIF_TERM head;
    if (!enif_get_list_cell(s->env, s->rest, &head, &s->rest) || !enif_inspect_binary(s->env, head, &binary))
      return false;
    s->piece = head;
    s->begin = s->at = binary.data;
    s->end = binary.data + binary.size;
    s->last = NULL;
  }
  return true;
}

// The next `size` bytes, which lie in one piece; NULL where they are not there.
static const unsigned char* take(scan* s, size_t size) {
  if (s->left < size || (size > 0 && !next_piece(s)) || (size_t)(s->end - s->at) < size) return NULL;
  const unsigned char* bytes = s->at;
  s->at += size;
  s->left -= size;
  return bytes;
}

static bool skip(scan* s, uint64_t size) {
  if (s->left < size) return false;
  s->left -= size;
  while (size > 0) {
    if (!next_piece(s)) return false;
    uint64_t here = (uint64_t)(s->end - s->at) < size ? (uint64_t)(s->end - s->at) : size;
    s->at += here;
    size -= here;
  }
  return true;
}

static uint32_t number(const unsigned char* bytes, int size) {
  uint32_t value = 0;
  for (int i = 0; i < size; i++) value = value << 8 | bytes[i];
  return value;
}

static bool take_number(scan* s, int size, uint32_t* out) {
  const unsigned char* bytes = take(s, (size_t)size);
  if (bytes != NULL) *out = number(bytes, size);
  return bytes != NULL;
}

typedef struct {
  const unsigned char* name;
  size_t size;
} atom;

static bool atom_body(scan* s, unsigned char tag, atom* out) {
  uint32_t size;
  if (!take_number(s, tag == 119 || tag == 115 ? 1 : 2, &size)) return false;
  out->name = take(s, size);
  out->size = size;
  return out->name != NULL;
}

static bool is_atom_tag(unsigned char tag) { return tag == 119 || tag == 118 || tag == 115 || tag == 100; }

static bool take_atom(scan* s, atom* out) {
  const unsigned char* tag = take(s, 1);
  return tag != NULL && is_atom_tag(*tag) && atom_body(s, *tag, out);
}

static bool is_named(atom name, const char* text) {
  return name.size == strlen(text) && memcmp(name.name, text, name.size) == 0;
}

// The bytes of a process identifier, from its tag on. Many are often the same one.
static bool add_pid(scan* s, const unsigned char* bytes, size_t size) {
  if (s->last != NULL && s->last_size == size && memcmp(s->last, bytes, size) == 0) return true;
  if (++s->count > MOST_PIDS) return fail(s, "too many processes");
  ERL_NIF_TERM pid = enif_make_sub_binary(s->env, s->piece, (size_t)(bytes - s->begin), size);
  s->pids = enif_make_list_cell(s->env, pid, s->pids);
  s->last = bytes;
  s->last_size = size;
  return true;
}

static bool take_identifier(scan* s, unsigned char tag) {
  const unsigned char* begin = s->at - 1;
  uint32_t words = 0;
  atom node;
  if (tag == 90 && (!take_number(s, 2, &words) || words < 1 || words > 5)) return false;
  if (!take_atom(s, &node)) return false;
  size_t size = tag == 90 ? 4 + 4 * words : tag == 89 ? 8 : 12;
  if (take(s, size) == NULL) return false;
  if (tag == 90 && is_named(node, "pythonx@worker")) s->flags |= WORKER_REFERENCES;
  if (tag == 90 && is_named(node, "pythonx@function")) s->flags |= FUNCTION_REFERENCES;
  return tag != 88 || add_pid(s, begin, (size_t)(s->at - begin));
}

// Adds to `terms` how many terms follow because of the one whose tag has been read.
static bool take_term(scan* s, unsigned char tag, uint64_t* terms) {
  const unsigned char* bytes;
  uint32_t size;
  atom name;
  switch (tag) {
    case 97:
      return take(s, 1) != NULL;
    case 98:
      return take(s, 4) != NULL;
    case 70:
      bytes = take(s, 8);
      // Neither infinite nor no number.
      return bytes != NULL && ((bytes[0] & 0x7f) != 0x7f || (bytes[1] & 0xf0) != 0xf0);
    case 106:
      return true;
    case 109:
      return take_number(s, 4, &size) && skip(s, size);
    case 107:
      return take_number(s, 2, &size) && skip(s, size);
    case 104:
      if (!take_number(s, 1, &size)) return false;
      *terms += size;
      return true;
    case 105:
      if (!take_number(s, 4, &size)) return false;
      *terms += size;
      return true;
    case 108:
      if (!take_number(s, 4, &size)) return false;
      *terms += (uint64_t)size + 1;
      return true;
    case 116:
      if (!take_number(s, 4, &size)) return false;
      *terms += 2 * (uint64_t)size;
      return true;
    case 110:
      return take_number(s, 1, &size) && take(s, 1) != NULL && skip(s, size);
    case 111:
      return take_number(s, 4, &size) && take(s, 1) != NULL && skip(s, size);
    case 77:
      return take_number(s, 4, &size) && size > 0 && (bytes = take(s, 1)) != NULL && *bytes >= 1 &&
             *bytes <= 8 && skip(s, size);
    case 88:
    case 89:
    case 120:
    case 90:
      return take_identifier(s, tag);
    case 112:
      s->flags |= FUNCTIONS;
      // Size, arity, unique, index, free variables; then the module, two numbers, a process, and the variables.
      bytes = take(s, 29);
      if (bytes == NULL) return false;
      *terms += 4 + (uint64_t)number(bytes + 25, 4);
      return true;
    case 113:
      s->flags |= FUNCTIONS;
      *terms += 3;
      return true;
    case 80:
      return fail(s, "a compressed term");
    default:
      if (!is_atom_tag(tag) || !atom_body(s, tag, &name)) return false;
      if (is_named(name, "__struct__")) s->flags |= STRUCTS;
      if (is_named(name, "Elixir.Pythonx.Object") || is_named(name, "Elixir.Pythonx.Pool.Object") ||
          is_named(name, "Elixir.Pythonx.Pool.Resource"))
        s->flags |= OBJECTS;
      return true;
  }
}

static void walk(scan* s) {
  const unsigned char* bytes = take(s, 1);
  uint64_t terms = 1;
  bool whole = bytes != NULL && *bytes == 131;
  while (whole && terms > 0) {
    bytes = take(s, 1);
    terms--;
    whole = bytes != NULL && take_term(s, *bytes, &terms) && terms <= s->left;
  }
  if (!whole && s->failure == NULL) s->failure = "a damaged term";
  if (whole && s->left > 0) s->failure = "a term with bytes behind it";
}

static ERL_NIF_TERM scan_pieces(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  (void)argc;
  scan s = {.env = env, .pids = enif_make_list(env, 0)};
  ErlNifBinary binary;
  if (enif_inspect_binary(env, argv[0], &binary)) {
    s.rest = enif_make_list1(env, argv[0]);
    s.left = binary.size;
  } else {
    s.rest = argv[0];
    ERL_NIF_TERM list = argv[0];
    for (ERL_NIF_TERM head; enif_get_list_cell(env, list, &head, &list); s.left += binary.size)
      if (!enif_inspect_binary(env, head, &binary)) return enif_make_badarg(env);
    if (!enif_is_empty_list(env, list)) return enif_make_badarg(env);
  }
  walk(&s);
  if (s.failure != NULL) return make_error(env, make_binary(env, s.failure));
  return enif_make_tuple3(env, enif_make_atom(env, "ok"), enif_make_uint(env, s.flags), s.pids);
}

// How much there is, as far as it matters.
static size_t size_of(ErlNifEnv* env, ERL_NIF_TERM bytes) {
  ErlNifBinary binary;
  if (enif_inspect_binary(env, bytes, &binary)) return binary.size;
  size_t size = 0;
  for (ERL_NIF_TERM head; size < LARGE && enif_get_list_cell(env, bytes, &head, &bytes);)
    if (enif_inspect_binary(env, head, &binary)) size += binary.size;
  return size;
}

ERL_NIF_TERM nif_scan(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  if (size_of(env, argv[0]) < LARGE) return scan_pieces(env, argc, argv);
  return enif_schedule_nif(env, "scan", ERL_NIF_DIRTY_JOB_CPU_BOUND, scan_pieces, argc, argv);
}
