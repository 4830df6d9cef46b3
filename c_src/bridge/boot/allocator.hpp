// The memory allocator, the biggest lever on the speed of conversions: a third of the time of encoding a million
// integers went to the page faults of arenas that obmalloc gave back to the system after each free.
#pragma once

namespace pythonx {

// The allocator for PyPreConfig: mimalloc on 3.13 and later, unless PYTHONMALLOC says otherwise. 0: the default.
int preferred_allocator();

// Before 3.13: keeps freed arenas for the next allocation. Called before Python starts.
void cache_arenas();

}  // namespace pythonx
