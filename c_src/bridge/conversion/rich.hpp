// Decoding with Python's own types, as an operation.
#pragma once

#include "vm/term.hpp"

namespace pythonx {

// The operation {object, durations?, decimals?, [{object, term}]}: {:ok, {:done, term}}, {:ok, :unchanged}, or
// {:ok, {:more, [{object, function}]}} when Elixir has to decode these objects first.
Term decode_rich(ErlNifEnv* env, Term arguments);

}  // namespace pythonx
