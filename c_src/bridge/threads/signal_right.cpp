#include "threads/signal_right.hpp"

#include <cstddef>

#ifdef __GLIBC__
#include <dlfcn.h>
#include <link.h>
#endif

namespace pythonx {
namespace {

using Number = volatile unsigned long;

Number* main_thread_number = nullptr;

#if defined(__GLIBC__) && !defined(Py_GIL_DISABLED)

struct Words {
  Number* first = nullptr;
  std::size_t count = 0;
};

Words runtime_words() {
  void* runtime = dlsym(RTLD_DEFAULT, "_PyRuntime");
  Dl_info info;
  void* entry = nullptr;
  if (runtime == nullptr || dladdr1(runtime, &info, &entry, RTLD_DL_SYMENT) == 0 || entry == nullptr)
    return {};
  const auto size = static_cast<const ElfW(Sym)*>(entry)->st_size;
  return {static_cast<Number*>(runtime), static_cast<std::size_t>(size) / sizeof(Number)};
}

// Whether CPython takes this thread for another one while the word is different.
bool is_the_number(Number* word, int (*is_main_thread)()) {
  const unsigned long number = *word;
  *word = ~number;
  const bool other = is_main_thread() == 0;
  *word = number;
  return other && is_main_thread() != 0;
}

Number* find() {
  const auto is_main_thread = reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "_PyOS_IsMainThread"));
  if (is_main_thread == nullptr || is_main_thread() == 0) return nullptr;
  const unsigned long own = PyThread_get_thread_ident();
  const Words words = runtime_words();
  for (Number* word = words.first; word != words.first + words.count; ++word) {
    if (*word == own && is_the_number(word, is_main_thread)) return word;
  }
  return nullptr;
}

#else

Number* find() { return nullptr; }

#endif

}  // namespace

void find_signal_right() { main_thread_number = find(); }

bool can_lend_signal_right() { return main_thread_number != nullptr; }

SignalRight::SignalRight(unsigned long python_id) : owner_(*main_thread_number) {
  *main_thread_number = python_id;
}

SignalRight::~SignalRight() { *main_thread_number = owner_; }

}  // namespace pythonx
