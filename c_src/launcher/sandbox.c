#define _GNU_SOURCE
#include "sandbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool number(const char* text, uint64_t* value) {
  char* end = NULL;
  errno = 0;
  *value = strtoull(text, &end, 10);
  return errno == 0 && end != text && *end == '\0';
}

static bool add_rule(sandbox* box, rule_kind kind, const char* text) {
  if (box->rule_count == MAX_RULES) return false;
  box->rules[box->rule_count++] = (sandbox_rule){kind, text};
  return true;
}

bool sandbox_argument(sandbox* box, const char* argument) {
  static const struct {
    const char* name;
    rule_kind kind;
  } rules[] = {{"-read=", RULE_READ},       {"-write=", RULE_WRITE},   {"-exec=", RULE_EXEC},
               {"-connect=", RULE_CONNECT}, {"-listen=", RULE_LISTEN}, {"-keep=", RULE_KEEP}};
  const struct {
    const char* name;
    uint64_t* value;
  } numbers[] = {{"-processes=", &box->processes}, {"-files=", &box->files},
                 {"-file_size=", &box->file_size}, {"-cpu_time=", &box->cpu_time},
                 {"-memory=", &box->memory},       {"-landlock=", &box->landlock}};
  if (strcmp(argument, "-sandbox") == 0) {
    *box = (sandbox){.wanted = true,
                     .processes = NO_LIMIT,
                     .files = NO_LIMIT,
                     .file_size = NO_LIMIT,
                     .cpu_time = NO_LIMIT,
                     .memory = NO_LIMIT,
                     .landlock = NO_LIMIT,
                     .temporary_lock = -1};
    return true;
  }
  if (!box->wanted) return false;
  if (strcmp(argument, "-best_effort") == 0) return box->best_effort = true;
  if (strcmp(argument, "-keep") == 0) return box->keeps_environment = true;
  if (strncmp(argument, "-temporary=", 11) == 0) return (box->temporary_base = argument + 11) != NULL;
  for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
    size_t length = strlen(rules[i].name);
    if (strncmp(argument, rules[i].name, length) == 0) return add_rule(box, rules[i].kind, argument + length);
  }
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    size_t length = strlen(numbers[i].name);
    if (strncmp(argument, numbers[i].name, length) == 0) return number(argument + length, numbers[i].value);
  }
  return false;
}

bool sandbox_has(const sandbox* box, rule_kind kind) {
  for (size_t i = 0; i < box->rule_count; i++)
    if (box->rules[i].kind == kind) return true;
  return false;
}

#if HAS_SANDBOX

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { FIRST_CLOSED_FD = 5, NO_ROOT_LOCKED = 0x2F, CAPABILITY_VERSION = 0x20080522, LAST_CAPABILITY = 63 };
enum { CLOSE_RANGE = 436, EXECVEAT_EMPTY_PATH = 0x1000 };

sandbox_report sandbox_examine(const sandbox* box) {
  bool ports = sandbox_has(box, RULE_CONNECT) || sandbox_has(box, RULE_LISTEN);
  sandbox_report report = {.landlock = landlock_version(), .system_calls = filter_available()};
  if ((uint64_t)report.landlock > box->landlock) report.landlock = (int)box->landlock;
  report.files = report.landlock >= 1;
  report.ports = ports ? report.landlock >= 4 && report.system_calls : report.system_calls;
  report.signals = report.landlock >= 6;
  // Nor are the processes of root counted.
  report.processes = box->processes == 0 ? report.system_calls : box->processes == NO_LIMIT || getuid() != 0;
  return report;
}

static bool tell_one(FILE* file, const char* what, bool held, const char* why) {
  if (file != NULL && held) fprintf(file, "holds %s\n", what);
  if (file != NULL && !held) fprintf(file, "lacks %s: %s\n", what, why);
  return held;
}

bool sandbox_tell(const sandbox* box, FILE* file) {
  sandbox_report report = sandbox_examine(box);
  if (file != NULL) fprintf(file, "landlock %d\n", report.landlock);
  bool files = tell_one(file, "files", report.files, "that needs Linux 5.13 with Landlock");
  bool ports = tell_one(file, "ports", report.ports, "that needs Linux 6.7 with Landlock, version 4");
  bool signals = tell_one(file, "signals", report.signals, "that needs Linux 6.12 with Landlock, version 6");
  bool calls = tell_one(file, "system_calls", report.system_calls, "that needs seccomp, and x86-64 or arm64");
  bool processes = tell_one(file, "processes", report.processes,
                            "the processes of root are not counted, only `processes: 0` holds");
  return box->best_effort || (files && ports && signals && calls && processes);
}

void sandbox_prepare(sandbox* box) {
  if (box->temporary_base == NULL) return;
  if (!temporary_make(box->temporary_base, box->temporary, sizeof box->temporary, &box->temporary_lock))
    snprintf(box->problem, sizeof box->problem, "the sandbox cannot make a folder in %.100s: %s",
             box->temporary_base, strerror(errno));
}

// An entry of /proc that nobody holds may be forgotten by the kernel, and come back as another, which no rule allows. So they are held
// here, for as long as the launcher lives.
static void hold(const char* path) { (void)!open(path, O_PATH | O_CLOEXEC); }

void sandbox_watch(const sandbox* box, pid_t worker) {
  if (!box->wanted) return;
  for (size_t i = 0; landlock_own_files[i] != NULL; i++) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)worker, landlock_own_files[i]);
    hold(path);
  }
  for (size_t i = 0; landlock_system_files[i] != NULL; i++) hold(landlock_system_files[i]);
}

void sandbox_end(sandbox* box) {
  if (box->temporary[0] != '\0') temporary_remove(box->temporary, box->temporary_lock);
}

static bool say(const char* what) {
  fprintf(stderr, "the sandbox cannot %s: %s\n", what, strerror(errno));
  return false;
}

// Threads and processes of this user.
static uint64_t tasks_now(void) {
  uint64_t count = 0;
  DIR* list = opendir("/proc");
  struct dirent* entry = NULL;
  while (list != NULL && (entry = readdir(list)) != NULL) {  // NOLINT(concurrency-mt-unsafe)
    char path[300];
    struct stat info;
    if (entry->d_name[0] < '0' || entry->d_name[0] > '9') continue;
    snprintf(path, sizeof path, "/proc/%s/task", entry->d_name);
    // One link for each, and two that every folder has.
    if (stat(path, &info) == 0 && info.st_uid == getuid()) count += info.st_nlink > 2 ? info.st_nlink - 2 : 1;
  }
  if (list != NULL) closedir(list);
  return count;
}

static bool limit(int resource, uint64_t most) {
  struct rlimit both;
  if (getrlimit(resource, &both) != 0) return false;
  if (both.rlim_max == RLIM_INFINITY || both.rlim_max > most) both.rlim_max = most;
  both.rlim_cur = both.rlim_max;
  // The end of time has a signal of its own, which is sent a second before SIGKILL.
  if (resource == RLIMIT_CPU && both.rlim_max == most) both.rlim_max++;
  return setrlimit(resource, &both) == 0;
}

static bool set_limits(const sandbox* box) {
  bool set = limit(RLIMIT_CORE, 0) && limit(RLIMIT_MSGQUEUE, 0);
  if (set && box->memory != NO_LIMIT) set = limit(RLIMIT_DATA, box->memory);
  if (set && box->file_size != NO_LIMIT) set = limit(RLIMIT_FSIZE, box->file_size);
  if (set && box->cpu_time != NO_LIMIT) set = limit(RLIMIT_CPU, box->cpu_time);
  if (set && box->files != NO_LIMIT) set = limit(RLIMIT_NOFILE, box->files);
  if (set && box->processes != NO_LIMIT && box->processes > 0 && getuid() != 0)
    set = limit(RLIMIT_NPROC, tasks_now() + box->processes);
  // Who writes more than a file may hold is to get an error.
  signal(SIGXFSZ, SIG_IGN);
  return set || say("set its limits");
}

// Of a worker that root has started none is left, and none can come back.
static bool drop_capabilities(void) {
  struct {
    uint32_t version;
    int pid;
  } header = {CAPABILITY_VERSION, 0};
  struct {
    uint32_t effective, permitted, inheritable;
  } none[2] = {{0, 0, 0}, {0, 0, 0}};
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  // Both need a capability themselves. Who has none has none to lose.
  for (int capability = 0; capability <= LAST_CAPABILITY; capability++)
    prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
  prctl(PR_SET_SECUREBITS, NO_ROOT_LOCKED, 0, 0, 0);
  if (syscall(__NR_capset, &header, none) != 0) return say("drop its capabilities");
  // With this the rest could not come back by a program either.
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 || say("refuse new privileges");
}

static bool close_others(void) {
  if (syscall(CLOSE_RANGE, FIRST_CLOSED_FD, ~0U, 0) == 0) return true;
  // Before Linux 5.9, which has no Landlock either.
  for (int fd = FIRST_CLOSED_FD; fd < 65536; fd++) close(fd);
  return true;
}

// The program as a descriptor with a number that none will have again: the limit of descriptors. Closed when it is run.
static int open_program(sandbox* box, const char* program) {
  struct rlimit now;
  if (getrlimit(RLIMIT_NOFILE, &now) != 0) return -1;
  now.rlim_cur = now.rlim_max;
  setrlimit(RLIMIT_NOFILE, &now);
  if (box->files == NO_LIMIT || box->files >= now.rlim_max)
    box->files = now.rlim_max > 65536 ? 65536 : now.rlim_max - 1;
  int fd = open(program, O_PATH | O_CLOEXEC);
  if (fd < 0) return -1;
  int moved = dup3(fd, (int)box->files, O_CLOEXEC);
  close(fd);
  return moved;
}

static bool is_kept(const sandbox* box, const char* variable) {
  if (box->keeps_environment) return true;
  for (size_t i = 0; i < box->rule_count; i++) {
    size_t length = strlen(box->rules[i].text);
    if (box->rules[i].kind == RULE_KEEP && strncmp(variable, box->rules[i].text, length) == 0 &&
        variable[length] == '=')
      return true;
  }
  return false;
}

static bool named(char* const* variables, size_t count, const char* name) {
  for (size_t i = 0; i < count; i++)
    if (strncmp(variables[i], name, strlen(name)) == 0) return true;
  return false;
}

// The folder for temporary files is the worker's home, too, unless the VM says otherwise.
static char** make_environment(const sandbox* box) {
  static const char* const homes[] = {"TMPDIR=", "HOME="};
  size_t all = 0;
  while (environ[all] != NULL) all++;
  char** kept = calloc(all + 3, sizeof *kept);
  size_t count = 0;
  for (size_t i = 0; kept != NULL && i < all; i++)
    if (is_kept(box, environ[i])) kept[count++] = environ[i];
  for (size_t i = 0; kept != NULL && box->temporary[0] != '\0' && i < 2; i++) {
    if (named(kept, count, homes[i]) && (i == 1 || !box->keeps_environment)) continue;
    size_t size = strlen(homes[i]) + strlen(box->temporary) + 1;
    char* variable = malloc(size);
    if (variable == NULL) {
      free(kept);
      return NULL;
    }
    snprintf(variable, size, "%s%s", homes[i], box->temporary);
    kept[count++] = variable;
  }
  return kept;
}

static bool enter(sandbox* box, const sandbox_report* report, const char* program, int rules) {
  filter_options chosen = {.connects = sandbox_has(box, RULE_CONNECT),
                           .listens = sandbox_has(box, RULE_LISTEN),
                           .truncates = report->landlock >= 3,
                           .forks = box->processes != 0,
                           .shares_memory = box->memory == NO_LIMIT,
                           .exec_fd = -1};
  bool once = report->system_calls && !sandbox_has(box, RULE_EXEC);
  if (once && (chosen.exec_fd = open_program(box, program)) < 0) return say("open its program");
  return set_limits(box) && drop_capabilities() && (rules < 0 || landlock_enter(rules)) &&
         (!report->system_calls || filter_install(&chosen));
}

void sandbox_exec(sandbox* box, char** command) {
  if (box->problem[0] != '\0') {
    fprintf(stderr, "%s\n", box->problem);
    return;
  }
  // Of the process that becomes the worker, and given back with it.
  static char** environment;
  environment = make_environment(box);
  sandbox_report report = sandbox_examine(box);
  if (!sandbox_tell(box, NULL)) {
    sandbox_tell(box, stderr);
    fprintf(stderr, "the sandbox cannot be had here\n");
    return;
  }
  if (environment == NULL || (box->temporary[0] != '\0' && chdir(box->temporary) != 0)) {
    say("begin");
    return;
  }
  close_others();
  int rules = -1;
  if (report.files && (rules = landlock_rules(box, command[0], report.landlock)) < 0) return;
  if (!enter(box, &report, command[0], rules)) return;
  if (report.system_calls && !sandbox_has(box, RULE_EXEC))
    syscall(__NR_execveat, (int)box->files, "", command, environment, EXECVEAT_EMPTY_PATH);
  else
    execve(command[0], command, environment);  // NOLINT(clang-analyzer-optin.taint.GenericTaint)
  fprintf(stderr, "cannot run %s: %s\n", command[0], strerror(errno));
}

#else

static const char lacking[] = "this system has neither Landlock nor seccomp, only Linux does";

sandbox_report sandbox_examine(const sandbox* box) {
  (void)box;
  return (sandbox_report){0};
}

bool sandbox_tell(const sandbox* box, FILE* file) {
  (void)box;
  fprintf(file, "lacks everything: %s\n", lacking);
  return false;
}

void sandbox_prepare(sandbox* box) { (void)box; }

void sandbox_watch(const sandbox* box, pid_t worker) {
  (void)box;
  (void)worker;
}

void sandbox_exec(sandbox* box, char** command) {
  (void)box;
  (void)command;
  fprintf(stderr, "the sandbox cannot be had here: %s\n", lacking);
}

void sandbox_end(sandbox* box) { (void)box; }

#endif
