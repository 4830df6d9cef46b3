#include "conversion/object.hpp"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <new>
#include <string>
#include <string_view>
#include <utility>

#include "python/gil.hpp"
#include "python/portions.hpp"
#include "vm/resource.hpp"

namespace pythonx {
namespace {

// A node is allocated when its resource is made, so that the destructor allocates nothing.
struct Node {
  Node* next;
  PyObject* object;
  Node* next_list = nullptr;  // of the first node of a list: the next list
};

std::atomic<Node*> pending{nullptr};
std::atomic<std::size_t> live{0};
std::atomic<bool> in_worker{false};
std::atomic<std::size_t> looks{0};  // how often jobs have looked at what was pending

// Leaked: a static condition variable with a destructor hangs the VM at exit while the reaper waits on it.
struct Wake {
  std::mutex mutex;
  std::condition_variable condition;
  Node* left = nullptr;  // what was pending and is the reaper's now: lists, which may be a million nodes long
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

// With the mutex held.
void put_left(Node* list) {
  list->next_list = wake().left;
  wake().left = list;
}

// Adds a list of nodes to those that wait for the reaper.
void leave(Node* list) {
  if (list == nullptr) return;
  std::lock_guard<std::mutex> lock(wake().mutex);
  put_left(list);
}

// The same, and wakes it.
void leave_to_reaper(Node* list) {
  if (list == nullptr) return;
  leave(list);
  wake().condition.notify_one();
}

// Takes a list of those that wait for the reaper, or what is pending; nullptr when there is none.
Node* take_list() {
  std::lock_guard<std::mutex> lock(wake().mutex);
  Node* list = wake().left;
  if (list == nullptr) return pending.exchange(nullptr, std::memory_order_acquire);
  wake().left = list->next_list;
  return list;
}

// Takes a single node.
Node* take_node() {
  std::lock_guard<std::mutex> lock(wake().mutex);
  if (wake().left == nullptr) {
    Node* list = pending.exchange(nullptr, std::memory_order_acquire);
    if (list == nullptr) return nullptr;
    put_left(list);
  }
  Node* node = wake().left;
  wake().left = node->next_list;
  if (node->next != nullptr) put_left(node->next);
  return node;
}

// Nodes whose references have been dropped.
class Dropped {
 public:
  ~Dropped() {
    live.fetch_sub(count_, std::memory_order_relaxed);
    free_nodes(first_);
  }
  Dropped() = default;
  Dropped(const Dropped&) = delete;
  Dropped& operator=(const Dropped&) = delete;

  // Drops the reference of the first node of a list, which is not empty, if it is harmless to do so.
  bool drop_harmless(Node** list) {
    Node* node = *list;
    if (!is_harmless_to_drop(node->object)) return false;
    *list = node->next;
    Py_DECREF(node->object);
    node->next = first_;
    first_ = node;
    ++count_;
    return true;
  }

  // Attached. The allocator is not asked for a million frees while others wait for the GIL.
  void free_detached() {
    if (count_ < 64) return;
    const Detach detached;
    free_nodes(std::exchange(first_, nullptr));
  }

 private:
  Node* first_ = nullptr;
  std::size_t count_ = 0;
};

// Moves the first node of a list to those that are risky, unless it can be dropped at once.
void sort_out(Node** list, Dropped* dropped, Node** risky) {
  if (dropped->drop_harmless(list)) return;
  Node* node = *list;
  *list = node->next;
  node->next = *risky;
  *risky = node;
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

// A few take less time than the clock does.
void drop_harmless(long budget_us) {
  using clock = std::chrono::steady_clock;
  constexpr int few = 32;
  looks.fetch_add(1, std::memory_order_relaxed);
  Node* list = pending.exchange(nullptr, std::memory_order_acquire);
  Node* risky = nullptr;
  Dropped dropped;
  for (int i = 0; i < few && list != nullptr; ++i) sort_out(&list, &dropped, &risky);
  if (list != nullptr) {
    const auto deadline = clock::now() + std::chrono::microseconds(budget_us);
    Handoff handoff;
    for (std::size_t count = 1; list != nullptr && (count % 256 != 0 || clock::now() < deadline); ++count) {
      sort_out(&list, &dropped, &risky);
      handoff.tick();
    }
  }
  leave_to_reaper(risky);
  leave_to_reaper(list);
  dropped.free_detached();
}

bool has_pending() { return pending.load(std::memory_order_relaxed) != nullptr; }

bool drop_pending(Handoff* turn, PyObject** risky) {
  constexpr std::size_t most = 50'000;
  Node* node = take_node();
  if (node == nullptr) return false;
  node->next = nullptr;
  Dropped dropped;
  if (!dropped.drop_harmless(&node)) {
    *risky = node->object;
    delete node;
    return true;
  }
  Node* list = take_list();
  for (std::size_t i = 0; i < most && list != nullptr && dropped.drop_harmless(&list); ++i) turn->tick();
  leave(list);
  dropped.free_detached();
  return true;
}

std::size_t looks_at_pending() { return looks.load(std::memory_order_relaxed); }

bool wait_for_pending(std::chrono::milliseconds limit) {
  std::unique_lock<std::mutex> lock(wake().mutex);
  return wake().condition.wait_for(lock, limit, [] { return wake().left != nullptr || has_pending(); });
}

bool is_left_pending(std::size_t looks_before) {
  std::lock_guard<std::mutex> lock(wake().mutex);
  return wake().left != nullptr || (has_pending() && looks_at_pending() == looks_before);
}

void note_dropped(std::size_t count) { live.fetch_sub(count, std::memory_order_relaxed); }

std::size_t live_handles() { return live.load(std::memory_order_relaxed); }

}  // namespace pythonx
