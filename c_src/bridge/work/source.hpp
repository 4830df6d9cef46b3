// The text that code was compiled from, kept by the code objects themselves: with each of them, those of functions and
// classes included, goes a reference to it. So it lives as long as anything that was compiled from it, is found from that
// alone, and can be mistaken for nobody else's. (All evaluations have the file name `<string>`, by which none is found.)
//
// A source is the tuple (text, line): the first line of the text is that line of the code's file.
#pragma once

#include <Python.h>

namespace pythonx {

// Called once at boot, attached. False with an exception set.
bool init_sources();

// Ties `source` to a code object and to those nested in it, which nobody else has seen yet. What cannot be tied, for want
// of memory, has no source.
void tie_source(PyObject* code, PyObject* source);

// The source of a code object, borrowed from it; nullptr for code that is not an evaluation's, and for what is no code.
PyObject* source_of(PyObject* code);

}  // namespace pythonx
