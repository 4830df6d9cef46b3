// The worker's descendants, and the VM that wants the worker: what systems tell of both, each in its own way. Of the
// other files of the launcher only sandbox.h asks for which system it is compiled.
//
//   Linux   The launcher is the reaper of orphans below it, so that what leaves the worker's group comes here when its parents
//           die, and no zombie stays where process 1 reaps none. The kernel kills the worker when the launcher dies.
//   macOS   Orphans go to process 1. A kqueue tells of each fork of the worker and of what it has forked; then its children are
//           looked up, and watched as well. What is forked and orphaned before it has been looked up is not found. Nobody kills
//           a worker whose launcher was killed; it ends when it finds its connection closed.
//   others  Only the worker's process group is ended.
#pragma once

#include <poll.h>
#include <stdbool.h>
#include <sys/types.h>

// In the launcher, before the worker is forked; `vm` is the descriptor whose other end the VM has. False where that cannot be
// watched.
bool family_begin(int vm);

// In the worker, after the fork.
void family_enter(void);

// In the launcher, after the fork.
void family_watch(pid_t worker);

// What to wait for: whether the VM is gone, and whatever else has to be seen to. Never the data of `vm`, which are the worker's.
struct pollfd family_poll(int vm);

// When that wait has ended: whether the VM is gone.
bool family_deserted(void);

// Kills the descendants that have left the worker's group, as far as they can be seen now. Whether there was any: then there may be
// more.
bool family_kill(void);
