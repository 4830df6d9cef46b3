// Opens the libpython that was chosen. This library holds no Python symbol, so that it loads, and `mix
// compile` works, on a machine without Python.
//
// The BEAM opens NIF libraries with RTLD_LOCAL. Python's extension modules expect libpython's symbols to be
// global, and the bridge, which is not linked to libpython, cannot load before they are. Hence this small
// library, first.
//
// It is C, and so does without the typed layer of the bridge's native functions (c_src/bridge/nif/typed.hpp): `mix compile`
// then needs no C++ compiler, nor the C++ library of the machine that it compiles for, and C has no exceptions to let out.
//
// Ownership: `opened` is written once, under `lock`, and its handle is never closed: what runs in the VM
// afterwards holds pointers into libpython, and a second libpython would share, or overwrite, the global
// symbols of the first.
//
// The library stays for the life of the process too. When its module is loaded again, the VM finds the same one, which goes
// on with what it knows (Pythonx.NIF.Library sees to it that it is the same).

#include <dlfcn.h>
#include <erl_nif.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "external.h"
#include "lock.h"
#include "notifier.h"
#include "term.h"

typedef const char* (*get_version_fn)(void);

static struct {
  void* handle;
  char* path;
  const char* version;
} opened;

// Created in `load`, leaked on purpose: there is no time at which a VM is known to be done with it.
static ErlNifMutex* lock;

static ERL_NIF_TERM make_ok(ErlNifEnv* env, const char* version) {
  return enif_make_tuple2(env, enif_make_atom(env, "ok"), make_binary(env, version));
}

// dlerror may return NULL when another thread of this process has no pending error text.
static const char* dl_reason(void) {
  const char* text = dlerror();
  return text != NULL ? text : "unknown reason";
}

static ERL_NIF_TERM make_symbol_error(ErlNifEnv* env, const char* name, const char* reason) {
  return make_error(env, enif_make_tuple3(env, enif_make_atom(env, "symbol"), make_binary(env, name),
                                          make_binary(env, reason)));
}

// Two names of one file are the same library: libpython3.13.so is a link to libpython3.13.so.1.0.
static bool same_file(const char* left, const char* right) {
  struct stat a, b;
  if (strcmp(left, right) == 0) return true;
  return stat(left, &a) == 0 && stat(right, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static ERL_NIF_TERM refuse_second(ErlNifEnv* env) {
  static const char prefix[] = "another libpython is already loaded, ";
  size_t size = sizeof prefix - 1 + strlen(opened.path);
  ERL_NIF_TERM term;
  unsigned char* bytes = enif_make_new_binary(env, size, &term);
  memcpy(bytes, prefix, sizeof prefix - 1);
  memcpy(bytes + sizeof prefix - 1, opened.path, strlen(opened.path));
  return make_error(env, term);
}

// Opens `path` for the first time. Takes ownership of `path`, which `opened` keeps when the library answers.
static ERL_NIF_TERM open_first(ErlNifEnv* env, char* path) {
  void* handle = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
  if (handle == NULL) {
    ERL_NIF_TERM reason = make_binary(env, dl_reason());
    free(path);
    return make_error(env, reason);
  }
  // POSIX's way around ISO C, which has no conversion from an object pointer to a function pointer.
  get_version_fn get_version = NULL;
  *(void**)&get_version = dlsym(handle, "Py_GetVersion");
  if (get_version == NULL) {
    ERL_NIF_TERM error = make_symbol_error(env, "Py_GetVersion", dl_reason());
    // Not a Python, so nothing can hold a pointer into it: the one handle that is ever closed.
    dlclose(handle);
    free(path);
    return error;
  }
  opened.handle = handle;
  opened.path = path;
  // Callable before Python is initialised, and static storage inside libpython.
  opened.version = get_version();
  return make_ok(env, opened.version);
}

static ERL_NIF_TERM open_locked(ErlNifEnv* env, char* path) {
  if (opened.handle == NULL) return open_first(env, path);
  bool same = same_file(path, opened.path);
  free(path);
  return same ? make_ok(env, opened.version) : refuse_second(env);
}

// open(path): dlopen runs the constructors of the library and reads it from disk, hence a dirty IO scheduler.
static ERL_NIF_TERM nif_open(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  (void)argc;
  char* path = copy_path(env, argv[0]);
  if (path == NULL) return enif_make_badarg(env);
  enif_mutex_lock(lock);
  ERL_NIF_TERM result = open_locked(env, path);
  enif_mutex_unlock(lock);
  return result;
}

#ifdef __APPLE__
// A reference of its own keeps the library open. ELF has a flag for that, see the Makefile.
static void keep_library(void) {
  Dl_info info;
  if (dladdr(&opened, &info) != 0) dlopen(info.dli_fname, RTLD_NOW | RTLD_NODELETE);
}
#else
static void keep_library(void) {}
#endif

static int load(ErlNifEnv* env, void** priv_data, ERL_NIF_TERM info) {
  (void)priv_data, (void)info;
  if (lock == NULL) {
    lock = enif_mutex_create("pythonx_loader");
    keep_library();
  }
  return lock == NULL || lock_load(env) != 0 || notifier_load(env) != 0;
}

// Takes the place of the version of the module that was loaded before.
static int upgrade(ErlNifEnv* env, void** priv_data, void** old_priv_data, ERL_NIF_TERM info) {
  (void)old_priv_data;
  return load(env, priv_data, info);
}

static ErlNifFunc functions[] = {{"open", 1, nif_open, ERL_NIF_DIRTY_JOB_IO_BOUND},
                                 {"lock_file", 1, nif_lock_file, ERL_NIF_DIRTY_JOB_IO_BOUND},
                                 {"unlock_file", 1, nif_unlock_file, ERL_NIF_DIRTY_JOB_IO_BOUND},
                                 {"gc_notifier", 2, nif_gc_notifier, 0},
                                 {"scan", 1, nif_scan, 0}};

ERL_NIF_INIT(Elixir.Pythonx.NIF.Loader, functions, load, NULL, upgrade, NULL)
