// Whether a dict of the interpreter's own, such as that of `sys`, was changed since it was looked at: what evaluations may do to
// it is looked for after each, in a few lookups, unless CPython says that nothing has changed at all. It does from 3.12 on. Before,
// and without a GIL, where the dict may be changed while it is looked at, it always counts as changed.
//
// Attached to the main interpreter.
#pragma once

#include <Python.h>

#if PY_VERSION_HEX >= 0x030C0000 && !defined(Py_GIL_DISABLED)
#define PYTHONX_WATCHES_DICTS
#endif

namespace pythonx {

class DictWatch {
 public:
  // From here on; once, for a dict that lives for ever. Where it cannot be watched it counts as changed for ever.
  void begin(PyObject* dict);

  bool is_changed() const { return changed_; }

  // To be called before the dict is looked at: what changes it meanwhile counts.
  void note_look() { changed_ = !watched_; }

  // What was found is not what it should be, and is to be looked at again.
  void note_change() { changed_ = true; }

 private:
  bool watched_ = false;
  bool changed_ = true;
};

}  // namespace pythonx
