// The connection with the VM: frames, as lib/pythonx/pool/frame.ex has them.
//
//   size (4 bytes, of all that follows), kind (1 byte), number (4 bytes), payload, and from here a mark (8 bytes)
//
// The payload is a term in the external format; that of `reply` and `send` comes after the number of resources that are lent in it
// (4 bytes), that of `failed` is text.
//
// Threads: one, the reader, takes what comes, in order, and calls native functions: to the bridge it is a scheduler of the VM. It
// never waits for an answer of the VM, as it would be the one to take it. Any thread writes: a frame is made in memory of the thread,
// and goes out as a whole under the lock. The reader also tells, a little later, what nobody waits for (monitors, functions that
// are gone): by then most of it has come to nothing. Who has such news while the reader sleeps wakes it.
//
// A VM that is gone ends this process at once, whoever notices. A child of fork() has no connection: it writes nothing, asks
// nothing, and the descriptors are closed in it.
#pragma once

#include <string_view>

#include "external.hpp"
#include "heap.hpp"

namespace pythonx::worker {

enum class To : unsigned char { setup = 1, call, release, down, answer, halt, submit, names };
enum class From : unsigned char { ready = 1, failed, reply, send, monitor, demonitor, ask, spent, dropped };

// The numbers of the version that both sides speak.
constexpr std::int64_t protocol_version = 1;

// A frame that came. Its bytes belong to `owner`, which terms may refer to.
struct Frame {
  To kind;
  std::uint32_t number;
  const unsigned char* payload;
  std::size_t size;
  Bytes* owner;
};

void open_connection();

// Takes frames until there are none any more; then the process ends.
[[noreturn]] void read_frames(void (*handle)(const Frame&));

bool is_reader();
void wake_reader();
bool is_forked();

// Writes a frame with a term. TooLarge when it does not fit in one: then nothing was written.
void write_frame(From kind, std::uint32_t number, Term term);

// Says why, and ends.
[[noreturn]] void fail(std::string_view text);

}  // namespace pythonx::worker
