// What the native functions of the bridge take and return, besides the types of nif/typed.hpp.
#pragma once

#include <Python.h>

#include "conversion/object.hpp"
#include "nif/typed.hpp"
#include "tables/table.hpp"
#include "threads/job.hpp"
#include "work/callback.hpp"

namespace pythonx {

// The object of a %Pythonx.Object{} of this interpreter and node, borrowed for as long as the call lasts.
template <>
struct Parameter<PyObject*> : ReadValue<PyObject*> {
  bool read(ErlNifEnv* env, Term term) {
    value = get_object(env, term);
    return value != nullptr;
  }
};

// The table of a %Pythonx.Object{} that holds a pythonx.Table.
template <>
struct Parameter<TablePtr> : ReadValue<TablePtr> {
  bool read(ErlNifEnv* env, Term term) {
    PyObject* object = get_object(env, term);
    if (object != nullptr) value = get_table(object);
    return value != nullptr;
  }
};

template <>
struct Parameter<Job&> {
  bool read(ErlNifEnv* env, Term term) {
    job = get_job(env, term);
    return job != nullptr;
  }
  Job& get() { return *job; }

  Job* job = nullptr;
};

template <>
struct Parameter<CallPtr> : ReadValue<CallPtr> {
  bool read(ErlNifEnv* env, Term term) {
    value = get_call(env, term);
    return value != nullptr;
  }
};

template <>
struct Enumeration<Answered> {
  static constexpr AtomOf<Answered> atoms_of[] = {{Answered::waiting, &atoms.waiting},
                                                  {Answered::async, &atoms.async},
                                                  {Answered::too_late, &atoms.false_}};
};

// A %Pythonx.Object{}, which takes the reference.
inline Term to_term(ErlNifEnv* env, Object object) { return make_object_from(env, object.release()); }

}  // namespace pythonx
