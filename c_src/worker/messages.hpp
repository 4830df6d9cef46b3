// What goes to processes of the VM.
#pragma once

#include "heap.hpp"

namespace pythonx::worker {

// A message. Of a reply that is too large for a frame the process gets {reference, {:raise, error}} instead.
void send_message(Term pid, Term message);
// The answer to a call: {:ok, term}, or {:raise, :error, term}.
void send_result(std::uint32_t call, bool raised, Term term);

// How much memory the data of this process takes, in bytes; 0 where that cannot be told.
std::size_t memory_in_use();
// What may be used on top of what is. The VM is told once more than half of that is gone after a job. False where there is no limit to be
// set.
bool limit_memory(std::size_t bytes);

}  // namespace pythonx::worker
