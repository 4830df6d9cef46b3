// What a worker may do, held by the kernel: from the moment it is started on, for it and for all that it starts.
//
//   Landlock   which folders may be read and written, what may be run, which ports may be connected to and listened on, and that no
//              process outside is sent signals.
//   seccomp    which system calls there are (seccomp.c).
//   limits     of memory, files, processes and time, per process.
//   the rest   no capabilities, no new privileges by programs, an environment of what is named, no descriptors but 0 to 4, and a
//              folder for temporary files of its own, which goes with the worker.
//
// All is asked for by arguments, which the VM's side makes (lib/pythonx/pool/sandbox.ex): the launcher knows no Python. What the
// kernel lacks is refused, unless `-best_effort` is among them.
//
// For systems other than Linux there is nothing: every worker with a sandbox is refused.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#if defined(__linux__)
#define HAS_SANDBOX 1
#else
#define HAS_SANDBOX 0
#endif

enum { MAX_RULES = 4096, SANDBOX_PATH = 1024 };

typedef enum { RULE_READ, RULE_WRITE, RULE_EXEC, RULE_CONNECT, RULE_LISTEN, RULE_KEEP } rule_kind;

typedef struct {
  rule_kind kind;
  const char* text;
} sandbox_rule;

// A limit of `NO_LIMIT` is none.
#define NO_LIMIT UINT64_MAX

typedef struct {
  bool wanted;
  bool best_effort;
  bool keeps_environment;
  uint64_t processes;
  uint64_t files;
  uint64_t file_size;
  uint64_t cpu_time;
  uint64_t memory;
  // The highest version of Landlock to use: a test is on an older kernel by that.
  uint64_t landlock;
  const char* temporary_base;
  sandbox_rule rules[MAX_RULES];
  size_t rule_count;
  // The folder for temporary files; empty where there is none.
  char temporary[SANDBOX_PATH];
  int temporary_lock;
  // Why the worker cannot be started, found out before it is forked.
  char problem[256];
} sandbox;

// What this kernel holds of what is asked for.
typedef struct {
  int landlock;
  bool files;
  bool ports;
  bool signals;
  bool system_calls;
  bool processes;
} sandbox_report;

// Takes one argument, such as "-read=/usr/lib". False where it is none of ours.
bool sandbox_argument(sandbox* box, const char* argument);

bool sandbox_has(const sandbox* box, rule_kind kind);

sandbox_report sandbox_examine(const sandbox* box);

// One line for each thing that is asked for: "holds signals", or "lacks signals: why"; without a file nothing. Whether the
// worker can be started.
bool sandbox_tell(const sandbox* box, FILE* file);

// In the launcher, before the fork.
void sandbox_prepare(sandbox* box);

// In the launcher, after the fork.
void sandbox_watch(const sandbox* box, pid_t worker);

// In the worker, in place of execv. Returns when that fails, with a text on standard error.
void sandbox_exec(sandbox* box, char** command);

// In the launcher, when nothing of the worker is left.
void sandbox_end(sandbox* box);

#if HAS_SANDBOX

// What the filter lets through, and what not. `exec_fd` is the one descriptor that may be run, once; -1: Landlock decides.
typedef struct {
  bool connects;
  bool listens;
  bool truncates;
  bool forks;
  bool shares_memory;
  int exec_fd;
} filter_options;

bool filter_available(void);
bool filter_install(const filter_options* chosen);

// The version of Landlock, 0 where there is none.
int landlock_version(void);

// The files of /proc that a worker sees of itself, below its folder, and of the system. NULL ends each.
extern const char* const landlock_own_files[];
extern const char* const landlock_system_files[];

// Returns the descriptor of a set of rules that `landlock_enter` takes, or -1 with a text on standard error.
int landlock_rules(const sandbox* box, const char* program, int version);
bool landlock_enter(int rules);

// A folder for one worker, locked by a descriptor: one whose lock is free belongs to nobody any more, and is removed by the next that
// makes one.
bool temporary_make(const char* base, char* path, size_t size, int* lock);
void temporary_remove(const char* path, int lock);

#endif
