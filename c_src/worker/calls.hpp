// The native functions, and what else a frame may ask for.
#pragma once

#include "connection.hpp"

namespace pythonx::worker {

// On the thread of the reader, which calls native functions one after the other, as they come.
void handle_frame(const Frame& frame);

// What is to be called when the VM wants this to end.
void set_on_halt(void (*callback)(void*));

}  // namespace pythonx::worker
