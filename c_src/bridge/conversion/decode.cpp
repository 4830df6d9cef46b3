#include "conversion/decode.hpp"

#include <algorithm>
#include <new>

#include "conversion/decoder.hpp"
#include "conversion/user_code.hpp"

namespace pythonx {
namespace {

// Dicts of up to this size may be rows of a table.
constexpr Py_ssize_t row_size = 32;

// The arity of a tuple has 24 bits in the VM, which does not check it.
constexpr Py_ssize_t largest_tuple = (1 << 24) - 1;

}  // namespace

Decoder::~Decoder() {
  for (Frame& frame : frames_) release(frame);
  memo_.each([this](PyObject* object) { drop(object, options_.user_code); });
}

DecodeStatus Decoder::run(PyObject* root, Term* out) {
  Term value = 0;
  bool done = begin(root, 1, &value);
  while (status_ == DecodeStatus::ok) {
    if (done && frames_.empty()) {
      *out = value;
      break;
    }
    if (done) place(frames_.back(), value);
    done = fill(frames_.back(), &value);
  }
  return status_;
}

bool Decoder::begin(PyObject* object, Py_ssize_t held, Term* out) {
  PyTypeObject* type = Py_TYPE(object);
  if (type == &PyLong_Type) return integer(object, out);
  if (type == &PyUnicode_Type) return text(object, out);
  if (type == &PyFloat_Type) return real(object, out);
  if (type == &PyDict_Type) return begin_container(Kind::dict, object, PyDict_GET_SIZE(object), held, out);
  if (type == &PyList_Type) return begin_container(Kind::list, object, PyList_GET_SIZE(object), held, out);
  if (type == &PyTuple_Type) return begin_tuple(object, held, out);
  if (type == &PyBytes_Type) return bytes(object, out);
  if (object == Py_None || type == &PyBool_Type) {
    *out = object == Py_None ? atoms.nil : object == Py_True ? atoms.true_ : atoms.false_;
    return true;
  }
  return begin_subclass(object, held, out);
}

// Rich decoding runs Python code, and others while that runs: they may take the object out of what holds it.
bool Decoder::begin_subclass(PyObject* object, Py_ssize_t held, Term* out) {
  if (options_.rich == nullptr) return begin_stored(object, held, out);
  bool done = false;
  Py_INCREF(object);
  if (!begin_rich(object, held + 1, out, &done)) done = begin_stored(object, held + 1, out);
  drop(object, options_.user_code);
  return done;
}

// What is stored in an instance of a subclass counts, whatever methods the class overrides.
bool Decoder::begin_stored(PyObject* object, Py_ssize_t held, Term* out) {
  if (PyLong_Check(object)) return integer(object, out);
  if (PyFloat_Check(object)) return real(object, out);
  if (PyTuple_Check(object)) return begin_tuple(object, held, out);
  if (PyList_Check(object)) return begin_container(Kind::list, object, PyList_GET_SIZE(object), held, out);
  if (PyDict_Check(object)) return begin_container(Kind::dict, object, PyDict_GET_SIZE(object), held, out);
  if (PyUnicode_Check(object)) return text(object, out);
  if (PyBytes_Check(object)) return bytes(object, out);
  if (PyAnySet_Check(object)) return begin_set(object, held, out);
  return other(object, out);
}

bool Decoder::begin_tuple(PyObject* tuple, Py_ssize_t held, Term* out) {
  const Py_ssize_t size = PyTuple_GET_SIZE(tuple);
  if (size <= largest_tuple) return begin_container(Kind::tuple, tuple, size, held, out);
  return refuse(frames_.size(), "cannot decode a tuple of " + std::to_string(size) +
                                    " elements, Elixir's have at most " + std::to_string(largest_tuple));
}

bool Decoder::begin_container(Kind kind, PyObject* object, Py_ssize_t size, Py_ssize_t held, Term* out) {
  const bool shared = size > 0 && Py_REFCNT(object) > held;
  bool done;
  if (shared && recall(kind, object, out, &done)) return done;
  push(kind, object, size, shared);
  return false;
}

bool Decoder::begin_set(PyObject* set, Py_ssize_t held, Term* out) {
  bool done;
  if (recall(Kind::set, set, out, &done)) return done;
  const bool overridden = Py_TYPE(set)->tp_iter != PySet_Type.tp_iter;
  if (overridden && !options_.user_code) {
    status_ = DecodeStatus::needs_thread;
    return false;
  }
  std::vector<PyObject*> contents;
#if PY_VERSION_HEX < 0x030C0000
  // Where it may, the collector runs when an iterator is made, and with it finalizers, which may change what is being read.
  if (options_.user_code) pin();
#endif
  // Code of the class might drop the set from what holds it.
  Py_INCREF(set);
  if (overridden ? iterate(set, &contents) : elements(set, &contents)) {
    push(Kind::set, set, static_cast<Py_ssize_t>(contents.size()), Py_REFCNT(set) > held + 1);
    frames_.back().contents = new PyObject*[contents.size()];
    std::copy(contents.begin(), contents.end(), frames_.back().contents);
  } else {
    python_error();
  }
  drop(set, options_.user_code);
  return false;
}

bool Decoder::recall(Kind kind, PyObject* object, Term* out, bool* done) {
  const IdentityMap::Entry* known = memo_.find(object);
  if (known == nullptr) return false;
  *out = known->term;
  *done = known->term != 0 || refuse_cycle(kind);
  return true;
}

// From here on the object is known, as one that is being read.
void Decoder::remember(PyObject* object) {
  memo_.insert(object, 0);
  Py_INCREF(object);
}

void Decoder::push(Kind kind, PyObject* object, Py_ssize_t size, bool shared) {
  const auto slots = static_cast<std::size_t>(kind == Kind::list ? 0 : kind == Kind::tuple ? size : 2 * size);
  const std::size_t first = terms_.size();
  const Py_ssize_t index = kind == Kind::list ? size : 0;
  terms_.resize(first + slots);
  if (frames_.empty()) frames_.reserve(16);
  if (shared) {
    remember(object);
  }
  frames_.push_back({object, nullptr, index, size, 0, 0, first, enif_make_list(env_, 0),
                     shared ? object : nullptr, kind, false});
  Py_INCREF(object);
#ifdef Py_GIL_DISABLED
  pin();
#endif
}

// A key of a dict. Those of small dicts are likely to come again.
bool Decoder::begin_key(PyObject* key, Py_ssize_t held, bool repeats, Term* out) {
  const bool cached = repeats && (PyUnicode_CheckExact(key) || PyBytes_CheckExact(key));
  TermCache* cache = cached ? this->cache() : nullptr;
  *out = cache != nullptr ? cache->find(key) : 0;
  if (*out != 0) return true;
  if (!begin(key, held, out)) return false;
  if (cache != nullptr) cache->remember(key, *out);
  return true;
}

// The cache of keys, once there is reason to believe that any come twice: it costs more to make than a small
// dict.
TermCache* Decoder::cache() {
  if (!keys_ && ++keys_seen_ > 8) keys_.emplace();
  return keys_ ? &*keys_ : nullptr;
}

bool Decoder::fill(Frame& frame, Term* out) {
  switch (frame.kind) {
    case Kind::list:
      return fill_list(frame, out);
    case Kind::tuple:
      return fill_tuple(frame, out);
    case Kind::dict:
      return fill_dict(frame, out);
    case Kind::set:
      return fill_set(frame, out);
  }
  return false;
}

// The reference to the frame is dead once a `begin` has returned false: the stack of frames may have moved.
bool Decoder::fill_list(Frame& frame, Term* out) {
  while (true) {
    if (pacer_.due() && !pause()) return false;
    // Other threads may have made the list shorter meanwhile.
    frame.index = std::min(frame.index, PyList_GET_SIZE(frame.object));
    if (frame.index == 0) return pop(frame.tail, out);
    frame.index -= 1;
    Term item;
    PyTypeObject* type;
    if (!begin_item(frame, &item, &type)) return false;
    frame.tail = enif_make_list_cell(env_, item, frame.tail);
    if (!fill_like(frame, type)) return false;
  }
}

#ifdef Py_GIL_DISABLED
// Other threads may change the list at any time, so each element is taken with a reference.
bool Decoder::begin_item(Frame& frame, Term* out, PyTypeObject** type) {
  PyObject* item = PyList_GetItemRef(frame.object, frame.index);
  if (item == nullptr) {  // the list was made shorter just now
    PyErr_Clear();
    item = Py_None;
  }
  *type = Py_TYPE(item);
  const bool done = begin(item, 2, out);
  drop(item, options_.user_code);
  return done;
}
#else
inline bool Decoder::begin_item(Frame& frame, Term* out, PyTypeObject** type) {
  PyObject* item = PyList_GET_ITEM(frame.object, frame.index);
  *type = Py_TYPE(item);
  return begin(item, 1, out);
}
#endif

bool Decoder::fill_tuple(Frame& frame, Term* out) {
  while (frame.index < frame.size) {
    if (pacer_.due() && !pause()) return false;
    Term item;
    if (!begin(PyTuple_GET_ITEM(frame.object, frame.index), 1, &item)) return false;
    place(frame, item);
  }
  const Term* items = terms_.data() + frame.first;
  return pop(enif_make_tuple_from_array(env_, items, static_cast<unsigned>(frame.size)), out);
}

bool Decoder::fill_dict(Frame& frame, Term* out) {
  const bool repeats = frame.size <= row_size;
  while (frame.index < frame.size) {
    if (pacer_.due() && !pause()) return false;
    PyObject* key;
    PyObject* value;
    if (!entry(frame, &key, &value)) break;
    const Py_ssize_t held = frame.contents != nullptr ? 2 : 1;
    Term term;
    if (!frame.in_value) {
      if (!begin_key(key, held, repeats, &term)) return false;
      place(frame, term);
      // A very long key lets the GIL go, and then only what was pinned is sure to be alive.
      if (frame.contents != nullptr) value = frame.contents[2 * frame.index + 1];
    }
    PyTypeObject* type = Py_TYPE(value);
    if (!begin(value, held, &term)) return false;
    place(frame, term);
    if (!repeats && !fill_like(frame, type)) return false;
  }
  return finish_map(frame, out);
}

bool Decoder::fill_set(Frame& frame, Term* out) {
  while (frame.index < frame.size) {
    if (pacer_.due() && !pause()) return false;
    Term item;
    if (!begin(frame.contents[frame.index], 2, &item)) return false;
    place(frame, item);
  }
  return finish_set(frame, out);
}

// Puts a finished term where the innermost container waits for it.
void Decoder::place(Frame& frame, Term term) {
  const std::size_t slot = frame.first + static_cast<std::size_t>(frame.index);
  if (frame.kind == Kind::list) {
    frame.tail = enif_make_list_cell(env_, term, frame.tail);
  } else if (frame.kind == Kind::dict && !frame.in_value) {
    terms_[slot] = term;
    frame.in_value = true;
  } else if (frame.kind == Kind::dict) {
    terms_[slot + static_cast<std::size_t>(frame.size)] = term;
    frame.in_value = false;
    done_with(frame);
  } else {
    terms_[slot] = term;
    done_with(frame);
  }
}

bool Decoder::finish_map(Frame& frame, Term* out) {
  Term map;
  if (!make_map(frame, &map)) return refuse_meeting_keys(frame);
  return pop(map, out);
}

bool Decoder::finish_set(Frame& frame, Term* out) {
  Term* values = terms_.data() + frame.first + frame.size;
  std::fill(values, values + frame.size, enif_make_list(env_, 0));
  Term map;
  if (!make_map(frame, &map)) return refuse_meeting_keys(frame);
  return pop(make_map_set(env_, map, &map_set_), out);
}

// A map of what was read so far; false when two keys are the same term.
bool Decoder::make_map(const Frame& frame, Term* out) {
  const Term* keys = terms_.data() + frame.first;
  return make_distinct_map(env_, keys, keys + frame.size, static_cast<std::size_t>(frame.index), out);
}

bool Decoder::pop(Term term, Term* out) {
  Frame& frame = frames_.back();
  if (frame.origin != nullptr) memo_.find(frame.origin)->term = term;
  terms_.resize(frame.first);
  release(frame);
  frames_.pop_back();
  pinned_ = std::min(pinned_, frames_.size());
  *out = term;
  return true;
}

void Decoder::release(Frame& frame) {
  if (frame.contents != nullptr) {
    while (frame.index < frame.size) done_with(frame);
    delete[] frame.contents;
  }
  drop(frame.object, options_.user_code);
}

// The elements as the set stores them.
bool Decoder::elements(PyObject* set, std::vector<PyObject*>* out) {
  PyObject* iterator = PySet_Type.tp_iter(set);
  if (iterator == nullptr) return false;
  while (PyObject* item = PyIter_Next(iterator)) out->push_back(item);
  Py_DECREF(iterator);
  if (PyErr_Occurred() == nullptr) return true;
  for (PyObject* item : *out) drop(item, options_.user_code);
  return false;
}

// The elements as the class of the set wants them seen. Code of that class runs.
bool Decoder::iterate(PyObject* set, std::vector<PyObject*>* out) {
  pin();
  PyObject* list = PySequence_List(set);
  PyObject* unique = list != nullptr ? PySet_New(list) : nullptr;
  const bool done = unique != nullptr && elements(unique, out);
  Py_XDECREF(unique);
  Py_XDECREF(list);
  return done;
}

// Ends the walk for the Python exception that is set.
bool Decoder::python_error() {
  if (options_.user_code) {
    note_place();
    status_ = DecodeStatus::failed;
  } else {
    PyErr_Clear();
    status_ = DecodeStatus::needs_thread;
  }
  return false;
}

DecodeStatus decode(ErlNifEnv* env, PyObject* object, const DecodeOptions& options, Term* out,
                    std::string* message) {
  try {
    Decoder decoder(env, options);
    const DecodeStatus status = decoder.run(object, out);
    if (status == DecodeStatus::refused) *message = decoder.message();
    return status;
  } catch (const std::bad_alloc&) {
    if (!options.user_code) return DecodeStatus::needs_thread;
    PyErr_NoMemory();
    return DecodeStatus::failed;
  }
}

}  // namespace pythonx
