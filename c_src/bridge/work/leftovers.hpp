// What user code leaves behind that nobody can do without, such as an empty sys.meta_path or a recursion limit of 20, is
// put back when the evaluation ends that finds it so. Looked for in some tens of nanoseconds; put back by _package.py. What else
// is the whole interpreter's stays as it was left: the guide on what is shared says what.
//
// Attached to the main interpreter.
#pragma once

#include <Python.h>

namespace pythonx {

// Called once at boot, when Python is as evaluations are to find it. False with an exception set.
bool init_leftovers();

// Made before user code runs, on its thread, and ended when it has: also takes away a trace or profile function that the code
// has set for its thread, and an `__import__` of its own. An exception that is set stays.
class Leftovers {
 public:
  Leftovers();
  void end() const;

 private:
  bool traced_;
  bool profiled_;
  bool imports_;  // by Python's own __import__
};

}  // namespace pythonx
