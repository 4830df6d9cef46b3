// Python objects to Elixir terms, in one walk without recursion.
#pragma once

#include <Python.h>

#include <string>
#include <utility>
#include <vector>

#include "conversion/handles.hpp"
#include "conversion/identity_map.hpp"
#include "vm/term.hpp"

namespace pythonx {

// Decoding Python's own types and classes that Elixir has registered a decoder for. User code runs.
//
// The hook, pythonx._types.convert with its settings, gets each object that is not of a plain built-in type. It returns
// NotImplemented, or an object to decode in its place (an Elixir struct is a dict with a pythonx.Atom as the key of each
// field), or the Elixir function to decode it with. Those are collected, with references in their places: Elixir calls the
// functions, and a second walk finds the terms by the objects.
struct RichTypes {
  explicit RichTypes(PyObject* convert) : hook(convert) {}
  ~RichTypes();
  RichTypes(const RichTypes&) = delete;
  RichTypes& operator=(const RichTypes&) = delete;

  PyObject* hook;                                        // borrowed
  IdentityMap decoded;                                   // terms by object; the caller keeps the objects
  std::vector<std::pair<PyObject*, PyObject*>> pending;  // objects and functions, a reference to each
};

struct DecodeOptions {
  bool user_code = false;   // true on a bridge thread, where an overridden __iter__ of a set may run
  bool caller_env = false;  // `env` is that of a NIF call on a scheduler: the walk ends when the caller died
  RichTypes* rich = nullptr;  // with user_code only
  // Those of the interpreter of the object, nullptr for the main one. The terms of any other outlive its memory, so all is copied.
  Handles* interpreter = nullptr;
};

enum class DecodeStatus {
  ok,            // *out holds the term
  object,        // the object itself has no Elixir counterpart: the caller keeps its handle
  needs_thread,  // user code would have to run, or Python raised: walk again on a bridge thread; no error is
                 // set. Also when the caller died (with caller_env): nobody is there to read the answer.
  failed,        // a Python exception is set (only with user_code)
  refused,       // *message says where and why (a container that holds itself, keys that meet as one)
};

// Decodes `object` into `env`. Needs the GIL; gives it up about every millisecond. The caller owns a
// reference to `object` throughout.
//
// An object that is shared is decoded once, and its term is shared as well: terms cannot change, so nobody
// can tell, and n doublings need n terms. (Sending such a term to another process unfolds it: that is the
// VM's way.)
DecodeStatus decode(ErlNifEnv* env, PyObject* object, const DecodeOptions& options, Term* out,
                    std::string* message);

// Takes `MapSet.new()` as the shape of the sets that decoding makes; it differs between versions of Elixir.
// Called once when the library is loaded; until then they have the shape of Elixir 1.18.
void set_map_set_template(ErlNifEnv* env, Term map_set);

}  // namespace pythonx
