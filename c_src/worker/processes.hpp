// What the worker knows of the VM's processes and atoms, and how it asks about them.
//
// Whether there is an atom is asked for too: this process knows those that it has met.
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
// Whether the VM has an atom of this name, which is a binary.
bool is_atom_of_vm(Term name);
bool is_known_dead(Term pid);
bool is_alive(Term pid);
// An answer that has come.
void take_answer(std::uint32_t number, Term answer);

}  // namespace pythonx::worker
