// What differs between the systems that the bridge runs on: Linux with glibc, Linux with musl, and macOS. No other file of the
// bridge asks which of them it is compiled for, and none uses what only one of them has.
//
//                        glibc                 musl                   macOS
//   interrupt's signal   SIGRTMIN + 6          SIGRTMIN + 6           SIGIO: there are no real-time signals
//   name of a thread     of any thread         of any thread          of the calling thread
//   stack of a thread    8 MiB, as ulimit has  128 KiB                512 KiB, CPython asks for 16 MiB
//   unnamed semaphore    sem_init              sem_init               sem_init fails, so one of Mach
//   end of a segment     dl_iterate_phdr       dl_iterate_phdr        getsegmentdata
//   exit status at exit  on_exit               no                     no
//   -z nodelete          of the linker         of the linker          a reference of one's own (dlclose of musl does nothing)
//   siginfo of kill()    sender                sender                 sender, and another number for si_code
#pragma once

#include <pthread.h>
#include <signal.h>

#include <cstddef>
#include <cstdint>

#ifdef __APPLE__
#include <mach/semaphore.h>
#else
#include <semaphore.h>
#endif

namespace pythonx {

// --- Threads -------------------------------------------------------------------------------------------------------

// Of threads that run Python code, and of those that do not. Both are whole pages, also where a page has 64 KiB.
inline constexpr std::size_t python_stack_size = 16 << 20;
inline constexpr std::size_t small_stack_size = 256 << 10;

// A detached thread; nobody waits for its end. False where the system has none left.
bool start_detached(void* (*function)(void*), void* argument, std::size_t stack_size = python_stack_size,
                    pthread_t* thread = nullptr);

// The calling one, as tools of the system show it. 15 characters at most.
void name_thread(const char* name);

// What threads that Python code starts have to be given, as the system would give them too little; 0 where Python's own choice will
// do. Python's limit of recursion assumes some megabytes.
std::size_t stack_size_for_python_code();

// --- Signals -------------------------------------------------------------------------------------------------------

// The one that interrupts a thread that waits. Neither the VM nor Python has a use for it: of those that are not real-time ones,
// the VM takes SIGUSR1 and SIGUSR2, and most others end a process that has no handler. SIGIO is dropped then.
int interrupt_signal();

// Whether this process has sent the signal.
bool is_sent_by_self(const siginfo_t* info);

// Posted by handlers of signals too, so neither allocates nor locks. Never destroyed.
class Semaphore {
 public:
  void init();
  void post();
  void wait();

 private:
#ifdef __APPLE__
  semaphore_t semaphore_ = 0;
#else
  sem_t semaphore_;
#endif
};

// --- What a thread has of its own ---------------------------------------------------------------------------------

// The processors that the calling thread may run on: notes them, and gives them back to another. Nothing on macOS.
void note_processors();
void restore_processors();

// Takes note of the libraries that there are. A hash of what later ones keep in thread-locals of the calling thread; always the
// same on macOS, which does not tell.
void note_libraries();
std::uint64_t hash_library_locals();

// --- Libraries and the end of the process --------------------------------------------------------------------------

// Where the segment ends that a library was loaded into, of which `address` is a part; nullptr if it is of none.
const void* end_of_segment(const void* address);

// Keeps the library that `address` is a part of from being unloaded.
void keep_library(const void* address);

// Ends the process without the destructors of static objects, once exit() was called, where the system tells the status by then.
// What C code has printed is flushed; other streams may be locked for good by who waits on them.
void skip_destructors_at_exit();

}  // namespace pythonx
