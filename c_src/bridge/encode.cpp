#include "encode.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <new>

#include "encoder.hpp"
#include "function.hpp"
#include "integer.hpp"
#include "object.hpp"
#include "user_code.hpp"

namespace pythonx {
namespace {

// Maps of up to this size are flat: their keys come in one order, so those of equal shape repeat each
// other's.
constexpr std::size_t flat_map_size = 32;

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

Encoder::~Encoder() {
  while (!frames_.empty()) {
    if (frames_.back().key != nullptr) drop(frames_.back().key, options_.user_code);
    drop(frames_.back().object, options_.user_code);
    frames_.pop_back();
  }
  for (ErlNifMapIterator& iterator : iterators_) enif_map_iterator_destroy(env_, &iterator);
}

EncodeStatus Encoder::run(Term root, PyObject** out) {
  PyObject* value = begin(root);
  while (status_ == EncodeStatus::ok) {
    if (value != nullptr && frames_.empty()) {
      *out = value;
      break;
    }
    if (value != nullptr && !place(frames_.back(), value)) break;
    value = fill(frames_.back());
  }
  return status_;
}

PyObject* Encoder::begin(Term term) {
  switch (enif_term_type(env_, term)) {
    case ERL_NIF_TERM_TYPE_INTEGER:
      return checked(make_long(env_, term));
    case ERL_NIF_TERM_TYPE_FLOAT: {
      double value;
      enif_get_double(env_, term, &value);
      return checked(PyFloat_FromDouble(value));
    }
    case ERL_NIF_TERM_TYPE_BITSTRING: {
      ErlNifBinary bytes;
      return enif_inspect_binary(env_, term, &bytes) ? binary(bytes) : defer(term);
    }
    case ERL_NIF_TERM_TYPE_ATOM:
      return atom(term);
    case ERL_NIF_TERM_TYPE_LIST:
      return begin_list(term);
    case ERL_NIF_TERM_TYPE_TUPLE:
      return begin_tuple(term);
    case ERL_NIF_TERM_TYPE_MAP:
      return begin_map(term);
    case ERL_NIF_TERM_TYPE_PID:
      return pid(term);
    case ERL_NIF_TERM_TYPE_FUN:
      return checked(make_function(term, options_.binaries_as_str));
    default:
      return defer(term);
  }
}

PyObject* Encoder::begin_list(Term term) {
  unsigned size;
  if (!enif_get_list_length(env_, term, &size)) return defer(term);  // improper
  PyObject* list = begin_container(Kind::list, PyList_New(size), size);
  if (list == nullptr && status_ == EncodeStatus::ok) frames_.back().rest = term;
  return list;
}

PyObject* Encoder::begin_tuple(Term term) {
  int size;
  const Term* items;
  enif_get_tuple(env_, term, &size, &items);
  PyObject* tuple = begin_container(Kind::tuple, PyTuple_New(size), size);
  if (tuple == nullptr && status_ == EncodeStatus::ok) frames_.back().items = items;
  return tuple;
}

PyObject* Encoder::begin_map(Term term) {
  Term name;
  if (enif_get_map_value(env_, term, atoms.struct_, &name) && enif_is_atom(env_, name))
    return begin_struct(term, name);
  std::size_t size;
  enif_get_map_size(env_, term, &size);
  return begin_pairs(Kind::dict, new_dict(size), term, size);
}

PyObject* Encoder::begin_struct(Term term, Term name) {
  if (name == atoms.object) {
    PyObject* object = get_object(env_, term);
    if (object == nullptr) return defer(term);  // remote
    Py_INCREF(object);
    return object;
  }
  return name == atoms.map_set ? begin_set(term) : defer(term);
}

PyObject* Encoder::begin_set(Term term) {
  std::size_t size;
  Term map;
  if (!enif_get_map_value(env_, term, atoms.map, &map) || !enif_get_map_size(env_, map, &size))
    return defer(term);
  return begin_pairs(Kind::set, PySet_New(nullptr), map, size);
}

PyObject* Encoder::begin_pairs(Kind kind, PyObject* object, Term map, std::size_t size) {
  object = begin_container(kind, object, static_cast<Py_ssize_t>(size));
  if (object != nullptr || status_ != EncodeStatus::ok) return object;
  iterators_.emplace_back();
  frames_.back().iterator = &iterators_.back();
  enif_map_iterator_create(env_, map, &iterators_.back(), ERL_NIF_MAP_ITERATOR_FIRST);
  return nullptr;
}

// The key of a map. Those of small maps are likely to come again.
PyObject* Encoder::begin_key(Term term, bool repeats) {
  KeyCache* cache = repeats ? this->cache() : nullptr;
  PyObject* key = cache != nullptr ? cache->find(term) : nullptr;
  if (key != nullptr) {
    Py_INCREF(key);
    return key;
  }
  ErlNifBinary bytes;
  if (!enif_inspect_binary(env_, term, &bytes)) return begin(term);
  key = cache != nullptr && bytes.size <= KeyCache::longest ? key_by_content(*cache, bytes) : binary(bytes);
  if (key != nullptr && cache != nullptr) cache->remember(term, key);
  return key;
}

PyObject* Encoder::begin_container(Kind kind, PyObject* object, Py_ssize_t size) {
  if (object == nullptr) return python_error();
  if (size == 0) return object;
  if (frames_.empty()) frames_.reserve(16);
  frames_.push_back({object, nullptr, 0, size, {0}, kind, false});
#ifdef Py_GIL_DISABLED
  hide();
#endif
  return nullptr;
}

PyObject* Encoder::fill(Frame& frame) {
  switch (frame.kind) {
    case Kind::list:
      return fill_list(frame);
    case Kind::tuple:
      return fill_tuple(frame);
    case Kind::dict:
      return fill_dict(frame);
    case Kind::set:
      return fill_set(frame);
  }
  return nullptr;
}

// A frame reference is dead once `begin` has returned nullptr: the stack of frames may have moved.
PyObject* Encoder::fill_list(Frame& frame) {
  while (frame.index < frame.size) {
    if (pacer_.due() && !pause()) return nullptr;
    Term head;
    enif_get_list_cell(env_, frame.rest, &head, &frame.rest);
    PyObject* item = begin(head);
    if (item == nullptr) return nullptr;
    PyList_SET_ITEM(frame.object, frame.index++, item);
    if (!fill_like(frame, Py_TYPE(item))) return nullptr;
  }
  return pop();
}

PyObject* Encoder::fill_tuple(Frame& frame) {
  while (frame.index < frame.size) {
    if (pacer_.due() && !pause()) return nullptr;
    PyObject* item = begin(frame.items[frame.index]);
    if (item == nullptr) return nullptr;
    PyTuple_SET_ITEM(frame.object, frame.index++, item);
  }
  return pop();
}

PyObject* Encoder::fill_dict(Frame& frame) {
  const bool repeats = static_cast<std::size_t>(frame.size) <= flat_map_size;
  Term key_term;
  Term value_term;
  while (enif_map_iterator_get_pair(env_, frame.iterator, &key_term, &value_term)) {
    if (pacer_.due() && !pause()) return nullptr;
    if (frame.key == nullptr) {
      PyObject* key = begin_key(key_term, repeats);
      if (key == nullptr) return nullptr;
      frame.key = key;
    }
    PyObject* value = begin(value_term);
    if (value == nullptr) return nullptr;
    PyTypeObject* type = Py_TYPE(value);
    if (!place(frame, value) || (!repeats && !fill_like(frame, type))) return nullptr;
  }
  return pop();
}

PyObject* Encoder::fill_set(Frame& frame) {
  Term element;
  Term unused;
  while (enif_map_iterator_get_pair(env_, frame.iterator, &element, &unused)) {
    if (pacer_.due() && !pause()) return nullptr;
    PyObject* item = begin(element);
    if (item == nullptr || !place(frame, item)) return nullptr;
  }
  return pop();
}

// Puts a finished value where the innermost container waits for it. Takes the reference.
bool Encoder::place(Frame& frame, PyObject* value) {
  if (frame.kind == Kind::list) {
    PyList_SET_ITEM(frame.object, frame.index++, value);
  } else if (frame.kind == Kind::tuple) {
    PyTuple_SET_ITEM(frame.object, frame.index++, value);
  } else if (frame.kind == Kind::set) {
    return insert(frame, value, nullptr);
  } else if (frame.key == nullptr) {
    frame.key = value;
  } else {
    PyObject* key = frame.key;
    frame.key = nullptr;
    return insert(frame, key, value);
  }
  return true;
}

// Adds an entry to a dict, or without `value` an element to a set. Takes both references.
bool Encoder::insert(Frame& frame, PyObject* key, PyObject* value) {
  enif_map_iterator_next(env_, frame.iterator);
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

PyObject* Encoder::pop() {
  const Frame& frame = frames_.back();
  PyObject* object = frame.object;
  if (frame.hidden) PyObject_GC_Track(object);
  if (frame.kind == Kind::dict || frame.kind == Kind::set) {
    enif_map_iterator_destroy(env_, frame.iterator);
    iterators_.pop_back();
  }
  frames_.pop_back();
  hidden_ = std::min(hidden_, frames_.size());
  return object;
}

bool Encoder::pause() {
  hide();
  if (pacer_.pause()) return true;
  if (PyErr_Occurred() != nullptr) {
    python_error();
  } else {
    status_ = EncodeStatus::needs_thread;
  }
  return false;
}

// Before other threads run: gc.get_objects() and its like must not show them lists and tuples with holes,
// that crash whoever reads them. Sets and dicts have none.
void Encoder::hide() {
  for (; hidden_ < frames_.size(); ++hidden_) {
    Frame& frame = frames_[hidden_];
    if (frame.kind != Kind::list && frame.kind != Kind::tuple) continue;
    PyObject_GC_UnTrack(frame.object);
    frame.hidden = true;
  }
}

// The cache of keys, once there is reason to believe that any come twice: it costs more to make than a small
// term.
KeyCache* Encoder::cache() {
  if (!keys_ && ++seen_ > 8) keys_.emplace(options_.binaries_as_str);
  return keys_ ? &*keys_ : nullptr;
}

// Ends the walk for the Python exception that is set.
PyObject* Encoder::python_error() {
  if (options_.user_code) {
    status_ = EncodeStatus::failed;
  } else {
    PyErr_Clear();
    status_ = EncodeStatus::needs_thread;
  }
  return nullptr;
}

EncodeStatus encode(ErlNifEnv* env, Term term, const EncodeOptions& options,
                    const std::vector<PyObject*>& replacements, PyObject** out, std::vector<Term>* deferred) {
  *out = nullptr;
  deferred->clear();
  try {
    Encoder encoder(env, options, replacements, deferred);
    const EncodeStatus status = encoder.run(term, out);
    if (*out == nullptr || deferred->empty()) return status;
    drop(*out, options.user_code);
    *out = nullptr;
    return EncodeStatus::deferred;
  } catch (const std::bad_alloc&) {
    if (!options.user_code) return EncodeStatus::needs_thread;
    PyErr_NoMemory();
    return EncodeStatus::failed;
  }
}

}  // namespace pythonx
