// What differs between the systems that the bridge runs on.
#pragma once

#ifdef __APPLE__
#include <mach/mach.h>
#else
#include <semaphore.h>
#endif

namespace pythonx {

// Posted by signal handlers, waited for by a thread. Without a destructor, as it outlives the threads. macOS has no unnamed
// semaphores of POSIX: sem_init fails there.
class SignalSemaphore {
 public:
#ifdef __APPLE__
  bool open() { return semaphore_create(mach_task_self(), &semaphore_, SYNC_POLICY_FIFO, 0) == KERN_SUCCESS; }
  void post() { semaphore_signal(semaphore_); }
  void wait() {
    while (semaphore_wait(semaphore_) != KERN_SUCCESS) {
    }
  }

 private:
  semaphore_t semaphore_;
#else
  bool open() { return sem_init(&semaphore_, 0, 0) == 0; }
  void post() { sem_post(&semaphore_); }
  void wait() {
    while (sem_wait(&semaphore_) != 0) {
    }
  }

 private:
  sem_t semaphore_;
#endif
};

}  // namespace pythonx
