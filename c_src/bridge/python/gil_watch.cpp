#include "python/gil_watch.hpp"

#include <dlfcn.h>

#include <cstdint>
#include <cstring>
#include <initializer_list>

namespace pythonx {

GilCounts gil_counts;

#ifdef Py_GIL_DISABLED

void find_gil() {}
void count_in() {}
void count_out() {}
void note_foreign_threads() {}
bool has_foreign_threads() { return false; }
bool is_gil_free() { return true; }

#else

namespace {

#if PY_VERSION_HEX >= 0x030C0000

// Whether somebody holds the GIL, in CPython's own memory. nullptr where it has not been found.
const int* gil_locked = nullptr;

// Without that: whether foreign threads were there when the GIL was held last.
std::atomic<bool> foreign_threads{true};

#endif

#if PY_VERSION_HEX >= 0x030D0000 && PY_VERSION_HEX < 0x03100000

// What CPython says of its structures for debuggers, in 64-bit words (_Py_DebugOffsets): a mark, its version, ..., the size of
// PyInterpreterState and where in it things are. 3.14 has one more of these than 3.13 had. A version that is not known yet does
// without, as 3.12 does, which says nothing.
enum Word : std::size_t {
  mark,
  version,
  size = 6,
  pointer_to_gil = PY_VERSION_HEX >= 0x030E0000 ? 15 : 14,
  gil,
  gil_enabled,
  locked,
  holder
};

// Attached, the only thread. What does not look as it should is not believed.
const int* find_locked() {
  const auto* words = static_cast<const std::uint64_t*>(dlsym(RTLD_DEFAULT, "_PyRuntime"));
  if (words == nullptr || std::memcmp(words, "xdebugpy", 8) != 0 ||
      words[Word::version] >> 16 != PY_VERSION_HEX >> 16)
    return nullptr;
  for (const std::size_t word : {Word::pointer_to_gil, Word::gil, Word::locked, Word::holder}) {
    if (words[word] % sizeof(int) != 0 || words[word] + sizeof(void*) > words[Word::size]) return nullptr;
  }
  const char* interpreter = reinterpret_cast<const char*>(PyInterpreterState_Main());
  const auto pointer_at = [=](Word word) {
    const void* pointer;
    std::memcpy(&pointer, interpreter + words[word], sizeof(pointer));
    return pointer;
  };
  const int* found = reinterpret_cast<const int*>(interpreter + words[Word::locked]);
  if (pointer_at(Word::pointer_to_gil) != interpreter + words[Word::gil] ||
      pointer_at(Word::holder) != PyThreadState_Get() || *found != 1)
    return nullptr;
  PyThreadState* state = PyEval_SaveThread();
  const bool is_it = __atomic_load_n(found, __ATOMIC_RELAXED) == 0;
  PyEval_RestoreThread(state);
  return is_it ? found : nullptr;
}

#endif

}  // namespace

void find_gil() {
#if PY_VERSION_HEX >= 0x030D0000 && PY_VERSION_HEX < 0x03100000
  gil_locked = find_locked();
#endif
}

#if PY_VERSION_HEX >= 0x030D0000 && PY_VERSION_HEX < 0x03100000
// The GIL is found, or not, before there is another thread.
void count_in() {
  if (gil_locked == nullptr) ++gil_counts.in_python;
}
void count_out() {
  if (gil_locked == nullptr) --gil_counts.in_python;
}
#else
void count_in() { ++gil_counts.in_python; }
void count_out() { --gil_counts.in_python; }
#endif

// New ones come first in CPython's list, with a number that no other ever had: if there was none before, and the first is the
// same, there is none now, and nothing to count.
bool has_foreign_threads() {
  static std::atomic<std::uint64_t> first_without{0};
  PyThreadState* first = PyInterpreterState_ThreadHead(PyInterpreterState_Main());
  const std::uint64_t id = PyThreadState_GetID(first);
  if (id == first_without) return false;
  int count = 0;
  for (PyThreadState* state = first; state != nullptr; state = PyThreadState_Next(state)) ++count;
  if (count > gil_counts.own_states) return true;
  first_without = id;
  return false;
}

// For when the last to hold the GIL lets go.
void note_foreign_threads() {
#if PY_VERSION_HEX >= 0x030C0000
  if (gil_locked == nullptr) foreign_threads = has_foreign_threads();
#endif
}

bool is_gil_free() {
#if PY_VERSION_HEX < 0x030C0000
  return _PyThreadState_UncheckedGet() == nullptr;  // of whichever thread is attached
#else
  if (gil_locked != nullptr) return __atomic_load_n(gil_locked, __ATOMIC_RELAXED) == 0;
  return gil_counts.in_python == 0 && !foreign_threads;
#endif
}

#endif

}  // namespace pythonx
