// Arrays of Python as binaries.
//
// Lifetime. A binary that is not a copy refers to the memory of an exporter, through a memoryview: as long as that lives,
// the exporter is locked, and neither frees nor moves its memory. The binary owns the memoryview as every handle owns its
// object (conversion/object.hpp): a destructor on any scheduler pushes it on the pending list, and the buffer is released where the
// reference is dropped, attached.
#pragma once

#include "vm/term.hpp"

namespace pythonx {

// The operation {object, copy?, c_order?}: {:ok, {data, shape, strides, kind, bits, format, readonly?, copied?}}, or
// {:argument_error, text} for what has no memory that Elixir could use.
Term buffer(ErlNifEnv* env, Term arguments);

}  // namespace pythonx
