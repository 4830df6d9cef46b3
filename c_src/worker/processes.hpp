// What the worker knows of the processes of the VM, and how it asks about them.
//
// A name is looked up among those that the VM has told (`names`); any other is asked for, and the thread waits. The reader does not:
// it would wait for itself. So to the reader an unknown name is nobody's.
//
// Whether a process is alive is asked for with locks of the bridge held, so nobody waits for the answer: a process is alive until the
// VM has said otherwise, for which it is asked in the background. The ended ones that are remembered are the latest.
#pragma once

#include "heap.hpp"

namespace pythonx::worker {

void set_names(Term map);
// 0 for nobody.
Term whereis(Term name);
bool is_known_dead(Term pid);
bool is_alive(Term pid);
// An answer that has come.
void take_answer(std::uint32_t number, Term answer);

}  // namespace pythonx::worker
