#include "conversion/encode.hpp"

#include <algorithm>
#include <new>

#include "conversion/encoder.hpp"
#include "conversion/function.hpp"
#include "conversion/integer.hpp"
#include "conversion/object.hpp"
#include "conversion/user_code.hpp"

namespace pythonx {

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
      if (is_own(own_integer)) return defer(term);
      return checked(make_long(env_, term));
    case ERL_NIF_TERM_TYPE_FLOAT: {
      double value;
      if (is_own(own_float)) return defer(term);
      enif_get_double(env_, term, &value);
      return checked(PyFloat_FromDouble(value));
    }
    case ERL_NIF_TERM_TYPE_BITSTRING: {
      ErlNifBinary bytes;
      if (is_own(own_bitstring) || !enif_inspect_binary(env_, term, &bytes)) return defer(term);
      return binary(bytes);
    }
    case ERL_NIF_TERM_TYPE_ATOM:
      return is_own(own_atom) ? defer(term) : atom(term);
    case ERL_NIF_TERM_TYPE_LIST:
      return is_own(own_list) ? defer(term) : begin_list(term);
    case ERL_NIF_TERM_TYPE_TUPLE:
      return is_own(own_tuple) ? defer(term) : begin_tuple(term);
    case ERL_NIF_TERM_TYPE_MAP:
      return begin_map(term);
    case ERL_NIF_TERM_TYPE_PID:
      return options_.interpreter == nullptr && !is_own(own_pid) ? pid(term) : defer(term);
    case ERL_NIF_TERM_TYPE_FUN:
      if (options_.interpreter != nullptr || is_own(own_function)) return defer(term);
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

PyObject* Encoder::begin_container(Kind kind, PyObject* object, Py_ssize_t size) {
  if (object == nullptr) return python_error();
  if (size == 0) return object;
  if (frames_.empty()) frames_.reserve(16);
  frames_.push_back({object, nullptr, 0, size, {0}, kind, false, false});
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

PyObject* Encoder::pop() {
  const Frame& frame = frames_.back();
  PyObject* object = frame.object;
  if (frame.hidden) PyObject_GC_Track(object);
  if (frame.large) {
    enif_map_iterator_destroy(env_, frame.iterator);
    iterators_.pop_back();
  } else if (frame.kind == Kind::dict || frame.kind == Kind::set) {
    pairs_.resize(frame.first);
  }
  frames_.pop_back();
  hidden_ = std::min(hidden_, frames_.size());
  return object;
}

// Detached: leaves what the walk holds to be dropped by others, and ends it.
void Encoder::leave() {
  for (const Frame& frame : frames_) {
    if (frame.key != nullptr) drop_later(frame.key);
    drop_later(frame.object);
  }
  frames_.clear();
  if (keys_) keys_->take(drop_later);
  status_ = EncodeStatus::needs_thread;
}

bool Encoder::pause() {
  hide();
  if (pacer_.pause()) return true;
  if (pacer_.lost()) {
    leave();
  } else if (PyErr_Occurred() != nullptr) {
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
