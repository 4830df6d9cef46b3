// Handles: resources that own Python objects, and binaries that live in one.
//
// Ownership. A resource owns one strong reference. Its destructor runs on whichever scheduler collected the last
// term, must never wait for the GIL, and so only pushes the reference on a lock-free list ("pending"). Whoever is
// ends an evaluation drops what is harmless. What is not, because a drop may run a finalizer (__del__, the callback of a weak
// reference), arbitrary code that belongs neither on a dirty scheduler's small stack nor between somebody else's evaluation and
// its reply, is left to the reaper (threads/reaper.hpp).
#pragma once

#include <Python.h>

#include <chrono>
#include <cstddef>
#include <utility>

#include "vm/term.hpp"

namespace pythonx {

// A reference to an object that is on its way to Elixir. What nobody has taken is dropped as handles are.
class Object {
 public:
  explicit Object(PyObject* reference) : reference_(reference) {}
  ~Object();
  Object(Object&& other) noexcept : reference_(other.release()) {}
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  Object& operator=(Object&&) = delete;

  PyObject* release() { return std::exchange(reference_, nullptr); }

 private:
  PyObject* reference_;
};

// Registers the resource types. Called once, when the library is loaded.
bool open_object_types(ErlNifEnv* env);

// From now on this is a worker of a pool, whose handles go where no Python is: they carry the names of their types. Errors of
// memory keep no traceback, and with it what has filled the memory.
void become_worker();
bool is_worker();

// A %Pythonx.Object{} with a new strong reference of its own. Needs the GIL.
Term make_object(ErlNifEnv* env, PyObject* object);

// The same with a reference of the caller's, which is taken. Needs no GIL.
Term make_object_from(ErlNifEnv* env, PyObject* object);

// The object behind a local %Pythonx.Object{}, borrowed for as long as `env` keeps the term; nullptr for any other
// term, a remote object included. Needs no GIL.
PyObject* get_object(ErlNifEnv* env, Term term);

// A binary over memory that `owner` keeps alive and unchanged: no copy, a new strong reference. Needs the GIL.
Term make_binary_over(ErlNifEnv* env, PyObject* owner, const char* data, std::size_t size);

// Queues a reference that the caller owns, to be dropped on a bridge thread. Needs no GIL, takes no lock. Where there is no
// memory for that, the object is leaked.
void drop_later(PyObject* object);

// Drops pending references that run nobody's code when they go, until none is left or `budget_us` microseconds have passed.
// Lets other threads have the GIL about every millisecond. Attached, on a bridge thread.
void drop_harmless(long budget_us);

// Whether something is pending that `drop_harmless` has not looked at.
bool has_pending();

// Takes one pending reference, harmless or not, for the caller to drop; nullptr when there is none. Needs no GIL.
PyObject* take_pending();

// Waits until a reference is pending, `limit` at most; true if one is. For the reaper, without the GIL.
bool wait_for_pending(std::chrono::milliseconds limit);

// To be told of each reference that was taken, once it is dropped.
void note_dropped(std::size_t count);

// How many references handles hold just now, the pending ones included.
std::size_t live_handles();

}  // namespace pythonx
