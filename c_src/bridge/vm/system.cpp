#include "vm/system.hpp"

#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

#ifdef __APPLE__
#include <mach-o/getsect.h>
#include <mach/mach.h>
#else
#include <link.h>
#include <sched.h>
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

#ifdef __linux__

namespace {

// FNV-1a, by words where there are any.
class Hash {
 public:
  void add(const void* memory, std::size_t size) {
    const auto* bytes = static_cast<const unsigned char*>(memory);
    for (; size >= sizeof(std::uint64_t); size -= sizeof(std::uint64_t), bytes += sizeof(std::uint64_t)) {
      std::uint64_t word;
      std::memcpy(&word, bytes, sizeof(word));
      mix(word);
    }
    for (; size > 0; --size) mix(*bytes++);
  }
  std::uint64_t value() const { return value_; }

 private:
  void mix(std::uint64_t word) { value_ = (value_ ^ word) * 1099511628211U; }

  std::uint64_t value_ = 14695981039346656037U;
};

cpu_set_t boot_processors;
std::size_t boot_modules =
    0;  // modules with thread-locals are numbered in the order in which they are loaded

// A larger one is compared by its beginning.
constexpr std::size_t hashed_size = 64 << 10;

bool has_thread_locals(const dl_phdr_info* info, std::size_t size) {
  return size >= offsetof(dl_phdr_info, dlpi_tls_data) + sizeof(info->dlpi_tls_data) &&
         info->dlpi_tls_modid != 0;
}

int find_last_module(dl_phdr_info* info, std::size_t size, void* last) {
  auto* number = static_cast<std::size_t*>(last);
  if (has_thread_locals(info, size) && info->dlpi_tls_modid > *number) *number = info->dlpi_tls_modid;
  return 0;
}

// How many libraries had been loaded when there was none among them, since the boot, that has thread-locals. The list of
// libraries is looked at under a lock of the system's, and is long.
std::atomic<unsigned long long> loaded_without{0};

struct Modules {
  Hash hash;
  unsigned long long loaded = 0;
  bool any = false;
};

// Only the first is looked at: each tells of all.
int count_loaded(dl_phdr_info* info, std::size_t, void* modules) {
  static_cast<Modules*>(modules)->loaded = info->dlpi_adds;
  return 1;
}

// Memory that the thread has not been given yet, as most libraries get theirs with the first use, is as good as unchanged.
int hash_module(dl_phdr_info* info, std::size_t size, void* memory) {
  auto* modules = static_cast<Modules*>(memory);
  modules->loaded = info->dlpi_adds;
  if (!has_thread_locals(info, size) || info->dlpi_tls_modid <= boot_modules) return 0;
  modules->any = true;
  if (info->dlpi_tls_data == nullptr) return 0;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    if (info->dlpi_phdr[i].p_type != PT_TLS) continue;
    const std::size_t length = info->dlpi_phdr[i].p_memsz;
    modules->hash.add(info->dlpi_tls_data, length < hashed_size ? length : hashed_size);
  }
  return 0;
}

}  // namespace

void note_processors() { sched_getaffinity(0, sizeof(boot_processors), &boot_processors); }

void restore_processors() {
  cpu_set_t processors;
  if (sched_getaffinity(0, sizeof(processors), &processors) == 0 && !CPU_EQUAL(&processors, &boot_processors))
    sched_setaffinity(0, sizeof(boot_processors), &boot_processors);
}

void note_libraries() { dl_iterate_phdr(find_last_module, &boot_modules); }

std::uint64_t hash_library_locals() {
  Modules modules;
  dl_iterate_phdr(count_loaded, &modules);
  if (modules.loaded == loaded_without) return modules.hash.value();
  dl_iterate_phdr(hash_module, &modules);
  if (!modules.any) loaded_without = modules.loaded;
  return modules.hash.value();
}

#else

void note_processors() {}
void restore_processors() {}
void note_libraries() {}
std::uint64_t hash_library_locals() { return 0; }

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
