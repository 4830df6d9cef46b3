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

class Handoff;

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

// For the reaper: drops pending references that are harmless, many at once. One that is not is the caller's to drop then: it is
// in `risky`. False when none was pending. Attached, on a bridge thread.
bool drop_pending(Handoff* turn, PyObject** risky);

// Waits until a reference is pending, `limit` at most; true if one is. For the reaper, without the GIL.
bool wait_for_pending(std::chrono::milliseconds limit);

// Whether something is pending that jobs do not drop as they end: they have left it, or none has looked at what is pending since
// the number of looks was that.
bool is_left_pending(std::size_t looks_before);
std::size_t looks_at_pending();

// To be told of each reference that was the caller's to drop, once it is dropped.
void note_dropped(std::size_t count);

// How many references handles hold just now, the pending ones included.
std::size_t live_handles();

}  // namespace pythonx
