// Opens a library of ours as the VM does: after a library that has the names of Erlang and of CPython, with all names to be found at
// once. Says what is in it.
#include <dlfcn.h>
#include <erl_nif.h>
#include <stdio.h>

typedef ErlNifEntry* (*init_fn)(void);

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  if (dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL) == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  void* library = dlopen(argv[2], RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  init_fn init = NULL;
  *(void**)&init = dlsym(library, "nif_init");
  if (init == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  const ErlNifEntry* entry = init();
  printf("%s with %d functions, NIF %d.%d\n", entry->name, entry->num_of_funcs, entry->major, entry->minor);
  return 0;
}
