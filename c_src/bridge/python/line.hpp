// The line before the GIL: see python/gil.hpp.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>

namespace pythonx {

// The line before the GIL. Who waits for the GIL itself wakes up every 5 ms to ask for it, so a thousand threads would take more
// than a core for nothing. Those at the head of the line do; the others sleep until one of these has got it.
class Line {
 public:
  void enter() {
    if (places_.fetch_sub(1) > 0) return;
    std::unique_lock<std::mutex> lock(mutex_);
    called_.wait(lock, [this] { return calls_ > 0; });
    --calls_;
  }

  void leave() {
    if (places_.fetch_add(1) >= 0) return;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      ++calls_;
    }
    called_.notify_one();
  }

  bool is_empty() const { return places_.load(std::memory_order_relaxed) == head; }

 private:
  static constexpr int head = 8;

  std::atomic<int> places_{head};  // that are free; negative: as many sleep
  std::mutex mutex_;               // a leaf
  std::condition_variable called_;
  int calls_ = 0;
};

}  // namespace pythonx
