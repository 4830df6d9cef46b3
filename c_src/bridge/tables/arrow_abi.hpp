// The structures of the Arrow C data interface and C stream interface, as their public specification has them
// (https://arrow.apache.org/docs/format/CDataInterface.html, CStreamInterface.html). They are an ABI: whoever speaks it
// declares them for himself, and no library of Arrow is needed.
//
// The rules of the specification that this bridge relies on:
//   * A structure whose `release` is null is empty: released, moved away, or the end of a stream.
//   * To move one is to copy its bytes and to set `release` of the source to null. Children may be moved out of their
//     parent; the parent is then released without them.
//   * `release` frees what the structure points to, its children and its dictionary, never the structure itself.
//   * What is released may be released by any thread.
#pragma once

#include <cstdint>

extern "C" {

struct ArrowSchema {
  const char* format;
  const char* name;
  const char* metadata;
  std::int64_t flags;
  std::int64_t n_children;
  ArrowSchema** children;
  ArrowSchema* dictionary;
  void (*release)(ArrowSchema*);
  void* private_data;
};

struct ArrowArray {
  std::int64_t length;
  std::int64_t null_count;
  std::int64_t offset;
  std::int64_t n_buffers;
  std::int64_t n_children;
  const void** buffers;
  ArrowArray** children;
  ArrowArray* dictionary;
  void (*release)(ArrowArray*);
  void* private_data;
};

struct ArrowArrayStream {
  int (*get_schema)(ArrowArrayStream*, ArrowSchema* out);
  int (*get_next)(ArrowArrayStream*, ArrowArray* out);
  const char* (*get_last_error)(ArrowArrayStream*);
  void (*release)(ArrowArrayStream*);
  void* private_data;
};
}

namespace pythonx {

constexpr std::int64_t arrow_flag_nullable = 2;

// The names of the capsules in which Python objects hand these structures over
// (https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html).
constexpr char schema_capsule[] = "arrow_schema";
constexpr char array_capsule[] = "arrow_array";
constexpr char stream_capsule[] = "arrow_array_stream";

}  // namespace pythonx
