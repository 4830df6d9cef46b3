// DLPack: how array libraries hand each other memory, in capsules with a C struct.
#pragma once

#include <Python.h>

namespace pythonx {

// What a capsule holds: (address, code, bits, lanes, shape, strides in bytes, readonly, device type). The capsule stays
// its producer's: whoever keeps it keeps the memory, and its destructor gives the memory back. nullptr with an exception
// set.
PyObject* read_dlpack(PyObject* capsule);

}  // namespace pythonx
