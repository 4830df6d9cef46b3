// erl_nif.h, whose functions this program defines for the bridge: they are what it exports, and all that it exports.
#pragma once

#pragma GCC visibility push(default)
#include <erl_nif.h>
#pragma GCC visibility pop

namespace pythonx::worker {

using Term = ERL_NIF_TERM;

}  // namespace pythonx::worker
