// Where an interrupt may be raised.
//
// An exception out of the blue does no harm almost anywhere, but it does between the taking of a lock and the
// `try` that lets it go, and before a release. The import system, Python code, has such places, and its locks
// are everyone's: an interrupt there would leave every later import of a module waiting for ever. So there it
// is put off. A package whose code is broken off in the middle can often not be imported again, as its submodules are there
// already, but no more in it (asyncio's `__init__` ends in a NameError then), or its C code refuses a second start (numpy).
#pragma once

#include <Python.h>

namespace pythonx {

enum class Safety {
  safe,
  loading,  // a module that is being imported may be spoilt; its code, finder or loader may be there for long
  risky,    // a lock of the program's own may stay taken; code may be there for ever
  unsafe,   // a lock of the import system may; its code gets away from there by itself, unless it waits
};

// What may come of an exception at the place where the frame is. nullptr is a thread that runs no Python
// code.
Safety safety_of(PyFrameObject* frame);

// Whether the code of a module that is being imported is among the frames of the calling thread.
bool is_in_module_body(PyFrameObject* frame);

// On a free-threaded build: keeps every other thread from running Python for a scope, so that its frames can be read.
// Nothing with the GIL, which does that already. Begun before any mutex is taken: a thread that waits for one while it
// is attached could not be stopped. A thread that is stopped holds none, as nobody calls Python under one.
#ifdef Py_GIL_DISABLED
class StoppedWorld {
 public:
  StoppedWorld();
  ~StoppedWorld();
  StoppedWorld(const StoppedWorld&) = delete;
  StoppedWorld& operator=(const StoppedWorld&) = delete;
};
#else
struct StoppedWorld {};
#endif

// The same for a thread other than the calling one, from its state, in a stopped world. What is raised there fires
// where the thread next looks for it, so this is about the way that leads there.
Safety safety_of(PyThreadState* state);

}  // namespace pythonx
