// What terms refer to outside of their environment: bytes, and resources. Counted references, from any thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace pythonx::worker {

struct Counted {
  std::atomic<std::uint64_t> references{1};
  void (*destroy)(Counted*) = nullptr;
  // Of bytes: how many there are. A term that refers to a small part of many is copied rather than kept. 0 for what is no bytes.
  std::size_t extent = 0;
};

inline void keep(Counted* object) { object->references.fetch_add(1, std::memory_order_relaxed); }

inline void release(Counted* object) {
  if (object->references.fetch_sub(1, std::memory_order_acq_rel) == 1) object->destroy(object);
}

// A reference to what may be going away; false when it is.
inline bool keep_if_alive(Counted* object) {
  std::uint64_t count = object->references.load(std::memory_order_relaxed);
  while (count != 0)
    if (object->references.compare_exchange_weak(count, count + 1, std::memory_order_acq_rel)) return true;
  return false;
}

// Bytes: of a binary, or of frames that came.
struct Bytes : Counted {
  unsigned char* data = nullptr;
};

// Throws std::bad_alloc.
Bytes* make_bytes(std::size_t size);

}  // namespace pythonx::worker
