// The walk behind `encode`: a stack of half-filled containers.
#pragma once

#include <Python.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "conversion/encode.hpp"
#include "conversion/key_cache.hpp"
#include "python/pacer.hpp"

namespace pythonx {

class Encoder {
 public:
  Encoder(ErlNifEnv* env, const EncodeOptions& options, const std::vector<PyObject*>& replacements,
          std::vector<Term>* deferred)
      : env_(env),
        options_(options),
        replacements_(replacements),
        deferred_(deferred),
        pacer_(env, {options.user_code, options.caller_env}) {}
  ~Encoder();
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;

  EncodeStatus run(Term root, PyObject** out);

 private:
  enum class Kind : std::uint8_t { list, tuple, dict, set };

  // A container that is being filled. The walk owns it until it is complete and only then puts it into its
  // parent: on an error each is dropped by itself, however deep they are nested.
  struct Frame {
    PyObject* object;
    PyObject* key;     // of a dict: the finished key that waits for its value (owned)
    Py_ssize_t index;  // of the element that comes next; of large maps the iterator knows it
    Py_ssize_t size;   // in elements, or in pairs
    union {
      Term rest;                    // of a list
      const Term* items;            // of a tuple
      std::size_t first;            // of a small map: where its pairs begin in `pairs_`
      ErlNifMapIterator* iterator;  // of a large one: the back of `iterators_` when the frame is on top
    };
    Kind kind;
    bool large;  // of maps
    bool hidden;
  };

  // Each of these returns a new reference, or nullptr: then either a container was begun and has to be filled
  // first, or the status says why the walk ends.
  PyObject* begin(Term term);
  PyObject* begin_list(Term term);
  PyObject* begin_tuple(Term term);
  PyObject* begin_map(Term term);
  PyObject* begin_dict(Term term, std::size_t size);
  PyObject* begin_struct(Term term, Term name);
  PyObject* begin_set(Term term);
  PyObject* begin_key(Term term, bool repeats);
  PyObject* begin_large_map(Kind kind, PyObject* object, Term map, std::size_t size);
  PyObject* begin_small_map(Kind kind, PyObject* object, std::size_t first, std::size_t size);
  PyObject* begin_container(Kind kind, PyObject* object, Py_ssize_t size);
  PyObject* fill(Frame& frame);
  PyObject* fill_list(Frame& frame);
  PyObject* fill_tuple(Frame& frame);
  PyObject* fill_dict(Frame& frame);
  PyObject* fill_set(Frame& frame);

  // Each of these returns a new reference, or nullptr when the walk has to end.
  PyObject* atom(Term term);
  PyObject* binary(const ErlNifBinary& binary);
  PyObject* short_binary(const ErlNifBinary& binary);
  PyObject* leave_to_thread();
  PyObject* large_bytes(const ErlNifBinary& binary);
  PyObject* large_text(const ErlNifBinary& binary);
  PyObject* key_by_content(KeyCache& cache, const ErlNifBinary& binary);
  PyObject* pid(Term term);
  PyObject* defer(Term term);
  bool is_own(Own type) const { return (options_.own & type) != 0; }

  // Goes on filling a list or a large dict as long as its values are like `sample`; false when the walk has
  // to end.
  bool fill_like(Frame& frame, PyTypeObject* sample);
  template <typename Convert>
  bool fill_list_run(Frame& frame, Convert convert);
  template <typename Convert>
  bool fill_dict_run(Frame& frame, Convert convert);

  // Appends the pairs of a small map to `pairs_`. Returns the value of its `__struct__` key, 0 when it is none.
  Term read_pairs(Term map, std::size_t size);
  bool pair(const Frame& frame, Term* key, Term* value);
  bool place(Frame& frame, PyObject* value);
  bool insert(Frame& frame, PyObject* key, PyObject* value);
  bool set_entry(PyObject* dict, PyObject* key, PyObject* value);
  bool may_hash(PyObject* key);
  PyObject* pop();
  bool pause();
  void leave();
  void hide();
  KeyCache* cache();
  PyObject* python_error();
  // For a nullptr that a function of Python may have returned, or one of the walk's own; false.
  bool raised() { return status_ == EncodeStatus::ok && python_error() != nullptr; }
  PyObject* checked(PyObject* object) { return object != nullptr ? object : python_error(); }

  ErlNifEnv* env_;
  const EncodeOptions& options_;
  const std::vector<PyObject*>& replacements_;
  std::vector<Term>* deferred_;
  std::size_t next_replacement_ = 0;
  Pacer pacer_;
  std::vector<Frame> frames_;
  std::vector<Term> pairs_;                  // of the small maps that are being read, one map after the other
  std::deque<ErlNifMapIterator> iterators_;  // of the large ones; a deque does not move them
  std::size_t hidden_ = 0;                   // the frames below this one are hidden
  std::size_t seen_ = 0;                     // keys and atoms
  std::optional<KeyCache> keys_;
  EncodeStatus status_ = EncodeStatus::ok;
};

}  // namespace pythonx
