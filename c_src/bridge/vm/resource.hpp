// Resources: memory of the VM that holds a C++ object, with a term for it. The VM collects it with the last term.
//
// What the VM calls then, and when a process that a resource watches has died, may run on any scheduler: it never waits. It
// lets no exception out (vm/exception.hpp).
//
// A type outlives the version of the module that opened it. A later version takes it over. Where there was none in between
// (deleted, purged, loaded again) the VM has struck it off its list, but keeps it, with its callbacks, while it has a
// resource. So that handles that were made before are known afterwards, each type that was ever used has one resource that is
// never given up, an anchor, and goes on as it is.
#pragma once

#include <erl_nif.h>

#include <atomic>
#include <new>
#include <type_traits>
#include <utility>

#include "vm/exception.hpp"

namespace pythonx {

// A type of resources that hold a T. A T may have
//   void collected(ErlNifEnv* env)    called when no term and no reference is left, before its destructor
//   void down(ErlNifEnv* env)         called when the process that it watches has died
template <typename T>
class ResourceType {
 public:
  // Registers the type. Called whenever the library is loaded.
  bool open(ErlNifEnv* env, const char* name) {
    ErlNifResourceTypeInit init{};
    init.dtor = destroy;
    if constexpr (has_down<T>::value) init.down = down;
    if (anchor_.load(std::memory_order_relaxed) != nullptr) {
      // The same type, or none when it is no longer listed.
      enif_open_resource_type_x(env, name, &init, ERL_NIF_RT_TAKEOVER, nullptr);
      return true;
    }
    // Flags of C, of which both may be set.
    // NOLINTNEXTLINE(clang-analyzer-optin.core.EnumCastOutOfRange)
    const auto flags = static_cast<ErlNifResourceFlags>(ERL_NIF_RT_CREATE | ERL_NIF_RT_TAKEOVER);
    type_ = enif_open_resource_type_x(env, name, &init, flags, nullptr);
    return type_ != nullptr;
  }

  // A new one. The reference is the caller's, to be given up by enif_release_resource.
  template <typename... Members>
  T* make(Members&&... members) const {
    // Otherwise `destroy` might meet what was never made.
    static_assert(noexcept(T{std::forward<Members>(members)...}),
                  "the members of a resource are made before");
    // Nothing is ever made in it. Two threads may make one each.
    if (anchor_.load(std::memory_order_relaxed) == nullptr)
      anchor_.store(enif_alloc_resource(type_, sizeof(T)), std::memory_order_relaxed);
    return new (enif_alloc_resource(type_, sizeof(T))) T{std::forward<Members>(members)...};
  }

  // What a term stands for, for as long as its environment keeps the term; nullptr for any other term.
  T* get(ErlNifEnv* env, Term term) const {
    void* memory;
    return enif_get_resource(env, term, type_, &memory) ? static_cast<T*>(memory) : nullptr;
  }

 private:
  template <typename U, typename = void>
  struct has_down : std::false_type {};
  template <typename U>
  struct has_down<U, std::void_t<decltype(&U::down)>> : std::true_type {};
  template <typename U, typename = void>
  struct has_collected : std::false_type {};
  template <typename U>
  struct has_collected<U, std::void_t<decltype(&U::collected)>> : std::true_type {};

  static void destroy([[maybe_unused]] ErlNifEnv* env, void* memory) {
    auto* resource = static_cast<T*>(memory);
    if constexpr (has_collected<T>::value) contain([=] { resource->collected(env); });
    resource->~T();
  }

  static void down(ErlNifEnv* env, void* memory, ErlNifPid*, ErlNifMonitor*) {
    contain([=] { static_cast<T*>(memory)->down(env); });
  }

  ErlNifResourceType* type_ = nullptr;
  mutable std::atomic<void*> anchor_{nullptr};
};

}  // namespace pythonx
