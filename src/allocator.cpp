#include "allocator.hpp"

#include <Python.h>
#include <sys/mman.h>

#include <cstdlib>

namespace pythonx {
namespace {

// Arenas are asked for and given back under the GIL (mimalloc serves free-threaded builds), so no lock is needed.
constexpr int arena_limit = 128;
void* arenas[arena_limit];
int arena_count = 0;
std::size_t arena_size = 0;
PyObjectArenaAllocator system_allocator;

void* allocate(void*, std::size_t size) {
  if (arena_count > 0 && size == arena_size) return arenas[--arena_count];
  return system_allocator.alloc(system_allocator.ctx, size);
}

void release(void*, void* arena, std::size_t size) {
  if (arena_size == 0) arena_size = size;
  if (arena_count < arena_limit && size == arena_size) {
    arenas[arena_count++] = arena;
  } else {
    system_allocator.free(system_allocator.ctx, arena, size);
  }
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
