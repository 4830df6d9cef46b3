#include "threads/leavings.hpp"

#include <signal.h>

#include <atomic>
#include <cstddef>
#include <cstring>
#include <utility>

#ifdef __linux__
#include <link.h>
#include <sched.h>
#endif

#include "conversion/object.hpp"

namespace pythonx {
namespace {

thread_local bool sqlite_connected = false;
thread_local bool mask_set = false;

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

sigset_t boot_mask;

#ifdef __linux__

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

#endif

void set_hook_to_none(const char* function, const char* first, const char* second) {
  PyObject* setter = PySys_GetObject(function);  // borrowed
  PyObject* none = PyTuple_New(0);
  PyObject* names = Py_BuildValue("{s:O,s:O}", first, Py_None, second, Py_None);
  if (setter != nullptr && none != nullptr && names != nullptr)
    Py_XDECREF(PyObject_Call(setter, none, names));
  Py_XDECREF(none);
  Py_XDECREF(names);
  PyErr_Clear();
}

// A function of asyncio's C half, nullptr where that is not imported. New reference.
PyObject* loop_function(const char* name) {
  PyObject* module = PyDict_GetItemString(PyImport_GetModuleDict(), "_asyncio");
  PyObject* function = module == nullptr ? nullptr : PyObject_GetAttrString(module, name);
  PyErr_Clear();
  return function;
}

// Up to 3.12 the running loop is among what the thread's dict holds.
bool has_running_loop() {
#if PY_VERSION_HEX >= 0x030D0000
  PyObject* get = loop_function("_get_running_loop");
  PyObject* loop = get == nullptr ? nullptr : PyObject_CallNoArgs(get);
  const bool running = loop != nullptr && loop != Py_None;
  PyErr_Clear();
  Py_XDECREF(loop);
  Py_XDECREF(get);
  return running;
#else
  return false;
#endif
}

int hear(const char* event, PyObject*, void*) {
  if (std::strcmp(event, "sqlite3.connect") == 0) sqlite_connected = true;
  return 0;
}

}  // namespace

void note_thread_as_booted() {
  pthread_sigmask(SIG_SETMASK, nullptr, &boot_mask);
#ifdef __linux__
  sched_getaffinity(0, sizeof(boot_processors), &boot_processors);
  dl_iterate_phdr(find_last_module, &boot_modules);
#endif
  reset_thread();
}

bool is_left_on_thread() {
  const PyThreadState* state = PyThreadState_Get();
#if PY_VERSION_HEX >= 0x030D0000
  if (state->threading_local_key != nullptr) return true;
#endif
  return (state->dict != nullptr && PyDict_GET_SIZE(state->dict) > 0) || state->c_tracefunc != nullptr ||
         state->c_profilefunc != nullptr || state->async_gen_firstiter != nullptr ||
         state->async_gen_finalizer != nullptr || state->coroutine_origin_tracking_depth > 0 ||
         sqlite_connected || mask_set || has_running_loop();
}

std::uint64_t c_state_of_thread() {
#ifdef __linux__
  Modules modules;
  dl_iterate_phdr(count_loaded, &modules);
  if (modules.loaded == loaded_without) return modules.hash.value();
  dl_iterate_phdr(hash_module, &modules);
  if (!modules.any) loaded_without = modules.loaded;
  return modules.hash.value();
#else
  return 0;
#endif
}

// Trace functions first: the rest would be traced.
void reset_thread() {
  PyThreadState* state = PyThreadState_Get();
  if (state->c_tracefunc != nullptr) PyEval_SetTrace(nullptr, nullptr);
  if (state->c_profilefunc != nullptr) PyEval_SetProfile(nullptr, nullptr);
  if (state->async_gen_firstiter != nullptr || state->async_gen_finalizer != nullptr)
    set_hook_to_none("set_asyncgen_hooks", "firstiter", "finalizer");
  state->coroutine_origin_tracking_depth = 0;
  PyObject* set = loop_function("_set_running_loop");
  if (set != nullptr) Py_XDECREF(PyObject_CallOneArg(set, Py_None));
  Py_XDECREF(set);
  PyErr_Clear();
  // What is in there is dropped by a release: finalizers are not to run here.
#if PY_VERSION_HEX >= 0x030D0000
  // With the death of the second the locals forget what they hold for the first.
  Py_CLEAR(state->threading_local_key);
  if (state->threading_local_sentinel != nullptr)
    drop_later(std::exchange(state->threading_local_sentinel, nullptr));
#endif
  if (state->dict != nullptr) drop_later(std::exchange(state->dict, nullptr));
  sqlite_connected = mask_set = false;
}

void note_mask() { mask_set = true; }

void restore_mask_and_processors() {
  pthread_sigmask(SIG_SETMASK, &boot_mask, nullptr);
#ifdef __linux__
  cpu_set_t processors;
  CPU_ZERO(&processors);
  sched_getaffinity(0, sizeof(processors), &processors);
  if (!CPU_EQUAL(&processors, &boot_processors))
    sched_setaffinity(0, sizeof(boot_processors), &boot_processors);
#endif
}

bool watch_sqlite() { return PySys_AddAuditHook(hear, nullptr) == 0; }

}  // namespace pythonx
