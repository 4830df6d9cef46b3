// The parts of the encoding walk that make objects without elements, one at a time or in runs.
#include <algorithm>
#include <cstring>
#include <string>

#include "conversion/atom.hpp"
#include "conversion/encoder.hpp"
#include "conversion/pid.hpp"
#include "conversion/text.hpp"

namespace pythonx {
namespace {

// Binaries from here on are copied without the GIL: that many bytes take some 100 us.
constexpr std::size_t large_binary = 1U << 20;

// Binaries of up to this size need no look at the clock.
constexpr std::size_t short_size = 4096;

PyObject* atom_name(ErlNifEnv* env, Term term) {
  char name[256];
  const int size = enif_get_atom(env, term, name, sizeof(name), ERL_NIF_LATIN1);
  if (size != 0) return PyUnicode_DecodeLatin1(name, size - 1, nullptr);
  std::string wide;  // The name is no Latin-1.
  if (!read_atom(env, term, &wide)) return PyErr_NoMemory();
  return make_text(reinterpret_cast<const unsigned char*>(wide.data()), wide.size());
}

}  // namespace

PyObject* Encoder::atom(Term term) {
  PyObject* name = term == atoms.nil      ? Py_None
                   : term == atoms.true_  ? Py_True
                   : term == atoms.false_ ? Py_False
                                          : nullptr;
  KeyCache* cache = name == nullptr ? this->cache() : nullptr;
  if (cache != nullptr) name = cache->find(term);
  if (name != nullptr) {
    Py_INCREF(name);
    return name;
  }
  name = checked(atom_name(env_, term));
  if (cache != nullptr && name != nullptr) cache->remember(term, name);
  return name;
}

inline PyObject* Encoder::short_binary(const ErlNifBinary& binary) {
  return checked(options_.binaries_as_str ? make_text(binary.data, binary.size)
                                          : make_bytes(binary.data, binary.size));
}

PyObject* Encoder::binary(const ErlNifBinary& binary) {
  if (binary.size >= large_binary) return options_.binaries_as_str ? large_text(binary) : large_bytes(binary);
  // A list of binaries of 100 kB would otherwise keep the GIL a hundred times too long.
  if (binary.size > short_size && pacer_.due(binary.size / 256) && !pause()) return nullptr;
  return short_binary(binary);
}

// What is large is worked on without the GIL: the walk is a thread's.
PyObject* Encoder::leave_to_thread() {
  status_ = EncodeStatus::needs_thread;
  return nullptr;
}

PyObject* Encoder::large_bytes(const ErlNifBinary& binary) {
  if (!pacer_.may_detach()) return leave_to_thread();
  PyObject* bytes = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(binary.size));
  if (bytes == nullptr) return python_error();
  hide();
  pacer_.detached([&] { std::memcpy(PyBytes_AS_STRING(bytes), binary.data, binary.size); });
  return bytes;
}

PyObject* Encoder::large_text(const ErlNifBinary& binary) {
  if (!pacer_.may_detach()) return leave_to_thread();
  TextShape shape;
  bool valid = false;
  hide();
  pacer_.detached([&] { valid = measure_utf8(binary.data, binary.size, &shape); });
  if (!valid) return checked(make_text(binary.data, binary.size));  // sets the exception
  PyObject* text = new_text(shape);
  if (text == nullptr) return python_error();
  pacer_.detached([&] { fill_text(text, binary.data, binary.size); });
  return text;
}

PyObject* Encoder::key_by_content(KeyCache& cache, const ErlNifBinary& bytes) {
  PyObject** slot = cache.slot(bytes.data, bytes.size);
  if (cache.holds(*slot, bytes.data, bytes.size)) {
    Py_INCREF(*slot);
    return *slot;
  }
  PyObject* key = binary(bytes);
  if (key != nullptr && (PyBytes_Check(key) || PyUnicode_IS_ASCII(key))) KeyCache::replace(slot, key);
  return key;
}

PyObject* Encoder::pid(Term term) {
  ErlNifPid pid;
  return enif_get_local_pid(env_, term, &pid) ? checked(make_pid(pid)) : defer(term);
}

// A term that only Elixir can encode: its replacement, or None to go on with until the walk has met all of
// them.
PyObject* Encoder::defer(Term term) {
  PyObject* object = Py_None;
  if (next_replacement_ < replacements_.size()) {
    object = replacements_[next_replacement_++];
  } else {
    deferred_->push_back(term);
  }
  Py_INCREF(object);
  return object;
}

// Fills a list as long as `convert` takes its elements: it says whether a term is of its type, and gives a
// new reference, or nullptr when Python raised.
template <typename Convert>
bool Encoder::fill_list_run(Frame& frame, Convert convert) {
  const Py_ssize_t start = frame.index;
  const Py_ssize_t stop = std::min(frame.size, start + longest_run);
  PyObject** const items = PySequence_Fast_ITEMS(frame.object);
  ErlNifEnv* const env = env_;
  Py_ssize_t i = start;
  Term rest = frame.rest;
  for (; i < stop; ++i) {
    Term head;
    Term tail;
    PyObject* item;
    enif_get_list_cell(env, rest, &head, &tail);
    if (!convert(head, &item)) break;
    if (item == nullptr) return raised();
    items[i] = item;
    rest = tail;
  }
  frame.index = i;
  frame.rest = rest;
  return !pacer_.due(static_cast<std::size_t>(i - start)) || pause();
}

// Fills a dict as long as its keys are short binaries and `convert` takes its values.
template <typename Convert>
bool Encoder::fill_dict_run(Frame& frame, Convert convert) {
  std::size_t count = 0;
  Term key_term;
  Term value_term;
  ErlNifBinary bytes;
  while (count < longest_run && enif_map_iterator_get_pair(env_, frame.iterator, &key_term, &value_term)) {
    PyObject* value;
    if (!enif_inspect_binary(env_, key_term, &bytes) || bytes.size > short_size) break;
    if (!convert(value_term, &value)) break;
    if (value == nullptr) return raised();
    PyObject* key = short_binary(bytes);
    if (key == nullptr) Py_DECREF(value);
    if (key == nullptr) return raised();
    if (!insert(frame, key, value)) return false;
    count += 1;
  }
  return !pacer_.due(count) || pause();
}

// Lists and large dicts tend to be of one type, and then a loop that expects it saves half of the way there.
bool Encoder::fill_like(Frame& frame, PyTypeObject* sample) {
  if (options_.own != 0) return true;
  const auto run = [&](auto convert) {
    return frame.kind == Kind::list ? fill_list_run(frame, convert) : fill_dict_run(frame, convert);
  };
  if (sample == &PyLong_Type) {
    return run([env = env_](Term term, PyObject** out) {
      ErlNifSInt64 value;
      if (!enif_get_int64(env, term, &value)) return false;
      *out = PyLong_FromLongLong(value);
      return true;
    });
  }
  if (sample == &PyFloat_Type) {
    return run([env = env_](Term term, PyObject** out) {
      double value;
      if (!enif_get_double(env, term, &value)) return false;
      *out = PyFloat_FromDouble(value);
      return true;
    });
  }
  if (sample == &PyBytes_Type && !options_.binaries_as_str) {
    return run([this, env = env_](Term term, PyObject** out) {
      ErlNifBinary bytes;
      if (!enif_inspect_binary(env, term, &bytes)) return false;
      *out = bytes.size > short_size ? binary(bytes) : make_bytes(bytes.data, bytes.size);
      return true;
    });
  }
  if (sample == &PyUnicode_Type && options_.binaries_as_str) {
    return run([this, env = env_](Term term, PyObject** out) {
      ErlNifBinary bytes;
      if (!enif_inspect_binary(env, term, &bytes)) return false;
      *out = bytes.size > short_size ? binary(bytes) : make_text(bytes.data, bytes.size);
      return true;
    });
  }
  return true;
}

}  // namespace pythonx
