// The parts of the encoding walk that deal with maps: dicts, sets, structs, and the keys of all of them.
#include <dlfcn.h>

#include "conversion/encoder.hpp"
#include "conversion/object.hpp"
#include "conversion/user_code.hpp"

namespace pythonx {
namespace {

// Maps of up to this size may be rows of a table, or structs. (The VM keeps those of up to 32 pairs as two arrays.)
constexpr std::size_t small_map = 32;

// How many tuples inside each other a key may be where user code may run: CPython hashes them recursively,
// without looking at what stack is left.
constexpr std::size_t deepest_key = 10000;

// A dict with room for `size` entries. The function that makes one is exported by every CPython so far but in
// no public header of the later ones, so it is asked for by name.
PyObject* new_dict(std::size_t size) {
  using Function = PyObject* (*)(Py_ssize_t);
  static const auto presized = reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, "_PyDict_NewPresized"));
  return presized != nullptr && size > 5 ? presized(static_cast<Py_ssize_t>(size)) : PyDict_New();
}

}  // namespace

PyObject* Encoder::begin_map(Term term) {
  std::size_t size;
  Term name;
  enif_get_map_size(env_, term, &size);
  if (size > small_map) {
    const bool is_struct = enif_get_map_value(env_, term, atoms.struct_, &name) && enif_is_atom(env_, name);
    if (is_struct) return begin_struct(term, name);
    return is_own(own_map) ? defer(term) : begin_large_map(Kind::dict, new_dict(size), term, size);
  }
  const std::size_t first = pairs_.size();
  name = read_pairs(term, size);
  if (name == 0 && !is_own(own_map)) return begin_small_map(Kind::dict, new_dict(size), first, size);
  pairs_.resize(first);
  return name == 0 ? defer(term) : begin_struct(term, name);
}

PyObject* Encoder::begin_struct(Term term, Term name) {
  if (name == atoms.object) {
    PyObject* object = options_.interpreter == nullptr ? get_object(env_, term)
                                                       : options_.interpreter->get_handle(env_, term);
    if (object == nullptr) return defer(term);  // of another interpreter or node
    Py_INCREF(object);
    return object;
  }
  return name == atoms.map_set && !is_own(own_map_set) ? begin_set(term) : defer(term);
}

PyObject* Encoder::begin_set(Term term) {
  std::size_t size;
  Term map;
  if (!enif_get_map_value(env_, term, atoms.map, &map) || !enif_get_map_size(env_, map, &size))
    return defer(term);
  if (size > small_map) return begin_large_map(Kind::set, PySet_New(nullptr), map, size);
  const std::size_t first = pairs_.size();
  read_pairs(map, size);
  return begin_small_map(Kind::set, PySet_New(nullptr), first, size);
}

PyObject* Encoder::begin_small_map(Kind kind, PyObject* object, std::size_t first, std::size_t size) {
  object = begin_container(kind, object, static_cast<Py_ssize_t>(size));
  if (object == nullptr && status_ == EncodeStatus::ok) frames_.back().first = first;
  return object;
}

PyObject* Encoder::begin_large_map(Kind kind, PyObject* object, Term map, std::size_t size) {
  object = begin_container(kind, object, static_cast<Py_ssize_t>(size));
  if (object != nullptr || status_ != EncodeStatus::ok) return object;
  iterators_.emplace_back();
  frames_.back().iterator = &iterators_.back();
  frames_.back().large = true;
  enif_map_iterator_create(env_, map, &iterators_.back(), ERL_NIF_MAP_ITERATOR_FIRST);
  return nullptr;
}

Term Encoder::read_pairs(Term map, std::size_t size) {
  Term name = 0;
  std::size_t next = pairs_.size();
  pairs_.resize(next + 2 * size);
  ErlNifMapIterator iterator;
  enif_map_iterator_create(env_, map, &iterator, ERL_NIF_MAP_ITERATOR_FIRST);
  for (; size > 0; --size, next += 2) {
    enif_map_iterator_get_pair(env_, &iterator, &pairs_[next], &pairs_[next + 1]);
    if (pairs_[next] == atoms.struct_ && enif_is_atom(env_, pairs_[next + 1])) name = pairs_[next + 1];
    enif_map_iterator_next(env_, &iterator);
  }
  enif_map_iterator_destroy(env_, &iterator);
  return name;
}

// The key of a map. Those of small maps are likely to come again.
PyObject* Encoder::begin_key(Term term, bool repeats) {
  if (is_own(own_bitstring)) return begin(term);
  KeyCache* cache = repeats ? this->cache() : nullptr;
  PyObject* key = cache != nullptr ? cache->find(term) : nullptr;
  if (key != nullptr) {
    Py_INCREF(key);
    return key;
  }
  ErlNifBinary bytes;
  if (!enif_inspect_binary(env_, term, &bytes)) return begin(term);
  key = cache != nullptr && bytes.size <= KeyCache::longest ? key_by_content(*cache, bytes) : binary(bytes);
  if (key != nullptr && cache != nullptr && cache->terms_repeat()) cache->remember(term, key);
  return key;
}

// The cache of keys, once there is reason to believe that any come twice: it costs more to make than a small
// term.
KeyCache* Encoder::cache() {
  if (!keys_ && ++seen_ > 8) keys_.emplace(options_.binaries_as_str);
  return keys_ ? &*keys_ : nullptr;
}

PyObject* Encoder::fill_dict(Frame& frame) {
  const bool large = frame.large;
  Term key_term;
  Term value_term;
  while (pair(frame, &key_term, &value_term)) {
    if (pacer_.due() && !pause()) return nullptr;
    if (frame.key == nullptr) {
      PyObject* key = begin_key(key_term, !large);
      if (key == nullptr) return nullptr;
      frame.key = key;
    }
    PyObject* value = begin(value_term);
    if (value == nullptr) return nullptr;
    PyTypeObject* type = Py_TYPE(value);
    if (!place(frame, value) || (large && !fill_like(frame, type))) return nullptr;
  }
  return pop();
}

PyObject* Encoder::fill_set(Frame& frame) {
  Term element;
  Term unused;
  while (pair(frame, &element, &unused)) {
    if (pacer_.due() && !pause()) return nullptr;
    PyObject* item = begin(element);
    if (item == nullptr || !place(frame, item)) return nullptr;
  }
  return pop();
}

// The pair in hand of a map; false after the last.
inline bool Encoder::pair(const Frame& frame, Term* key, Term* value) {
  if (frame.large) return enif_map_iterator_get_pair(env_, frame.iterator, key, value) != 0;
  if (frame.index == frame.size) return false;
  const Term* pair = &pairs_[frame.first + 2 * static_cast<std::size_t>(frame.index)];
  *key = pair[0];
  *value = pair[1];
  return true;
}

// Adds an entry to a dict, or without `value` an element to a set. Takes both references.
bool Encoder::insert(Frame& frame, PyObject* key, PyObject* value) {
  frame.index += 1;
  if (frame.large) enif_map_iterator_next(env_, frame.iterator);
  bool inserted = is_plain_scalar(key) || may_hash(key);
  if (inserted) {
    inserted = value == nullptr ? PySet_Add(frame.object, key) == 0 : set_entry(frame.object, key, value);
    if (!inserted) python_error();
  }
  drop(key, options_.user_code);
  if (value != nullptr) drop(value, options_.user_code);
  return inserted;
}

// Of two keys that are equal in Python the value of the later one stays. The earlier value may not be dropped
// here, so it must not be PyDict_SetItem that meets it.
bool Encoder::set_entry(PyObject* dict, PyObject* key, PyObject* value) {
  PyObject* current = PyDict_SetDefault(dict, key, value);
  if (current == value || current == nullptr) return current != nullptr;
  Py_INCREF(current);
  const bool done = PyDict_SetItem(dict, key, value) == 0;
  drop(current, options_.user_code);
  return done;
}

// Whether a key may be hashed and compared on this thread; if not, the status says why.
bool Encoder::may_hash(PyObject* key) {
  if (is_plain_key(key)) return true;
  if (!options_.user_code) {
    status_ = EncodeStatus::needs_thread;
    return false;
  }
  if (tuple_depth(key) > deepest_key) {
    PyErr_SetString(PyExc_RecursionError, "maximum recursion depth exceeded while hashing a tuple");
    python_error();
    return false;
  }
  hide();
  return true;
}

}  // namespace pythonx
