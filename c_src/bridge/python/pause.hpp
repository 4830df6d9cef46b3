// What a thread does between two looks at a memory cell that another is about to change.
#pragma once

namespace pythonx {

inline void pause_processor() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace pythonx
