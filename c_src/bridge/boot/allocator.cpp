#include "boot/allocator.hpp"

#include <Python.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdlib>

#include "python/pause.hpp"

namespace pythonx {
namespace {

// Interpreters that have a GIL of their own share these, so a GIL is not enough; what is locked takes some nanoseconds, once
// for each megabyte.
class ArenaLock {
 public:
  ArenaLock() {
    while (flag_.test_and_set(std::memory_order_acquire)) pause_processor();
  }
  ~ArenaLock() { flag_.clear(std::memory_order_release); }
  ArenaLock(const ArenaLock&) = delete;
  ArenaLock& operator=(const ArenaLock&) = delete;

 private:
  static std::atomic_flag flag_;
};
std::atomic_flag ArenaLock::flag_ = ATOMIC_FLAG_INIT;

constexpr int arena_limit = 128;
void* arenas[arena_limit];
int arena_count = 0;
std::size_t arena_size = 0;
PyObjectArenaAllocator system_allocator;

void* allocate(void*, std::size_t size) {
  {
    const ArenaLock lock;
    if (arena_count > 0 && size == arena_size) return arenas[--arena_count];
  }
  return system_allocator.alloc(system_allocator.ctx, size);
}

// False when there are enough.
bool keep(void* arena, std::size_t size) {
  const ArenaLock lock;
  if (arena_size == 0) arena_size = size;
  if (arena_count == arena_limit || size != arena_size) return false;
  arenas[arena_count++] = arena;
  return true;
}

void release(void*, void* arena, std::size_t size) {
  if (!keep(arena, size)) system_allocator.free(system_allocator.ctx, arena, size);
}

}  // namespace

int preferred_allocator() {
#if PY_VERSION_HEX >= 0x030D0000
  const char* chosen = std::getenv("PYTHONMALLOC");
  if (chosen == nullptr || *chosen == '\0') return PYMEM_ALLOCATOR_MIMALLOC;
#endif
  return PYMEM_ALLOCATOR_NOT_SET;
}

void cache_arenas() {
#if PY_VERSION_HEX < 0x030D0000
  PyObject_GetArenaAllocator(&system_allocator);
  PyObjectArenaAllocator caching = {nullptr, allocate, release};
  PyObject_SetArenaAllocator(&caching);
#else
  (void)allocate;
  (void)release;
#endif
}

}  // namespace pythonx
