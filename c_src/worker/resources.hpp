// Resources: memory that the bridge asks for, of which terms tell.
//
// A resource lives while there is a reference to it: one of the bridge, one of an environment that has a term for it, or one that
// was lent to the VM. A term that goes there is a reference with a serial number, which no other resource ever has; each time that
// one goes lends one more, and the VM gives them back by `release`. One that comes back is looked up among those that are lent.
//
// Monitors end with their resource, before its destructor. `down` is called at most once for each, with a reference held, never
// after demonitor has succeeded, and always by the reader. They are told to the VM late (connection.hpp), and those that have ended
// by then never: most jobs end before.
//
// One mutex guards numbers, lent references and monitors. Nothing of the bridge is called with it held.
#pragma once

#include <chrono>
#include <utility>
#include <vector>

#include "heap.hpp"

// The name is of erl_nif.h.
struct enif_resource_type_t {
  const char* name;
  ErlNifResourceDtor* destructor;
  ErlNifResourceDown* down;
};

namespace pythonx::worker {

using ResourceType = enif_resource_type_t;

struct alignas(16) Resource : Counted {
  ResourceType* type = nullptr;
  std::uint64_t serial = 0;  // once it was lent
  std::uint64_t lent = 0;
  std::uint32_t job = 0;  // the number of the job that it is, or 0
  std::vector<std::uint64_t> monitors;
};

inline Resource* resource_in(const Term* box) {
  return static_cast<Resource*>(reinterpret_cast<Counted*>(box[1]));
}

// What the bridge knows it by.
inline void* memory_of(Resource* resource) { return resource + 1; }
inline Resource* resource_of(void* memory) { return static_cast<Resource*>(memory) - 1; }

ResourceType* open_type(const char* name, const ErlNifResourceTypeInit& callbacks);
Resource* make_resource(ResourceType* type, std::size_t size);
Term make_resource_term(Env* env, Resource* resource);

// --- Those that the VM has -------------------------------------------------------------------------------------------

std::uint64_t serial_of(Resource* resource);
void lend(const std::vector<Resource*>& resources);
void give_back(std::uint64_t serial, std::uint64_t count);
// A term for one that is lent, or 0.
Term find_lent(Env* env, std::uint64_t serial);

// A job that was submitted goes by its number until its resource is gone.
void name_job(Resource* resource, std::uint32_t number);
Term find_job(Env* env, std::uint32_t number);

// --- Monitors --------------------------------------------------------------------------------------------------------

struct MonitorNews {
  std::vector<std::pair<std::uint64_t, Term>> begun;  // and of which process
  std::vector<std::uint64_t> ended;
};

std::uint64_t begin_monitor(Resource* resource, Term pid);
// False when it has ended before.
bool end_monitor(std::uint64_t number);
// What the VM has to be told, and since when the oldest of it waits; `never` when there is nothing.
MonitorNews take_monitor_news();
std::chrono::steady_clock::time_point monitor_news_since();
constexpr auto never = std::chrono::steady_clock::time_point::max();
// A process has ended.
void monitor_down(std::uint64_t number);

}  // namespace pythonx::worker
