#include "conversion/object.hpp"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <new>
#include <string>
#include <string_view>

#include "python/gil.hpp"
#include "python/portions.hpp"
#include "vm/resource.hpp"

namespace pythonx {
namespace {

// A node is allocated when its resource is made, so that the destructor allocates nothing.
struct Node {
  Node* next;
  PyObject* object;
};

std::atomic<Node*> pending{nullptr};
std::atomic<std::size_t> live{0};
std::atomic<bool> in_worker{false};

// Leaked: a static condition variable with a destructor hangs the VM at exit while the reaper waits on it.
struct Wake {
  std::mutex mutex;
  std::condition_variable condition;
  Node* left = nullptr;  // what was pending and is the reaper's now
};
Wake& wake() {
  static Wake* instance = new Wake;
  return *instance;
}

// Only the first push onto an empty list wakes the reaper: one wake for each batch, not for each object.
void push(Node* node) {
  Node* head = pending.load(std::memory_order_relaxed);
  do {
    node->next = head;
  } while (!pending.compare_exchange_weak(head, node, std::memory_order_release, std::memory_order_relaxed));
  if (head != nullptr) return;
  {
    std::lock_guard<std::mutex> lock(wake().mutex);
  }
  wake().condition.notify_one();
}

struct Handle {
  Node* node;

  void collected(ErlNifEnv*) { push(node); }
};

ResourceType<Handle> object_type;
ResourceType<Handle> memory_type;

// Takes the reference.
Handle* new_handle(const ResourceType<Handle>& type, PyObject* object) {
  Handle* handle = type.make(new Node{nullptr, object});
  live.fetch_add(1, std::memory_order_relaxed);
  return handle;
}

void free_nodes(Node* node) {
  while (node != nullptr) {
    Node* next = node->next;
    delete node;
    node = next;
  }
}

// Appends a list of nodes to those that wait for the reaper, and wakes it.
void leave_to_reaper(Node* first) {
  if (first == nullptr) return;
  Node* last = first;
  while (last->next != nullptr) last = last->next;
  {
    std::lock_guard<std::mutex> lock(wake().mutex);
    last->next = wake().left;
    wake().left = first;
  }
  wake().condition.notify_one();
}

}  // namespace

bool open_object_types(ErlNifEnv* env) {
  return object_type.open(env, "pythonx_object") && memory_type.open(env, "pythonx_memory");
}

// With the module, unless that is builtins. Runs no code of the user's.
static Term make_type_name(ErlNifEnv* env, PyTypeObject* type) {
  if (!PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE)) return make_binary(env, type->tp_name);
  static PyObject* const key = PyUnicode_InternFromString("__module__");
  PyObject* module = PyDict_GetItemWithError(type->tp_dict, key);
  const char* name = PyUnicode_AsUTF8(reinterpret_cast<PyHeapTypeObject*>(type)->ht_qualname);
  const char* place = module == nullptr || !PyUnicode_Check(module) ? nullptr : PyUnicode_AsUTF8(module);
  std::string text = name == nullptr ? type->tp_name : name;
  if (place != nullptr && std::string_view(place) != "builtins") text.insert(0, std::string(place) + ".");
  if (name == nullptr || (module != nullptr && place == nullptr)) PyErr_Clear();
  return make_binary(env, text);
}

Term make_object(ErlNifEnv* env, PyObject* object) { return make_object_from(env, Py_NewRef(object)); }

void become_worker() { in_worker = true; }
bool is_worker() { return in_worker.load(std::memory_order_relaxed); }

Term make_object_from(ErlNifEnv* env, PyObject* object) {
  const Term type = is_worker() && is_attached() ? make_type_name(env, Py_TYPE(object)) : atoms.nil;
  Handle* handle = new_handle(object_type, object);
  Term keys[] = {atoms.struct_, atoms.remote_info, atoms.resource};
  Term values[] = {atoms.object, type, enif_make_resource(env, handle)};
  enif_release_resource(handle);
  Term map;
  enif_make_map_from_arrays(env, keys, values, 3, &map);
  return map;
}

PyObject* get_object(ErlNifEnv* env, Term term) {
  Term resource;
  Term name;
  if (!enif_get_map_value(env, term, atoms.resource, &resource)) return nullptr;
  if (!enif_get_map_value(env, term, atoms.struct_, &name) || name != atoms.object) return nullptr;
  const Handle* handle = object_type.get(env, resource);
  return handle == nullptr ? nullptr : handle->node->object;
}

Term make_binary_over(ErlNifEnv* env, PyObject* owner, const char* data, std::size_t size) {
  Handle* handle = new_handle(memory_type, Py_NewRef(owner));
  const Term binary = enif_make_resource_binary(env, handle, data, size);
  enif_release_resource(handle);
  return binary;
}

// Called by destructors too, so it throws nothing.
void drop_later(PyObject* object) {
  auto* node = new (std::nothrow) Node{nullptr, object};
  if (node == nullptr) return;
  live.fetch_add(1, std::memory_order_relaxed);
  push(node);
}

Object::~Object() {
  if (reference_ != nullptr) drop_later(reference_);
}

void drop_harmless(long budget_us) {
  using clock = std::chrono::steady_clock;
  Node* node = pending.exchange(nullptr, std::memory_order_acquire);
  if (node == nullptr) return;
  const auto deadline = clock::now() + std::chrono::microseconds(budget_us);
  Handoff handoff;
  Node* done = nullptr;
  Node* left = nullptr;
  std::size_t count = 0;
  while (node != nullptr) {
    Node* next = node->next;
    const bool harmless = is_harmless_to_drop(node->object);
    if (harmless) Py_DECREF(node->object);
    count += harmless ? 1 : 0;
    node->next = harmless ? done : left;
    (harmless ? done : left) = node;
    node = next;
    handoff.tick();
    if (count % 256 == 255 && clock::now() > deadline) break;
  }
  leave_to_reaper(left);
  leave_to_reaper(node);
  live.fetch_sub(count, std::memory_order_relaxed);
  // The allocator is not asked for a million frees while others wait for the GIL.
  if (count < 64) {
    free_nodes(done);
  } else {
    Detach detached;
    free_nodes(done);
  }
}

bool has_pending() { return pending.load(std::memory_order_relaxed) != nullptr; }

PyObject* take_pending() {
  Node* node;
  {
    std::lock_guard<std::mutex> lock(wake().mutex);
    if (wake().left == nullptr) wake().left = pending.exchange(nullptr, std::memory_order_acquire);
    node = wake().left;
    if (node == nullptr) return nullptr;
    wake().left = node->next;
  }
  PyObject* object = node->object;
  delete node;
  return object;
}

bool wait_for_pending(std::chrono::milliseconds limit) {
  std::unique_lock<std::mutex> lock(wake().mutex);
  return wake().condition.wait_for(lock, limit, [] { return wake().left != nullptr || has_pending(); });
}

void note_dropped(std::size_t count) { live.fetch_sub(count, std::memory_order_relaxed); }

std::size_t live_handles() { return live.load(std::memory_order_relaxed); }

}  // namespace pythonx
