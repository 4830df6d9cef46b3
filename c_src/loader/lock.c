// Locks between OS processes, for Pythonx.Host.Lock. They live in this library because it is the one that is
// always there, and because only the kernel knows whether the holder of a lock still lives: files with
// process ids lie after a reboot, in containers and when ids are used again.
//
// Ownership: a held lock is a file descriptor with flock(2) on it, owned by a resource, which belongs to the
// Elixir process that asked for it. Whatever ends first lets the lock go: unlock_file, that process (the
// destructor runs), the VM (the kernel closes the descriptor, after kill -9 too). The descriptor is
// close-on-exec, so that programs started meanwhile do not keep it. The file itself is never deleted: who
// waits for it would then lock a file that nobody else can see.

#include "lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "term.h"

enum { CLOSED = -1 };

typedef struct {
  atomic_int fd;
} held_lock;

static ErlNifResourceType* held_lock_type;

// A resource that is never given up: with one the VM keeps the type when the module is purged, so that handles that were made
// before are known when it has been loaded again.
static _Atomic(held_lock*) anchor;

static held_lock* new_held(int fd) {
  held_lock* held = enif_alloc_resource(held_lock_type, sizeof *held);
  atomic_init(&held->fd, fd);
  return held;
}

static void let_go(held_lock* held) {
  int fd = atomic_exchange(&held->fd, CLOSED);
  if (fd != CLOSED) close(fd);
}

static void held_lock_destructor(ErlNifEnv* env, void* object) {
  (void)env;
  let_go(object);
}

// Once there is an anchor, the type is the same for ever, also when the VM has no longer listed it.
int lock_load(ErlNifEnv* env) {
  bool anchored = atomic_load(&anchor) != NULL;
  // NOLINTNEXTLINE(clang-analyzer-optin.core.EnumCastOutOfRange): flags, of which both may be set
  ErlNifResourceFlags flags = anchored ? ERL_NIF_RT_TAKEOVER : ERL_NIF_RT_CREATE | ERL_NIF_RT_TAKEOVER;
  ErlNifResourceType* type =
      enif_open_resource_type(env, NULL, "pythonx_lock", held_lock_destructor, flags, NULL);
  if (!anchored) held_lock_type = type;
  return held_lock_type == NULL;
}

static ERL_NIF_TERM make_errno(ErlNifEnv* env, int error) {
  return make_error(env, make_binary(env, strerror(error)));
}

// Whether the locked file is still the one that others find under its name: someone may have deleted the
// cache between open and flock.
static bool still_named(int fd, const char* path) {
  struct stat locked, named;
  return fstat(fd, &locked) == 0 && stat(path, &named) == 0 && locked.st_dev == named.st_dev &&
         locked.st_ino == named.st_ino;
}

static ERL_NIF_TERM make_held(ErlNifEnv* env, int fd) {
  if (atomic_load(&anchor) == NULL) atomic_store(&anchor, new_held(CLOSED));
  held_lock* held = new_held(fd);
  ERL_NIF_TERM handle = enif_make_resource(env, held);
  // The term has its own reference. Without this one the destructor follows the last term.
  enif_release_resource(held);
  return enif_make_tuple2(env, enif_make_atom(env, "ok"), handle);
}

static ERL_NIF_TERM lock_path(ErlNifEnv* env, const char* path) {
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return make_errno(env, errno);
  if (flock(fd, LOCK_EX | LOCK_NB) == 0 && still_named(fd, path)) return make_held(env, fd);
  int error = errno;
  bool busy = error == EWOULDBLOCK || error == EINTR || !still_named(fd, path);
  close(fd);
  return busy ? enif_make_atom(env, "busy") : make_errno(env, error);
}

ERL_NIF_TERM nif_lock_file(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  (void)argc;
  char* path = copy_path(env, argv[0]);
  if (path == NULL) return enif_make_badarg(env);
  ERL_NIF_TERM result = lock_path(env, path);
  free(path);
  return result;
}

ERL_NIF_TERM nif_unlock_file(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  (void)argc;
  void* held;
  if (!enif_get_resource(env, argv[0], held_lock_type, &held)) return enif_make_badarg(env);
  let_go(held);
  return enif_make_atom(env, "ok");
}
