#include "threads/signal_right.hpp"

#include <dlfcn.h>

#include "vm/system.hpp"

namespace pythonx {
namespace {

using Number = volatile unsigned long;

Number* main_thread_number = nullptr;

#ifndef Py_GIL_DISABLED

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
  auto* word = static_cast<Number*>(dlsym(RTLD_DEFAULT, "_PyRuntime"));
  if (word == nullptr) return nullptr;
  const void* end = end_of_segment(const_cast<unsigned long*>(word));
  for (; static_cast<const volatile void*>(word + 1) <= end; ++word) {
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
