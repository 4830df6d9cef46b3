// The rules of Landlock. Its numbers are written down here, as the headers of a system may be older than its kernel.
#define _GNU_SOURCE
#include "sandbox.h"

#if HAS_SANDBOX

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
  CREATE_RULESET = 444,
  ADD_RULE = 445,
  RESTRICT_SELF = 446,
  VERSION_FLAG = 1,
  PATH_BENEATH = 1,
  NET_PORT = 2
};

#define FS_EXECUTE (1ULL << 0)
#define FS_WRITE_FILE (1ULL << 1)
#define FS_READ_FILE (1ULL << 2)
#define FS_READ_DIR (1ULL << 3)
#define FS_REMOVE_DIR (1ULL << 4)
#define FS_REMOVE_FILE (1ULL << 5)
#define FS_MAKE_CHAR (1ULL << 6)
#define FS_MAKE_DIR (1ULL << 7)
#define FS_MAKE_REG (1ULL << 8)
#define FS_MAKE_SOCK (1ULL << 9)
#define FS_MAKE_FIFO (1ULL << 10)
#define FS_MAKE_BLOCK (1ULL << 11)
#define FS_MAKE_SYM (1ULL << 12)
#define FS_REFER (1ULL << 13)
#define FS_TRUNCATE (1ULL << 14)
#define FS_IOCTL_DEV (1ULL << 15)
#define NET_BIND_TCP (1ULL << 0)
#define NET_CONNECT_TCP (1ULL << 1)
#define SCOPE_ABSTRACT_SOCKETS (1ULL << 0)
#define SCOPE_SIGNALS (1ULL << 1)

static const uint64_t of_files = FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV;
static const uint64_t reading = FS_READ_FILE | FS_READ_DIR;
static const uint64_t writing = FS_READ_FILE | FS_READ_DIR | FS_WRITE_FILE | FS_TRUNCATE | FS_REMOVE_DIR |
                                FS_REMOVE_FILE | FS_MAKE_DIR | FS_MAKE_REG | FS_MAKE_FIFO | FS_MAKE_SYM |
                                FS_REFER;

typedef struct {
  uint64_t fs;
  uint64_t net;
  uint64_t scoped;
} ruleset;

typedef struct {
  uint64_t access;
  int32_t fd;
} __attribute__((packed)) path_rule;

typedef struct {
  uint64_t access;
  uint64_t port;
} port_rule;

// Not `fd`, which leads to other files, nor `mem` and `environ`.
const char* const landlock_own_files[] = {"status", "stat",   "statm",   "maps", "smaps_rollup",
                                          "limits", "cgroup", "cmdline", NULL};

const char* const landlock_system_files[] = {"/proc/cpuinfo",
                                             "/proc/meminfo",
                                             "/proc/stat",
                                             "/proc/uptime",
                                             "/proc/sys/vm/overcommit_memory",
                                             "/proc/sys/vm/max_map_count",
                                             NULL};

int landlock_version(void) {
  long version = syscall(CREATE_RULESET, NULL, 0, VERSION_FLAG);
  return version > 0 ? (int)version : 0;
}

static ruleset handled(const sandbox* box, int version) {
  ruleset all = {(FS_MAKE_SYM << 1) - 1, 0, 0};
  if (version >= 2) all.fs |= FS_REFER;
  if (version >= 3) all.fs |= FS_TRUNCATE;
  if (version >= 4) all.net = NET_BIND_TCP | NET_CONNECT_TCP;
  if (version >= 5) all.fs |= FS_IOCTL_DEV;
  if (version >= 6) all.scoped = SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS;
  // Where nothing may be run, the filter sees to it, and the kernel has to find the dynamic linker this once.
  if (!sandbox_has(box, RULE_EXEC)) all.fs &= ~FS_EXECUTE;
  return all;
}

static bool say(const char* what, const char* subject) {
  fprintf(stderr, "the sandbox cannot %s %s: %s\n", what, subject, strerror(errno));
  return false;
}

// What is not there need not be allowed, unless somebody wants to write to it.
static bool allow_path(int rules, const char* path, uint64_t access, bool needed) {
  int fd = open(path, O_PATH | O_CLOEXEC);
  if (fd < 0) return !needed || say("allow", path);
  struct stat info;
  bool found = fstat(fd, &info) == 0;
  if (found && !S_ISDIR(info.st_mode)) access &= of_files;
  path_rule rule = {access, fd};
  bool added = found && (access == 0 || syscall(ADD_RULE, rules, PATH_BENEATH, &rule, 0) == 0);
  if (!added) say("allow", path);
  close(fd);
  return added;
}

static bool allow_port(int rules, const char* port, uint64_t access, uint64_t known) {
  // Without support for ports the VM's side was told so.
  if ((access & known) == 0) return true;
  port_rule rule = {access, strtoull(port, NULL, 10)};
  return syscall(ADD_RULE, rules, NET_PORT, &rule, 0) == 0 || say("allow the port", port);
}

static bool allow(int rules, const sandbox_rule* rule, const ruleset* all) {
  switch (rule->kind) {
    case RULE_READ:
      return allow_path(rules, rule->text, reading & all->fs, false);
    case RULE_WRITE:
      return allow_path(rules, rule->text, writing & all->fs, true);
    case RULE_EXEC:
      return allow_path(rules, rule->text, (reading | FS_EXECUTE) & all->fs, false);
    case RULE_CONNECT:
      return allow_port(rules, rule->text, NET_CONNECT_TCP, all->net);
    case RULE_LISTEN:
      return allow_port(rules, rule->text, NET_BIND_TCP, all->net);
    default:
      return true;
  }
}

static bool allow_always(int rules, const sandbox* box, const char* program, const ruleset* all) {
  bool allowed =
      allow_path(rules, "/dev/null", (FS_READ_FILE | FS_WRITE_FILE | FS_TRUNCATE) & all->fs, false) &&
      allow_path(rules, "/dev/zero", FS_READ_FILE, false) &&
      allow_path(rules, "/dev/random", FS_READ_FILE, false) &&
      allow_path(rules, "/dev/urandom", FS_READ_FILE, false) &&
      allow_path(rules, program, (FS_READ_FILE | FS_EXECUTE) & all->fs, true);
  if (allowed && box->temporary[0] != '\0')
    allowed = allow_path(rules, box->temporary, writing & all->fs, true);
  for (size_t i = 0; allowed && landlock_own_files[i] != NULL; i++) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/%s", landlock_own_files[i]);
    allowed = allow_path(rules, path, FS_READ_FILE, false);
  }
  for (size_t i = 0; allowed && landlock_system_files[i] != NULL; i++)
    allowed = allow_path(rules, landlock_system_files[i], FS_READ_FILE, false);
  return allowed;
}

int landlock_rules(const sandbox* box, const char* program, int version) {
  ruleset all = handled(box, version);
  int rules = (int)syscall(CREATE_RULESET, &all, sizeof all, 0);
  if (rules < 0) {
    say("make", "rules of Landlock");
    return -1;
  }
  bool allowed = allow_always(rules, box, program, &all);
  for (size_t i = 0; allowed && i < box->rule_count; i++) allowed = allow(rules, &box->rules[i], &all);
  if (allowed) return rules;
  close(rules);
  return -1;
}

bool landlock_enter(int rules) {
  return syscall(RESTRICT_SELF, rules, 0) == 0 || say("enter", "the rules of Landlock");
}

#endif
