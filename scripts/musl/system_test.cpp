// What c_src/bridge/vm/system.hpp promises, tried on musl. Prints each promise that is broken, and returns how many are.
#include "vm/system.hpp"

#include <sched.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

using namespace pythonx;

namespace {

int broken = 0;

void check(bool kept, const char* promise) {
  if (kept) return;
  ++broken;
  std::fprintf(stderr, "broken: %s\n", promise);
}

Semaphore semaphore;
Semaphore ended;
volatile bool sent_by_self = false;
char thread_name[32];

void on_signal(int, siginfo_t* info, void*) {
  sent_by_self = is_sent_by_self(info);
  semaphore.post();
}

// As deep as Python code may get.
__attribute__((noinline)) int descend(int depth) {
  volatile char frame[1024];
  frame[0] = static_cast<char>(depth);
  return depth == 0 ? frame[0] : descend(depth - 1) + frame[0];
}

void* run(void* depth) {
  name_thread("python_worker");
  pthread_getname_np(pthread_self(), thread_name, sizeof(thread_name));
  descend(static_cast<int>(reinterpret_cast<std::intptr_t>(depth)));
  semaphore.wait();
  ended.post();
  return nullptr;
}

int data = 1;

}  // namespace

int main() {
  semaphore.init();
  ended.init();

  struct sigaction action{};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO;
  check(interrupt_signal() < NSIG, "the interrupt's signal has an entry in tables of NSIG");
  check(sigaction(interrupt_signal(), &action, nullptr) == 0, "the interrupt's signal can be had");

  pthread_t thread;
  constexpr std::intptr_t depth = 12 << 10;  // times a bit more than 1 KiB, of 16 MiB
  check(start_detached(run, reinterpret_cast<void*>(depth), python_stack_size, &thread), "a thread starts");
  pthread_kill(thread, interrupt_signal());
  ended.wait();
  check(sent_by_self, "a signal of this process is known as such");
  check(std::strcmp(thread_name, "python_worker") == 0, "a thread has its name");

  std::size_t size = 0;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_getstacksize(&attributes, &size);
  std::printf("stack of a thread: %zu bytes, Python code gets %zu\n", size, stack_size_for_python_code());
  check(size >= (1 << 20) || stack_size_for_python_code() == (8 << 20), "threads of Python code get 8 MiB");

  const void* end = end_of_segment(&data);
  check(end > &data, "the end of a segment is found");
  void* heap = std::malloc(1);
  check(end_of_segment(heap) == nullptr, "what is of no library has no segment");
  std::free(heap);
  keep_library(&data);
  skip_destructors_at_exit();
  return broken;
}
