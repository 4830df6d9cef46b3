// sys.stdin, sys.stdout and sys.stderr of each evaluation.
//
// They are attributes of one module, evaluations are many. One that puts something else there, as contextlib.redirect_stdout
// and wrappers with another encoding do, would take what strangers print, and go on to do so when it has ended. So
// setting the attribute sets it for the evaluation that does, with its threads and tasks, and until it ends; then what the
// new stream has buffered is flushed. Getting it gets the evaluation's own, or else the one that all have.
//
// What Python's C code finds as sys.stdout is neither of them, since that looks into the module's dict: there is an object
// that passes on what `print` writes to the stream of the evaluation that calls. It is never the value of the attribute: a
// stream that writes to the one before it would come back to itself.
//
// For this, getting and setting attributes of modules goes through functions of ours, which look at three names of one
// module. A class of our own for it would be seen: `type(sys)` makes modules, and is looked up by what pickles them.
//
// All of it is about the main interpreter, attached.
#pragma once

#include <Python.h>

#include "work/output.hpp"

namespace pythonx {

// Makes `streams` (a tuple in the order stdin, stdout, stderr) those that all evaluations have, and `fronts` what C code finds.
// Once, before evaluations begin. A new reference to None, or nullptr with an exception set.
PyObject* share_streams(PyObject* fronts, PyObject* streams);

// Flushes and takes away what the evaluation has put in place of the streams, and puts back what it has taken out of the
// module's dict. In its scope, as flushing may print. An exception that is set stays.
void end_streams(Evaluation& evaluation);

// Takes away what code that belongs to no evaluation has put in place of the streams, on this thread.
void end_own_streams();

}  // namespace pythonx
