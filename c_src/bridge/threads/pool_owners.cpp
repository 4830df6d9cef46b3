// The part of the thread pool that says which thread serves whom, and what becomes of what is left there; pool.hpp has the
// rules.
#include <Python.h>

#include <algorithm>
#include <utility>

#include "conversion/object.hpp"
#include "python/gil.hpp"
#include "threads/leavings.hpp"
#include "threads/pool.hpp"
#include "vm/resource.hpp"

namespace pythonx {
namespace {

// How long the process that the main thread belongs to is away before another may get that.
constexpr auto main_patience = std::chrono::milliseconds(500);

struct ClientResource {
  ErlNifPid pid;

  // The reference was kept until now: a monitor goes with its resource.
  void down(ErlNifEnv*) {
    ThreadPool::instance().client_down(pid);
    enif_release_resource(this);
  }
};

ResourceType<ClientResource> client_type;

// With the pool's mutex held.
bool is_alive(const ErlNifPid& pid) {
  static ErlNifEnv* env = enif_alloc_env();
  ErlNifPid copy = pid;
  return enif_is_process_alive(env, &copy) != 0;
}

// A copy of a context holds the same values, and the decimal context is changed in place.
void copy_decimal_context() {
  PyObject* module = PyDict_GetItemString(PyImport_GetModuleDict(), "_decimal");
  PyObject* current = module == nullptr ? nullptr : PyObject_CallMethod(module, "getcontext", nullptr);
  PyObject* copy = current == nullptr ? nullptr : PyObject_CallMethod(current, "copy", nullptr);
  if (copy != nullptr) Py_XDECREF(PyObject_CallMethod(module, "setcontext", "O", copy));
  Py_XDECREF(copy);
  Py_XDECREF(current);
  PyErr_Clear();
}

}  // namespace

bool open_client_type(ErlNifEnv* env) { return client_type.open(env, "pythonx_client"); }

// --- Looking for a thread, with the mutex held -----------------------------------------------------------------------

Worker* ThreadPool::pick(const Job* job) {
  const auto found = clients_.find(key_of(job->caller_));
  if (found != clients_.end()) {
    if (Worker* own = pick_own(found->second.get(), job)) return own;
  }
  if (Worker* free = pick_free(job)) return free;
  if (may_spawn()) {
    if (Worker* fresh = spawn()) return fresh;
  }
  return take_from_owner(job);
}

Worker* ThreadPool::pick_own(const Client* client, const Job* job) {
  for (Worker* worker : client->threads) {
    if (worker->idle && (!worker->is_main || job->may_run_on_main())) return worker;
  }
  return nullptr;
}

// A thread that nobody will miss, and on which nothing is left. Others on which there is are told to end.
Worker* ThreadPool::pick_free(const Job* job) {
  if (main_ != nullptr && main_->idle && job->may_run_on_main() && main_is_free()) return main_;
  const bool all_owned = owned_ >= limits_.own_threads;
  for (std::size_t i = idle_.size(); i-- > 0;) {
    Worker* worker = idle_[i];
    if (worker->is_main) continue;
    const bool marked = worker->left || worker->touched;
    if (!marked && !worker->settled && job->keeps_state()) return worker;
    if (all_owned || !is_given_up(worker)) continue;
    if (!marked) return worker;
    end(worker);
  }
  return all_owned ? pick_shared() : nullptr;
}

// As many as may belong to processes do: of those whose process has left nothing there, the one that was idle for longest.
Worker* ThreadPool::pick_shared() {
  const auto unmarked = [](const Worker* worker) {
    return !worker->is_main && worker->rested && !worker->left && !worker->touched;
  };
  const auto first = std::find_if(idle_.begin(), idle_.end(), unmarked);
  return first == idle_.end() ? nullptr : *first;
}

bool ThreadPool::is_given_up(const Worker* worker) {
  return worker->owner == nullptr || !is_alive(worker->owner->pid);
}

bool ThreadPool::main_is_free() {
  if (main_->left || main_->touched) return is_given_up(main_);
  if (!main_->settled || is_given_up(main_)) return true;
  return main_->rested && std::chrono::steady_clock::now() - main_->idle_since.load() > main_patience;
}

// There are no more threads to be had.
Worker* ThreadPool::take_from_owner(const Job* job) {
  Worker* oldest = nullptr;
  for (Worker* worker : idle_) {
    if (worker->is_main) continue;
    if (!worker->left && !worker->touched) return worker;
    if (oldest == nullptr) oldest = worker;
  }
  if (oldest != nullptr) oldest->renew = true;
  return oldest == nullptr && main_ != nullptr && main_->idle && job->may_run_on_main() ? main_ : oldest;
}

// Has new threads serve those that wait in line, as far as there may be any. With the mutex held.
void ThreadPool::serve_waiting() {
  while (!waiting_.empty() && may_spawn()) {
    Worker* worker = spawn();
    if (worker == nullptr) return;
    assign(worker, waiting_.front());
    waiting_.pop_front();
  }
}

// --- What belongs to whom, with the mutex held -----------------------------------------------------------------------

ClientPtr ThreadPool::find_client(const ErlNifPid& pid) {
  const auto found = clients_.find(key_of(pid));
  return found == clients_.end() ? nullptr : found->second;
}

ClientPtr ThreadPool::make_client(const ErlNifPid& pid) {
  ClientPtr& client = clients_[key_of(pid)];
  if (client == nullptr) {
    client = std::make_shared<Client>();
    client->pid = pid;
  }
  return client;
}

// Makes the thread the job's, and if that may be its process's.
void ThreadPool::adopt(Worker* worker, const Job* job) {
  ClientPtr client = find_client(job->caller_);
  worker->settled = worker->owner != nullptr && worker->owner == client;
  if (!worker->settled) {
    if (worker->is_main) {
      worker->reset = worker->reset || worker->left;
      if (worker->rested) worker->c_state = worker->c_state_at_rest;
      worker->baseline = worker->rested;
    } else {
      worker->renew = worker->renew || worker->left;
      worker->unchecked = !worker->rested;
      worker->before = worker->owner == nullptr ? ErlNifPid{} : worker->owner->pid;
    }
    worker->handed_on = true;
    worker->left = worker->touched = false;
    const bool may_own = worker->is_main || worker->owner != nullptr || owned_ < limits_.own_threads;
    client = own(worker, std::move(client), job->keeps_state() && may_own ? &job->caller_ : nullptr);
  }
  worker->rested = false;
  if (worker->context != nullptr) worker->context = nullptr;
  worker->copy_context = worker->initial = false;
  if (client != nullptr) {
    if (client->context != nullptr) worker->context = client->context;
    worker->copy_context = client->in_context != nullptr;
    client->in_context = worker;
  }
  if (worker->context == nullptr && initial_context_ != nullptr) {
    worker->context = initial_context_;
    worker->copy_context = worker->initial = true;
  }
  worker->client = std::move(client);
}

// Gives the thread to a process, whose client may be known, or to nobody. Returns that client. Most processes end with nothing
// left: the client of such a one is made the next one's.
ClientPtr ThreadPool::own(Worker* worker, ClientPtr client, const ErlNifPid* pid) {
  if (pid != nullptr && client == nullptr && worker->owner != nullptr &&
      is_forgotten(worker->owner.get(), 1)) {
    auto node = clients_.extract(key_of(worker->owner->pid));
    worker->owner->pid = *pid;
    node.key() = key_of(*pid);
    clients_.insert(std::move(node));
    return worker->owner;
  }
  disown(worker);
  if (pid == nullptr) return client;
  if (client == nullptr) client = make_client(*pid);
  client->threads.push_back(worker);
  worker->owner = client;
  ++owned_;
  return client;
}

// Whether nothing belongs to a process but that many threads.
bool ThreadPool::is_forgotten(const Client* client, std::size_t threads) {
  // One that is watched is forgotten when it has ended.
  return client->threads.size() == threads && client->context == nullptr && client->in_context == nullptr &&
         !client->watched && !client->dead;
}

void ThreadPool::disown(Worker* worker) {
  const ClientPtr owner = std::exchange(worker->owner, nullptr);
  if (owner == nullptr) return;
  --owned_;
  owner->threads.erase(std::find(owner->threads.begin(), owner->threads.end(), worker));
  if (is_forgotten(owner.get(), 0)) clients_.erase(key_of(owner->pid));
}

void ThreadPool::end(Worker* worker) {
  disown(worker);
  if (worker->idle) take_from_idle(worker);
  worker->ending = true;
  worker->wake.notify_one();
}

void ThreadPool::end_if_left(Worker* worker) {
  if (!worker->is_main && (worker->left || worker->touched) && is_given_up(worker)) end(worker);
}

// New processes are to find a thread.
void ThreadPool::start_spare() {
  const auto spare = [](const Worker* worker) { return !worker->is_main && worker->owner == nullptr; };
  if (std::any_of(idle_.begin(), idle_.end(), spare)) return;
  if (!may_spawn()) return;
  if (Worker* worker = spawn()) make_idle(worker);
}

void ThreadPool::note_rest(Worker* worker, std::uint64_t c_state) {
  worker->rested = true;
  worker->c_state_at_rest = c_state;
  if (!worker->baseline) worker->c_state = c_state;
  worker->baseline = true;
  worker->touched = worker->touched || c_state != worker->c_state;
  if (worker->is_main) {
    if (worker->left && is_given_up(worker)) worker->reset = true;
    if (worker->reset) worker->left = false;
  } else {
    end_if_left(worker);
  }
}

// --- Around a job, attached ------------------------------------------------------------------------------------------

// Puts the thread into the state that belongs to the process it is to work for.
void ThreadPool::begin_state(Worker* worker) {
  if (std::exchange(worker->handed_on, false)) restore_mask_and_processors();
  if (std::exchange(worker->reset, false)) {
    destroy_hub();
    reset_thread();
  }
  if (worker->context == nullptr) return;
  enter_context(worker->context.get(), worker->copy_context);
  if (worker->initial) copy_decimal_context();
}

// Takes what the job has left, attached.
void ThreadPool::end_state(Worker* worker, const Job* job) {
  PyObject* context;
  const bool in_order = leave_context(&context);
  worker->ran = true;
  worker->left_something = is_left_on_thread() || !in_order;
  const bool share = std::exchange(worker->share, false);
  if (context == nullptr && worker->context == nullptr && !share) return;
  // Finalizers of what is dropped run later.
  ContextPtr kept;
  if (context != nullptr && context == worker->context.get()) {
    Py_DECREF(context);
    kept = worker->context;
  } else if (context != nullptr) {
    kept.reset(context, drop_later);
  }
  std::lock_guard<std::mutex> lock(mutex_);
  ClientPtr& client = worker->client;
  if (client == nullptr && context != nullptr && job->keeps_state()) {
    client = make_client(job->caller_);
    client->in_context = worker;
  }
  if (client == nullptr) return;
  // Of two that run, the one that began last counts.
  if (client->in_context == worker) client->context.swap(kept);
  if (share) {
    initial_context_ = client->context;
    disown(worker);
  }
}

// The job has ended. With the mutex held, detached.
void ThreadPool::settle(Worker* worker) {
  if (std::exchange(worker->ran, false)) worker->left = worker->left_something || !worker->jobs.empty();
  if (worker->context != nullptr) worker->context = nullptr;
  const ClientPtr client = std::exchange(worker->client, nullptr);
  if (client == nullptr) return;
  if (client->in_context == worker) client->in_context = nullptr;
  if (client->dead) {
    if (client->in_context == nullptr) client->context = nullptr;
  } else if (!client->watched && (client->context != nullptr || (worker->left && worker->owner == client))) {
    client->watched = true;
    worker->to_watch = client;
  }
}

// Finds another thread for a job: C code has changed something on this one, for the process to which it belonged before.
void ThreadPool::pass_on(Worker* worker, Job* job) {
  std::lock_guard<std::mutex> lock(mutex_);
  remove(worker, job);
  settle(worker);
  disown(worker);
  if (worker->before.pid != 0 && is_alive(worker->before)) {
    own(worker, find_client(worker->before), &worker->before);
    worker->touched = true;
    make_idle(worker);
  } else {
    end(worker);
  }
  if (Worker* other = pick(job)) {
    assign(other, job);
  } else {
    waiting_.push_front(job);
  }
}

void ThreadPool::share_state() { current_worker()->share = true; }

// --- The end of a process ----------------------------------------------------------------------------------------------

// Detached.
void ThreadPool::watch(const ClientPtr& client) {
  ClientResource* resource = client_type.make(client->pid);
  ErlNifMonitor monitor;
  if (enif_monitor_process(nullptr, resource, &resource->pid, &monitor) == 0) return;
  client_down(client->pid);  // It has ended already.
  enif_release_resource(resource);
}

// Never waits: it may run where the VM pleases.
void ThreadPool::client_down(const ErlNifPid& pid) {
  ContextPtr context;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    const ClientPtr client = find_client(pid);
    if (client == nullptr) return;
    clients_.erase(key_of(pid));
    client->dead = true;
    if (client->in_context == nullptr) context.swap(client->context);
    bool ended = false;
    for (Worker* worker : std::exchange(client->threads, {})) {
      worker->owner = nullptr;
      --owned_;
      if (!worker->idle || !(worker->left || worker->touched)) continue;
      if (worker->is_main) {
        worker->reset = worker->reset || worker->left;
        worker->left = false;
        worker->wake.notify_one();
      } else {
        end(worker);
        ended = true;
      }
    }
    if (ended) start_spare();
  }
}

}  // namespace pythonx
