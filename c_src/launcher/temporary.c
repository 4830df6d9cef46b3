// The folder for temporary files of a worker.
//
// Whoever made it holds a lock on it, and removes it when its worker is gone. Where that was prevented, by SIGKILL, the lock is free,
// and the next that makes a folder in the same place removes it.
//
// What a worker leaves there may be made to be hard to remove: folders in folders, as deep as it liked, and such that cannot be read.
// So nothing is followed, nor is there any recursion: what a folder holds is moved to the top before it is removed.
#define _GNU_SOURCE
#include "sandbox.h"

#if HAS_SANDBOX

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char prefix[] = "pythonx-sandbox-";

static int open_folder(int at, const char* name) {
  return openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static bool is_dots(const char* name) { return strcmp(name, ".") == 0 || strcmp(name, "..") == 0; }

// Calls `act` for each name in a folder. Returns how many times that was done successfully.
static size_t each(int folder, bool (*act)(int folder, const char* name, int top), int top) {
  int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* list = copy < 0 ? NULL : fdopendir(copy);
  if (list == NULL) {
    if (copy >= 0) close(copy);
    return 0;
  }
  size_t done = 0;
  struct dirent* entry = NULL;
  while ((entry = readdir(list)) != NULL)  // NOLINT(concurrency-mt-unsafe)
    if (!is_dots(entry->d_name) && act(folder, entry->d_name, top)) done++;
  closedir(list);
  return done;
}

static bool move_up(int folder, const char* name, int top) {
  static unsigned long long next;
  for (int attempt = 0; attempt < 100; attempt++) {
    char moved[48];
    struct stat info;
    snprintf(moved, sizeof moved, "moved-%llu", next++);
    if (fstatat(top, moved, &info, AT_SYMLINK_NOFOLLOW) != 0 && renameat(folder, name, top, moved) == 0)
      return true;
  }
  return false;
}

static bool remove_one(int folder, const char* name, int top) {
  if (unlinkat(folder, name, 0) == 0 || unlinkat(folder, name, AT_REMOVEDIR) == 0) return true;
  int inner = open_folder(folder, name);
  if (inner < 0 && errno == EACCES && fchmodat(folder, name, S_IRWXU, 0) == 0)
    inner = open_folder(folder, name);
  if (inner < 0) return false;
  fchmod(inner, S_IRWXU);
  each(inner, move_up, top);
  close(inner);
  return unlinkat(folder, name, AT_REMOVEDIR) == 0;
}

static void clear(int folder) {
  while (each(folder, remove_one, folder) > 0) continue;
}

void temporary_remove(const char* path, int lock) {
  clear(lock);
  rmdir(path);
  close(lock);
}

// Those of others whose lock is free.
static bool remove_abandoned(int base, const char* name, int ignored) {
  (void)ignored;
  if (strncmp(name, prefix, sizeof prefix - 1) != 0) return false;
  int folder = open_folder(base, name);
  if (folder < 0) return false;
  struct stat info;
  bool ours = fstat(folder, &info) == 0 && info.st_uid == geteuid() && flock(folder, LOCK_EX | LOCK_NB) == 0;
  if (ours) {
    clear(folder);
    unlinkat(base, name, AT_REMOVEDIR);
  }
  close(folder);
  return ours;
}

// Another launcher may take it for an abandoned one before it is locked. Then there is none any more, and it is tried again.
static bool make_one(const char* base, char* path, size_t size, int* lock) {
  int length = snprintf(path, size, "%s/%sXXXXXX", base, prefix);
  if (length < 0 || (size_t)length >= size || mkdtemp(path) == NULL) return false;
  *lock = open_folder(AT_FDCWD, path);
  if (*lock < 0) return false;
  struct stat named;
  struct stat locked;
  if (flock(*lock, LOCK_EX | LOCK_NB) == 0 && lstat(path, &named) == 0 && fstat(*lock, &locked) == 0 &&
      named.st_ino == locked.st_ino)
    return true;
  close(*lock);
  return false;
}

bool temporary_make(const char* base, char* path, size_t size, int* lock) {
  int folder = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder >= 0) {
    each(folder, remove_abandoned, -1);
    close(folder);
  }
  for (int attempt = 0; attempt < 10; attempt++)
    if (make_one(base, path, size, lock)) return true;
  path[0] = '\0';
  return false;
}

#endif
