// The walk behind `decode`: a stack of containers that are being read.
#pragma once

#include <Python.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "conversion/decode.hpp"
#include "conversion/identity_map.hpp"
#include "conversion/term_cache.hpp"
#include "conversion/user_code.hpp"
#include "python/pacer.hpp"

namespace pythonx {

class Decoder {
 public:
  Decoder(ErlNifEnv* env, const DecodeOptions& options)
      : env_(env), options_(options), pacer_(env, {options.user_code, options.caller_env}) {}
  ~Decoder();
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  DecodeStatus run(PyObject* root, Term* out);
  const std::string& message() const { return message_; }

 private:
  enum class Kind : std::uint8_t { list, tuple, dict, set };

  // A container that is being read; the walk holds a reference to it.
  struct Frame {
    PyObject* object;
    PyObject** contents;  // of a set, and of a dict once other threads may have run: what is still to be read
                          // (owned)
    Py_ssize_t index;     // of the element in hand. Lists are read from their end, the way lists are consed
    Py_ssize_t size;      // in elements, or entries
    Py_ssize_t position;  // of a dict: where PyDict_Next finds the entry in hand
    Py_ssize_t next_position;  // and the one after it
    std::size_t first;  // where its terms begin in `terms_`. Of a dict or set: all keys, then all values
    Term tail;          // of a list: the elements read so far
    PyObject* origin;   // what the memo knows it as (borrowed from there), nullptr for what cannot come again
    Kind kind;
    bool in_value;  // of a dict: the key of the entry in hand is done
  };

  // Each of these makes the term of an object. False when a container was begun that has to be read first, or
  // when the walk ends, for which the status gives the reason. `held` is how many of the references to the
  // object are held by the container it is in and by the walk: if it has more, it may come again.
  bool begin(PyObject* object, Py_ssize_t held, Term* out);
  bool begin_subclass(PyObject* object, Py_ssize_t held, Term* out);
  bool begin_stored(PyObject* object, Py_ssize_t held, Term* out);
  bool begin_tuple(PyObject* tuple, Py_ssize_t held, Term* out);
  bool begin_container(Kind kind, PyObject* object, Py_ssize_t size, Py_ssize_t held, Term* out);
  bool begin_set(PyObject* set, Py_ssize_t held, Term* out);
  // Whether the object is one that rich decoding takes; then `*done` is what `begin` has to return.
  // The caller holds a reference.
  bool begin_rich(PyObject* object, Py_ssize_t held, Term* out, bool* done);
  bool begin_converted(PyObject* object, PyObject* converted, bool shared, Term* out);
  bool begin_item(Frame& frame, Term* out, PyTypeObject** type);
  bool begin_key(PyObject* key, Py_ssize_t held, bool repeats, Term* out);
  bool fill(Frame& frame, Term* out);
  bool fill_list(Frame& frame, Term* out);
  bool fill_tuple(Frame& frame, Term* out);
  bool fill_dict(Frame& frame, Term* out);
  bool fill_set(Frame& frame, Term* out);

  // Reads on through a list or a large dict as long as its values are of `type`; false when the walk ends.
  bool fill_like(Frame& frame, PyTypeObject* type);
  template <typename Convert>
  bool fill_list_run(Frame& frame, Convert convert);
  template <typename Convert>
  bool fill_dict_run(Frame& frame, Convert convert);
  bool short_key(PyObject* key, Term* out);

  // Each of these makes the term of an object without elements; false when the walk ends.
  bool integer(PyObject* object, Term* out);
  bool real(PyObject* object, Term* out);
  bool text(PyObject* object, Term* out);
  bool wide_text(PyObject* object, Term* out);
  bool bytes(PyObject* object, Term* out);
  bool other(PyObject* object, Term* out);
  bool copies() const { return options_.interpreter != nullptr; }

  // Whether the walk has met the container before; then `*done` is what `begin` has to return.
  bool recall(Kind kind, PyObject* object, Term* out, bool* done);
  void remember(PyObject* object);
  void push(Kind kind, PyObject* object, Py_ssize_t size, bool shared);
  bool finish_map(Frame& frame, Term* out);
  bool finish_set(Frame& frame, Term* out);
  bool make_map(const Frame& frame, Term* out);
  TermCache* cache();
  bool pop(Term term, Term* out);
  void place(Frame& frame, Term term);
  void done_with(Frame& frame);
  bool entry(Frame& frame, PyObject** key, PyObject** value);
  // The elements of a set, new references; false with a Python exception set.
  bool elements(PyObject* set, std::vector<PyObject*>* out);
  bool iterate(PyObject* set, std::vector<PyObject*>* out);
  void release(Frame& frame);
  bool pause();
  void leave();
  void pin();
  static void pin_dict(Frame& frame);
  template <typename Work>
  void detached(PyObject* object, Work work);

  // Each ends the walk, and returns false.
  bool python_error();
  bool refuse(std::size_t depth, const std::string& what);
  bool refuse_cycle(Kind kind);
  bool may_describe();
  void note_place() const;
  bool refuse_meeting_keys(const Frame& frame);

  std::string path(std::size_t depth) const;
  std::string segment(const Frame& frame) const;
  static PyObject* key_in_hand(const Frame& frame);
  static std::string describe_element(const Frame& frame, Py_ssize_t index);
  static const char* name(Kind kind);

  ErlNifEnv* env_;
  const DecodeOptions& options_;
  Pacer pacer_;
  std::vector<Frame> frames_;
  std::vector<Term> terms_;
  std::size_t pinned_ = 0;  // the frames below this one are pinned
  IdentityMap memo_;        // shared containers (a reference each): their terms, 0 while they are being read
  std::optional<TermCache> keys_;
  std::size_t keys_seen_ = 0;
  Term map_set_ = 0;
  std::string message_;
  DecodeStatus status_ = DecodeStatus::ok;
};

// The entry in hand of a dict; both references are borrowed.
inline bool Decoder::entry(Frame& frame, PyObject** key, PyObject** value) {
  if (frame.contents != nullptr) {
    *key = frame.contents[2 * frame.index];
    *value = frame.contents[2 * frame.index + 1];
    return true;
  }
  frame.next_position = frame.position;
  return PyDict_Next(frame.object, &frame.next_position, key, value) != 0;
}

// Goes on to the next element, and drops what was held of the one in hand, while that is still in the processor's
// cache.
inline void Decoder::done_with(Frame& frame) {
  if (frame.contents != nullptr) {
    const bool pairs = frame.kind == Kind::dict;
    PyObject** item = frame.contents + (pairs ? 2 * frame.index : frame.index);
    drop(item[0], options_.user_code);
    if (pairs) drop(item[1], options_.user_code);
  }
  frame.position = frame.next_position;
  frame.index += 1;
}

// A term for a set whose elements are the keys of `map`; `cached` keeps what is made once for each walk.
Term make_map_set(ErlNifEnv* env, Term map, Term* cached);

}  // namespace pythonx
