#include "connection.hpp"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <mutex>

#include "functions.hpp"

namespace pythonx::worker {
namespace {

using Clock = std::chrono::steady_clock;

// As the launcher has them (c_src/launcher/launcher.c).
constexpr int in = 3;
constexpr int out = 4;

constexpr unsigned char mark[8] = {0xB7, 0x1E, 0x5C, 0xF0, 0x93, 0x2A, 0xD8, 0x46};
constexpr std::size_t head_size = 5;
constexpr std::size_t size_size = 4;
constexpr std::size_t largest = 0xFFFFFFFE;

constexpr std::size_t buffer_size = 65536;

// How long news may wait.
constexpr auto patience = std::chrono::milliseconds(2);

constexpr std::size_t most_parts = 1024;  // of one writev, on every system

std::mutex write_mutex;
std::atomic<bool> forked{false};
std::atomic<bool> woken{false};
int wake_pipe[2] = {-1, -1};
thread_local bool reader = false;

// Whatever is in the way, the launcher sees how this ends.
[[noreturn]] void end() { _exit(0); }

void write_parts(std::vector<iovec> parts) {
  for (std::size_t i = 0; i < parts.size();) {
    const auto count = static_cast<int>(std::min(parts.size() - i, most_parts));
    const ssize_t written = writev(out, &parts[i], count);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) end();
    for (auto left = static_cast<std::size_t>(written); i < parts.size();) {
      const std::size_t taken = std::min(left, parts[i].iov_len);
      parts[i].iov_base = static_cast<char*>(parts[i].iov_base) + taken;
      parts[i].iov_len -= taken;
      left -= taken;
      if (parts[i].iov_len > 0) break;
      ++i;
    }
  }
}

void write_plain(const unsigned char* bytes, std::size_t size) {
  while (size > 0) {
    const ssize_t written = write(out, bytes, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) end();
    bytes += written;
    size -= static_cast<std::size_t>(written);
  }
}

// The frame is whole but for its size.
void send_output(Output* output) {
  output->put(mark, sizeof(mark));
  const std::size_t size = output->total() - size_size;
  if (size > largest) throw TooLarge();
  output->overwrite_32(0, static_cast<std::uint32_t>(size));
  // Before the VM can have it, so that it cannot give back what it was not yet lent.
  lend(output->resources());
  const std::lock_guard<std::mutex> lock(write_mutex);
  if (output->is_plain()) {
    write_plain(output->data(), output->total());
  } else {
    write_parts(output->parts());
  }
}

Output& output_of_thread() {
  static thread_local Output output;
  output.clear();
  return output;
}

void begin_frame(Output* output, From kind, std::uint32_t number) {
  output->put_32(0);
  output->put_byte(static_cast<unsigned char>(kind));
  output->put_32(number);
}

// Python code has closed the descriptor. What comes next lies unread, for another worker; what runs is answered.
[[noreturn]] void end_after_jobs() {
  constexpr int interval_ms = 1;
  while (has_jobs()) poll(nullptr, 0, interval_ms);
  end();
}

// --- News ----------------------------------------------------------------------------------------------------------------

void tell_news() {
  const MonitorNews news = take_monitor_news();
  for (const auto& [number, pid] : news.begun) {
    const Term box[] = {header(Kind::tuple, 2), small_term(static_cast<std::int64_t>(number)), pid};
    write_frame(From::monitor, 0, box_term(box));
  }
  for (const std::uint64_t number : news.ended)
    write_frame(From::demonitor, 0, small_term(static_cast<std::int64_t>(number)));
  if (!has_dropped_functions()) return;
  Env env;
  Term list = empty_list;
  for (const std::uint64_t number : take_dropped_functions())
    list = cons(&env, make_uint64(&env, number), list);
  write_frame(From::dropped, 0, list);
}

// --- Reading -------------------------------------------------------------------------------------------------------------

class Reader {
 public:
  explicit Reader(void (*handle)(const Frame&)) : handle_(handle), buffer_(make_bytes(buffer_size)) {}

  [[noreturn]] void run() {
    for (;;) {
      if (take_frame()) continue;
      make_room();
      wait();
      read_some();
    }
  }

 private:
  std::size_t filled() const { return end_ - begin_; }

  std::size_t announced() const {
    const unsigned char* bytes = buffer_->data + begin_;
    return std::size_t{bytes[0]} << 24 | std::size_t{bytes[1]} << 16 | std::size_t{bytes[2]} << 8 | bytes[3];
  }

  // False when there is no whole one.
  bool take_frame() {
    if (filled() < size_size) return false;
    const std::size_t size = announced();
    if (size < head_size || size > largest) fail("a frame of no size came");
    if (filled() - size_size < size) return false;
    const unsigned char* bytes = buffer_->data + begin_ + size_size;
    const std::uint32_t number = std::uint32_t{bytes[1]} << 24 | std::uint32_t{bytes[2]} << 16 |
                                 std::uint32_t{bytes[3]} << 8 | bytes[4];
    begin_ += size_size + size;
    handle_({static_cast<To>(bytes[0]), number, bytes + head_size, size - head_size, buffer_});
    return true;
  }

  // For all of the frame that has begun. What terms still refer to is left to them.
  void make_room() {
    const std::size_t needed = filled() < size_size ? size_size : size_size + announced();
    const bool usual = buffer_->extent == buffer_size;
    const bool alone = buffer_->references.load(std::memory_order_acquire) == 1;
    if (filled() == 0 && usual && alone) begin_ = end_ = 0;
    const bool used_up = filled() == 0 && !usual;
    if (!used_up && buffer_->extent - begin_ >= needed && end_ < buffer_->extent) return;
    Bytes* other = make_bytes(std::max(needed, buffer_size));
    std::memcpy(other->data, buffer_->data + begin_, filled());
    release(buffer_);
    buffer_ = other;
    end_ -= begin_;
    begin_ = 0;
  }

  // Until there is something to read, and tells the news when they have waited for long enough.
  void wait() {
    for (;;) {
      int timeout = -1;
      if (const auto since = news_since(); since != never) {
        const auto age = Clock::now() - since;
        if (age >= patience) {
          tell_news();
          continue;
        }
        timeout = static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(patience - age).count());
      }
      pollfd fds[] = {{in, POLLIN, 0}, {wake_pipe[0], POLLIN, 0}};
      const int ready = poll(fds, 2, timeout);
      if (ready < 0 && errno != EINTR) end();
      if (ready <= 0) continue;
      if (fds[1].revents != 0) take_wake();
      if ((fds[0].revents & POLLNVAL) != 0) end_after_jobs();
      if (fds[0].revents != 0) return;
    }
  }

  // Functions that are gone have waited since somebody looked first.
  Clock::time_point news_since() {
    const auto since = monitor_news_since();
    if (!has_dropped_functions()) {
      dropped_since_ = never;
      return since;
    }
    if (dropped_since_ == never) dropped_since_ = Clock::now();
    return std::min(since, dropped_since_);
  }

  static void take_wake() {
    char bytes[64];
    // Reads what the last producer has written too, so its news is seen by the look that follows: a store could be overtaken by it.
    woken.exchange(false, std::memory_order_acq_rel);
    while (read(wake_pipe[0], bytes, sizeof(bytes)) > 0) {
    }
  }

  // No more than there is room for; of a frame beyond the usual, no more than that frame.
  void read_some() {
    const ssize_t count = read(in, buffer_->data + end_, buffer_->extent - end_);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (count < 0 && errno == EBADF) end_after_jobs();
    if (count <= 0) end();
    end_ += static_cast<std::size_t>(count);
  }

  void (*handle_)(const Frame&);
  Bytes* buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  Clock::time_point dropped_since_ = never;
};

void before_fork() { write_mutex.lock(); }
void after_fork_in_parent() { write_mutex.unlock(); }

void after_fork_in_child() {
  forked.store(true, std::memory_order_relaxed);
  write_mutex.unlock();
  for (const int fd : {in, out, wake_pipe[0], wake_pipe[1]}) close(fd);
}

}  // namespace

void open_connection() {
  // As in the VM: who writes to what nobody reads gets an error.
  signal(SIGPIPE, SIG_IGN);
  for (const int fd : {in, out}) fcntl(fd, F_SETFD, FD_CLOEXEC);
  if (pipe(wake_pipe) != 0) fail("there are no descriptors left");
  for (const int fd : wake_pipe) {
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    fcntl(fd, F_SETFL, O_NONBLOCK);
  }
  pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

void read_frames(void (*handle)(const Frame&)) {
  reader = true;
  Reader(handle).run();
}

bool is_reader() { return reader; }
bool is_forked() { return forked.load(std::memory_order_relaxed); }

void wake_reader() {
  if (reader || is_forked() || woken.exchange(true, std::memory_order_acq_rel)) return;
  const char byte = 0;
  while (write(wake_pipe[1], &byte, 1) < 0 && errno == EINTR) {
  }
}

void write_frame(From kind, std::uint32_t number, Term term) {
  if (is_forked()) return;
  Output& output = output_of_thread();
  begin_frame(&output, kind, number);
  const bool counts = kind == From::reply || kind == From::send;
  const std::size_t place = output.place();
  if (counts) output.put_32(0);
  encode_term(term, largest - sizeof(mark), &output);
  if (counts) output.overwrite_32(place, static_cast<std::uint32_t>(output.resources().size()));
  send_output(&output);
  output.clear();
}

void fail(std::string_view text) {
  if (!is_forked()) {
    Output& output = output_of_thread();
    begin_frame(&output, From::failed, 0);
    output.put(text.data(), text.size());
    send_output(&output);
  }
  _exit(1);
}

}  // namespace pythonx::worker
