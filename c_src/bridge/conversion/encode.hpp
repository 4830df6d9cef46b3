// Elixir terms to Python objects, in one walk without recursion.
#pragma once

#include <Python.h>

#include <vector>

#include "conversion/handles.hpp"
#include "vm/term.hpp"

namespace pythonx {

// Built-in types for which Elixir has an implementation of the protocol that is not ours: their terms are deferred, wherever
// they are. The bits are those of lib/pythonx/conversion/own.ex.
enum Own : unsigned {
  own_atom = 1U << 0,
  own_bitstring = 1U << 1,
  own_float = 1U << 2,
  own_function = 1U << 3,
  own_integer = 1U << 4,
  own_list = 1U << 5,
  own_map = 1U << 6,
  own_map_set = 1U << 7,
  own_pid = 1U << 8,
  own_tuple = 1U << 9,
};

struct EncodeOptions {
  bool binaries_as_str = false;  // binaries become str, if they are no UTF-8 an error; otherwise bytes
  bool user_code = false;        // true on a bridge thread, where __hash__ and __eq__ of user classes may run
  unsigned own = 0;              // of `Own`
  bool caller_env = false;       // `env` is that of a NIF call on a scheduler: ends when the caller died
  // Those of the interpreter that the objects are for, nullptr for the main one. Any other takes no handles but its own, and no
  // pids and functions, whose types belong to the main one: these are deferred.
  const Handles* interpreter = nullptr;
};

enum class EncodeStatus {
  ok,            // *out holds a new reference
  deferred,      // the walk met terms that only the Pythonx.Encoder protocol can encode; *out is nullptr
  needs_thread,  // user code would have to run, or Python raised: walk again on a bridge thread; no error is
                 // set. Also when the caller died (with caller_env): nobody is there to read the answer.
  failed,        // a Python exception is set (only with user_code)
};

// Encodes `term`. `replacements` are the objects (borrowed) for the deferred terms of an earlier walk over
// the same term, in the order in which that walk reported them; empty on the first walk. Needs the GIL; gives
// it up about every millisecond. `env` must keep `term` alive throughout.
//
// Subterms that a term shares are encoded once for each place: lists and dicts can be changed, and a change
// of one must not show in another. A term of n doublings so becomes 2^n objects; memory is the only bound.
EncodeStatus encode(ErlNifEnv* env, Term term, const EncodeOptions& options,
                    const std::vector<PyObject*>& replacements, PyObject** out, std::vector<Term>* deferred);

}  // namespace pythonx
