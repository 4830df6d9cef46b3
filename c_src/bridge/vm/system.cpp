#include "vm/system.hpp"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>

#ifdef __APPLE__
#include <mach-o/getsect.h>
#include <mach/mach.h>
#else
#include <link.h>
#endif

namespace pythonx {

bool start_detached(void* (*function)(void*), void* argument, std::size_t stack_size, pthread_t* thread) {
  pthread_t unused;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, stack_size);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  const int failure = pthread_create(thread == nullptr ? &unused : thread, &attributes, function, argument);
  pthread_attr_destroy(&attributes);
  return failure == 0;
}

int interrupt_signal() {
#ifdef SIGRTMIN
  return SIGRTMIN + 6;
#else
  return SIGIO;
#endif
}

bool is_sent_by_self(const siginfo_t* info) {
  const bool is_sent = info->si_code == SI_USER || info->si_code == SI_QUEUE
#ifdef SI_TKILL
                       || info->si_code == SI_TKILL
#endif
#ifdef __APPLE__
                       || info->si_code == 0
#endif
      ;
  return is_sent && info->si_pid == getpid();
}

#ifdef __APPLE__

void name_thread(const char* name) { pthread_setname_np(name); }

std::size_t stack_size_for_python_code() { return 0; }

void Semaphore::init() { semaphore_create(mach_task_self(), &semaphore_, SYNC_POLICY_FIFO, 0); }

void Semaphore::post() { semaphore_signal(semaphore_); }

void Semaphore::wait() {
  while (semaphore_wait(semaphore_) == KERN_ABORTED) {
  }
}

const void* end_of_segment(const void* address) {
  Dl_info info;
  if (dladdr(address, &info) == 0) return nullptr;
  const auto* header = static_cast<const mach_header_64*>(info.dli_fbase);
  for (const char* name : {"__DATA", "__DATA_DIRTY"}) {
    unsigned long size = 0;
    const std::uint8_t* begin = getsegmentdata(header, name, &size);
    if (begin != nullptr && address >= begin && address < begin + size) return begin + size;
  }
  return nullptr;
}

// A reference of its own keeps the library open. ELF has a flag for that, see the Makefile.
void keep_library(const void* address) {
  Dl_info info;
  if (dladdr(address, &info) != 0) dlopen(info.dli_fname, RTLD_NOW | RTLD_NODELETE);
}

#else

void name_thread(const char* name) { pthread_setname_np(pthread_self(), name); }

// musl gives 128 KiB, unless the program asks for more in its own file.
std::size_t stack_size_for_python_code() {
  constexpr std::size_t enough = 1 << 20;
  constexpr std::size_t usual = 8 << 20;
  std::size_t size = usual;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_getstacksize(&attributes, &size);
  pthread_attr_destroy(&attributes);
  return size < enough ? usual : 0;
}

void Semaphore::init() { sem_init(&semaphore_, 0, 0); }

void Semaphore::post() { sem_post(&semaphore_); }

void Semaphore::wait() {
  while (sem_wait(&semaphore_) != 0) {
  }
}

namespace {

struct Segment {
  std::uintptr_t address;
  std::uintptr_t end;
};

int find_segment(dl_phdr_info* library, std::size_t, void* result) {
  auto* wanted = static_cast<Segment*>(result);
  for (int i = 0; i < library->dlpi_phnum; ++i) {
    const ElfW(Phdr) & header = library->dlpi_phdr[i];
    const std::uintptr_t begin = library->dlpi_addr + header.p_vaddr;
    if (header.p_type != PT_LOAD || wanted->address < begin || wanted->address >= begin + header.p_memsz)
      continue;
    wanted->end = begin + header.p_memsz;
    return 1;
  }
  return 0;
}

}  // namespace

const void* end_of_segment(const void* address) {
  Segment segment{reinterpret_cast<std::uintptr_t>(address), 0};
  dl_iterate_phdr(find_segment, &segment);
  return reinterpret_cast<const void*>(segment.end);  // NOLINT(performance-no-int-to-ptr)
}

void keep_library(const void*) {}

#endif

void skip_destructors_at_exit() {
#ifdef __GLIBC__
  // The last to be registered is the first to be called.
  on_exit(
      [](int status, void*) {
        std::fflush(stdout);
        _exit(status);
      },
      nullptr);
#endif
}

}  // namespace pythonx
