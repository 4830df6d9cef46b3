// A reference that tells a process when its last copy on this node has been collected.
#pragma once

#include "term.hpp"

namespace pythonx {

// Registers the resource type. Called once, when the library is loaded.
bool open_notifier_type(ErlNifEnv* env);

// A reference; when it has been garbage collected, `message` is sent to `pid`, a local process.
Term make_notifier(ErlNifEnv* env, const ErlNifPid& pid, Term message);

}  // namespace pythonx
