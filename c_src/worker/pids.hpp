// Pids as words: a process of the VM is one word, whatever environment it is in, and two words are the same process only if they
// are the same word. ErlNifPid has no room for more.
//
//   number of the node (3 bits), serial (30 bits), id (28 bits), tag
//
// Pids that do not fit (of an eighth node, with a long number) have a place in a table, whose number is in the word: node 7. It is
// never emptied, and so bounded.
#pragma once

#include "heap.hpp"

namespace pythonx::worker {

struct Pid {
  Term node;
  std::uint32_t creation;
  std::uint32_t id;
  std::uint32_t serial;
};

// 0 when there is no room for it.
Term pid_term(const Pid& pid);
Pid pid_of(Term term);

// Of which node pids are local: that of this one. Set once, before there is any.
void set_home(Term pid);
bool is_local_pid(Term pid);

}  // namespace pythonx::worker
