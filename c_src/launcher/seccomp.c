// The filter of system calls: a program in the kernel's own language (classic BPF), written down instruction by instruction.
//
// What is refused fails with EPERM, which Python raises as PermissionError, or with ENOSYS where libraries know another way then.
//
// A call that the filter does not name is allowed, since what may be reached by it is held by Landlock, the limits and the lack of
// capabilities. Named is what these do not hold: what looks into other processes or acts on them, what makes name spaces and mounts,
// what is known for faults of the kernel, files' modes, owners, times and attributes (of which no rule about folders is kept),
// memory that is counted nowhere, and sockets. Calls that are newer than this file do not exist for a worker.
//
// The filter sees numbers, never what pointers lead to. Above 400 lines, as it is one program.
#define _GNU_SOURCE
#include "sandbox.h"

#if HAS_SANDBOX

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCHITECTURE 0xC000003EU
#elif defined(__aarch64__)
#define ARCHITECTURE 0xC00000B7U
#else
#define ARCHITECTURE 0U
#endif

// BPF, and where the parts of a call are (struct seccomp_data). Both architectures are little-endian.
enum {
  LOAD = 0x20,
  EQUAL = 0x15,
  GREATER = 0x25,
  AT_LEAST = 0x35,
  ANY_BIT = 0x45,
  AND = 0x54,
  RETURN = 0x06
};
enum { NUMBER = 0, ARCH = 4, FIRST_ARGUMENT = 16 };
#define ALLOW 0x7fff0000U
#define FAIL(error) (0x00050000U | (uint32_t)(error))

enum {
  SET_MODE_FILTER = 1,
  ACTION_AVAILABLE = 2,
  X32_BIT = 0x40000000,
  // open_tree_attr, of Linux 6.15. From 424 on, all architectures have the same numbers.
  NEWEST_CALL = 467,
  MAX_CODE = 1024,
  MAX_SKIP = 255
};

// What of <sched.h>, <sys/socket.h> and <sys/mman.h> is asked for, by its number: not all C libraries have all.
enum {
  STREAM = 1,
  TYPE_MASK = 0xf,
  TCP = 6,
  FAST_OPEN = 0x20000000,
  IS_THREAD = 0x10000,
  EMPTY_PATH = 0x1000
};
enum {
  SHARED_NOWHERE = 0x20,
  MAP_TYPES = 0xf,
  MAP_OWN = 2,
  MEMORY_FILE_NO_EXEC = 8,
  MEMORY_FILE_HUGE = 4,
  MAKES = 0x400040
};
enum { SET_ID_BITS = 06000 };
#define NEW_NAMESPACES 0x7E020000U
#define NEW_TIME_NAMESPACE 0x80U

typedef struct {
  uint16_t code;
  uint8_t if_true;
  uint8_t if_false;
  uint32_t value;
} instruction;

typedef struct {
  instruction code[MAX_CODE];
  size_t size;
  bool broken;
} program;

static void put(program* made, uint16_t code, uint8_t if_true, uint8_t if_false, uint32_t value) {
  if (made->size == MAX_CODE) {
    made->broken = true;
    return;
  }
  made->code[made->size++] = (instruction){code, if_true, if_false, value};
}

static void finish(program* made, uint32_t result) { put(made, RETURN, 0, 0, result); }

// Lower halves: what is looked at has 32 bits in the kernel as well.
static void load_argument(program* made, int index) {
  put(made, LOAD, 0, 0, (uint32_t)(FIRST_ARGUMENT + 8 * index));
}

static void refuse(program* made, long call, int error) {
  put(made, EQUAL, 0, 1, (uint32_t)call);
  finish(made, FAIL(error));
}

// What follows is about one call, until `end`. It ends with a result on all ways, since the number is not loaded any more.
static size_t begin(program* made, long call) {
  put(made, EQUAL, 0, 0, (uint32_t)call);
  return made->size - 1;
}

static void end(program* made, size_t start) {
  size_t skip = made->size - start - 1;
  if (made->broken || skip > MAX_SKIP) {
    made->broken = true;
    return;
  }
  made->code[start].if_false = (uint8_t)skip;
}

static void allow_if_equal(program* made, uint32_t value) {
  put(made, EQUAL, 0, 1, value);
  finish(made, ALLOW);
}

static void refuse_unless_equal(program* made, uint32_t value, int error) {
  put(made, EQUAL, 1, 0, value);
  finish(made, FAIL(error));
}

static void refuse_if_any(program* made, uint32_t bits, int error) {
  put(made, ANY_BIT, 0, 1, bits);
  finish(made, FAIL(error));
}

// Whole calls. What one of the architectures does not have is not there.
static void refuse_calls(program* made) {
  static const int refused[] = {
      // Other processes.
      __NR_ptrace, __NR_process_vm_readv, __NR_process_vm_writev, __NR_kcmp, __NR_migrate_pages,
      __NR_move_pages, 438 /* pidfd_getfd */, 440 /* process_madvise */, 448 /* process_mrelease */,
      // Mounts, name spaces, the whole system.
      __NR_mount, __NR_umount2, __NR_pivot_root, __NR_chroot, __NR_setns, __NR_swapon, __NR_swapoff,
      __NR_reboot, __NR_sethostname, __NR_setdomainname, __NR_settimeofday, __NR_clock_settime,
      __NR_clock_adjtime, __NR_adjtimex, __NR_acct, __NR_syslog, __NR_vhangup, __NR_quotactl,
      443 /* quotactl_fd */, 428 /* open_tree */, 429 /* move_mount */, 430 /* fsopen */, 431 /* fsconfig */,
      432 /* fsmount */, 433 /* fspick */, 442 /* mount_setattr */, 457 /* statmount */, 458 /* listmount */,
      467 /* open_tree_attr */, __NR_kexec_load, __NR_kexec_file_load, __NR_init_module, __NR_finit_module,
      __NR_delete_module, __NR_nfsservctl, __NR_lookup_dcookie,
      // Large and seldom used parts of the kernel.
      __NR_keyctl, __NR_add_key, __NR_request_key, __NR_bpf, __NR_perf_event_open, __NR_fanotify_init,
      __NR_fanotify_mark, __NR_name_to_handle_at, __NR_open_by_handle_at,
      // What happens to files elsewhere.
      __NR_inotify_add_watch,
      // Modes, owners, times and attributes.
      __NR_fchmod, __NR_fchmodat, 452 /* fchmodat2 */, __NR_fchown, __NR_fchownat, __NR_utimensat,
      __NR_setxattr, __NR_lsetxattr, __NR_fsetxattr, __NR_removexattr, __NR_lremovexattr, __NR_fremovexattr,
      463 /* setxattrat */, 466 /* removexattrat */,
      // Memory and queues that belong to nobody, and are not counted.
      __NR_shmget, __NR_shmat, __NR_shmctl, __NR_shmdt, __NR_semget, __NR_semctl, __NR_semop, __NR_semtimedop,
      __NR_msgget, __NR_msgctl, __NR_msgsnd, __NR_msgrcv, __NR_mq_open, __NR_mq_unlink,
      447 /* memfd_secret */};
  for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) refuse(made, refused[i], EPERM);
#if defined(__x86_64__)
  static const int old[] = {__NR_chmod,     __NR_chown, __NR_lchown, __NR_utime,      __NR_utimes,
                            __NR_futimesat, __NR_iopl,  __NR_ioperm, __NR_modify_ldt, __NR_create_module,
                            __NR_uselib,    __NR_sysfs, __NR_ustat};
  for (size_t i = 0; i < sizeof old / sizeof *old; i++) refuse(made, old[i], EPERM);
#endif
  // Libraries take these for missing, and do without. The filter could not look at what clone3 and openat2 are asked for.
  static const int missing[] = {
      425 /* io_uring_setup */, 426 /* io_uring_enter */, 427 /* io_uring_register */,
      __NR_userfaultfd,         435 /* clone3 */,         437 /* openat2 */};
  for (size_t i = 0; i < sizeof missing / sizeof *missing; i++) refuse(made, missing[i], ENOSYS);
}

// Those that take the number of a process, 0 for the own one; some say before it whose number it is: 0 and 1 are a process's.
static void only_for_itself(program* made) {
  static const struct {
    int call;
    int argument;
    uint32_t kind;
  } calls[] = {{__NR_prlimit64, 0, 0},      {__NR_sched_setaffinity, 0, 0}, {__NR_sched_setscheduler, 0, 0},
               {__NR_sched_setparam, 0, 0}, {__NR_sched_setattr, 0, 0},     {__NR_setpriority, 1, 0},
               {__NR_ioprio_set, 1, 1}};
  for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
    size_t start = begin(made, calls[i].call);
    if (calls[i].argument == 1) {
      load_argument(made, 0);
      refuse_unless_equal(made, calls[i].kind, EPERM);
    }
    load_argument(made, calls[i].argument);
    refuse_unless_equal(made, 0, EPERM);
    finish(made, ALLOW);
    end(made, start);
  }
}

static void processes(program* made, const filter_options* chosen) {
  // A signal to all would go to those within, but say that it went to all.
  size_t start = begin(made, __NR_kill);
  load_argument(made, 0);
  put(made, EQUAL, 0, 1, UINT32_MAX);
  finish(made, FAIL(EPERM));
  finish(made, ALLOW);
  end(made, start);
  start = begin(made, __NR_clone);
  load_argument(made, 0);
  refuse_if_any(made, NEW_NAMESPACES, EPERM);
  if (!chosen->forks) {
    put(made, ANY_BIT, 1, 0, IS_THREAD);
    finish(made, FAIL(EPERM));
  }
  finish(made, ALLOW);
  end(made, start);
#if defined(__x86_64__)
  if (!chosen->forks) {
    refuse(made, __NR_fork, EPERM);
    refuse(made, __NR_vfork, EPERM);
  }
#endif
  start = begin(made, __NR_unshare);
  load_argument(made, 0);
  refuse_if_any(made, NEW_NAMESPACES | NEW_TIME_NAMESPACE, EPERM);
  finish(made, ALLOW);
  end(made, start);
}

// The worker is run by a descriptor that cannot be had a second time: it is above the limit of descriptors, and closed then.
static void programs(program* made, const filter_options* chosen) {
  if (chosen->exec_fd < 0) return;
  refuse(made, __NR_execve, EPERM);
  size_t start = begin(made, __NR_execveat);
  load_argument(made, 0);
  refuse_unless_equal(made, (uint32_t)chosen->exec_fd, EPERM);
  load_argument(made, 4);
  refuse_unless_equal(made, EMPTY_PATH, EPERM);
  finish(made, ALLOW);
  end(made, start);
}

static void refuse_flags(program* made, long call, int argument, uint32_t bits) {
  size_t start = begin(made, call);
  load_argument(made, argument);
  refuse_if_any(made, bits, EPERM);
  finish(made, ALLOW);
  end(made, start);
}

// TCP only, as Landlock knows the ports of nothing else. A pair of streams cannot be connected anew; of datagrams it could.
static void sockets(program* made, const filter_options* chosen) {
  bool any = chosen->connects || chosen->listens;
  size_t start = begin(made, __NR_socket);
  if (any) {
    load_argument(made, 0);
    put(made, EQUAL, 2, 0, 2);   // AF_INET
    put(made, EQUAL, 1, 0, 10);  // AF_INET6
    finish(made, FAIL(EPERM));
    load_argument(made, 1);
    put(made, AND, 0, 0, TYPE_MASK);
    refuse_unless_equal(made, STREAM, EPERM);
    load_argument(made, 2);
    allow_if_equal(made, 0);
    allow_if_equal(made, TCP);
  }
  finish(made, FAIL(EPERM));
  end(made, start);

  start = begin(made, __NR_socketpair);
  load_argument(made, 0);
  refuse_unless_equal(made, 1, EPERM);  // AF_UNIX
  load_argument(made, 1);
  put(made, AND, 0, 0, TYPE_MASK);
  refuse_unless_equal(made, STREAM, EPERM);
  finish(made, ALLOW);
  end(made, start);

  if (!chosen->connects) refuse(made, __NR_connect, EPERM);
  if (!chosen->listens) {
    static const int server[] = {__NR_bind, __NR_listen, __NR_accept, __NR_accept4};
    for (size_t i = 0; i < sizeof server / sizeof *server; i++) refuse(made, server[i], EPERM);
  }
  // It connects without being asked where to.
  refuse_flags(made, __NR_sendto, 3, FAST_OPEN);
  refuse_flags(made, __NR_sendmsg, 2, FAST_OPEN);
  refuse_flags(made, __NR_sendmmsg, 3, FAST_OPEN);
}

// No file is made that runs as its owner.
static void modes(program* made) {
  static const struct {
    int call;
    int flags;
    int mode;
  } calls[] = {{__NR_openat, 2, 3},
               {__NR_mknodat, -1, 2},
#if defined(__x86_64__)
               {__NR_open, 1, 2},
               {__NR_creat, -1, 1},
               {__NR_mknod, -1, 1}
#endif
  };
  for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
    size_t start = begin(made, calls[i].call);
    if (calls[i].flags >= 0) {
      load_argument(made, calls[i].flags);
      put(made, ANY_BIT, 1, 0, MAKES);
      finish(made, ALLOW);
    }
    load_argument(made, calls[i].mode);
    refuse_if_any(made, SET_ID_BITS, EPERM);
    finish(made, ALLOW);
    end(made, start);
  }
}

static void memory(program* made, const filter_options* chosen) {
  size_t start = begin(made, __NR_memfd_create);
  load_argument(made, 1);
  refuse_if_any(made, MEMORY_FILE_HUGE, EPERM);
  put(made, ANY_BIT, 1, 0, MEMORY_FILE_NO_EXEC);
  finish(made, FAIL(EPERM));
  finish(made, ALLOW);
  end(made, start);
  if (chosen->shares_memory) return;
  // The limit does not count it.
  start = begin(made, __NR_mmap);
  load_argument(made, 3);
  put(made, ANY_BIT, 1, 0, SHARED_NOWHERE);
  finish(made, ALLOW);
  put(made, AND, 0, 0, MAP_TYPES);
  refuse_unless_equal(made, MAP_OWN, EPERM);
  finish(made, ALLOW);
  end(made, start);
}

// Descriptors and terminals; nothing that a file system or a device has of its own.
static void controls(program* made) {
  static const uint32_t allowed[] = {0x5401 /* TCGETS */,
                                     0x802C542A /* TCGETS2 */,
                                     0x540F /* TIOCGPGRP */,
                                     0x5411 /* TIOCOUTQ */,
                                     0x5413 /* TIOCGWINSZ */,
                                     0x541B /* FIONREAD */,
                                     0x5421 /* FIONBIO */,
                                     0x5450 /* FIONCLEX */,
                                     0x5451 /* FIOCLEX */,
                                     0x8905 /* SIOCATMARK */,
                                     0x8907 /* SIOCGSTAMPNS */};
  size_t start = begin(made, __NR_ioctl);
  load_argument(made, 1);
  for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++) allow_if_equal(made, allowed[i]);
  finish(made, FAIL(EPERM));
  end(made, start);

  static const uint32_t refused[] = {1 /* PR_SET_PDEATHSIG */, 35 /* PR_SET_MM */,
                                     36 /* PR_SET_CHILD_SUBREAPER */, 0x59616D61 /* PR_SET_PTRACER */};
  start = begin(made, __NR_prctl);
  load_argument(made, 0);
  for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
    put(made, EQUAL, 0, 1, refused[i]);
    finish(made, FAIL(EPERM));
  }
  finish(made, ALLOW);
  end(made, start);

  start = begin(made, __NR_personality);
  load_argument(made, 0);
  allow_if_equal(made, 0xFFFFFFFFU);
  refuse_unless_equal(made, 0, EPERM);
  finish(made, ALLOW);
  end(made, start);
}

bool filter_available(void) {
  uint32_t action = 0x00050000U;
  return ARCHITECTURE != 0U && syscall(__NR_seccomp, ACTION_AVAILABLE, 0, &action) == 0;
}

bool filter_install(const filter_options* chosen) {
  static program made;
  put(&made, LOAD, 0, 0, ARCH);
  refuse_unless_equal(&made, ARCHITECTURE, ENOSYS);
  put(&made, LOAD, 0, 0, NUMBER);
#if defined(__x86_64__)
  put(&made, AT_LEAST, 0, 1, X32_BIT);
  finish(&made, FAIL(ENOSYS));
#endif
  put(&made, GREATER, 0, 1, NEWEST_CALL);
  finish(&made, FAIL(ENOSYS));
  refuse_calls(&made);
  // Landlock knows of it from its third version on.
  if (!chosen->truncates) refuse(&made, __NR_truncate, EPERM);
  only_for_itself(&made);
  processes(&made, chosen);
  programs(&made, chosen);
  sockets(&made, chosen);
  modes(&made);
  memory(&made, chosen);
  controls(&made);
  finish(&made, ALLOW);
  const struct {
    uint16_t size;
    const instruction* code;
  } filter = {(uint16_t)made.size, made.code};
  if (!made.broken && syscall(__NR_seccomp, SET_MODE_FILTER, 0, &filter) == 0) return true;
  fprintf(stderr, "the sandbox cannot set its filter of system calls: %s\n",
          made.broken ? "it is too long" : strerror(errno));
  return false;
}

#endif
