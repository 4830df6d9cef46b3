// Runs a worker of Pythonx.Pool: a Python that may crash, hang or fill its memory. The launcher stands
// between the VM that wants the worker and the worker, and is the one of the three that no Python code runs in.
//
//     VM -- pipes 0 and 1 --> launcher -- the same pipes, as 3 and 4 --> worker
//                             launcher <-- pipe, as 1 and 2 ----------- worker
//
// What it is there for:
//   - The worker speaks with the VM on descriptors 3 and 4. On 0, 1 and 2 it has /dev/null and a pipe to here: what
//     Python, C code and their child processes print cannot get between the messages.
//   - The last bytes of that output are kept, and told to the VM when the worker has ended, with how it ended.
//   - When the VM ends, however it ends, nothing of the worker is left. That the VM is gone shows by the hang-up of
//     descriptor 0, of which the VM has the other end. A worker that hangs in C code is killed as any other.
//
// What is told at the end is the last that comes through descriptor 1. The worker may have died in the middle of a
// message, so it is found from the end, not from the beginning:
//
//     255 255 255 255, output, bytes that the worker has not read (4 bytes), length of the output (4 bytes),
//     kind (1: exited, 2: by signal), number (1 byte), mark
//
// The first four bytes are told at once. The VM answers them by the mark, after which it writes no more: so much of what it has
// written the worker has not read. By that the VM knows whether the worker can have begun with what it was told last.
//
// The first four bytes are a size that no message has: where a message ought to begin, this is not taken for one.
//
// Ownership: the launcher has one child, the worker, leader of a process group. What leaves the group is found and killed
// too, in the way that the system has for that (family.h). Descriptors 0 and 1 are read and written here only after the worker is gone.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "family.h"
#include "sandbox.h"

enum {
  REQUEST_FD = 3,
  REPLY_FD = 4,
  FIRST_FREE_FD = 10,
  CANNOT_RUN = 127,
  ABORT_GRACE_MS = 500,
  MAX_KEPT = 1 << 20
};

static const unsigned char end_mark[16] = {0x70, 0x79, 0x74, 0x68, 0x6f, 0x6e, 0x78, 0x00,
                                           0xe3, 0x1b, 0x9d, 0x52, 0xc7, 0x46, 0xaf, 0x08};

typedef struct {
  long nice;
  size_t kept_size;
  bool echo;
  char** command;
} options;

// The last `size` bytes of all that was added: a ring that begins at `next` once it is full.
typedef struct {
  unsigned char bytes[MAX_KEPT];
  size_t size;
  size_t next;
  bool full;
} tail;

// Of this only what is used takes memory.
static tail kept_output;

static pid_t worker;
static int signal_pipe[2];
static sandbox box;

static void tail_add(tail* kept, const unsigned char* bytes, size_t count) {
  for (size_t i = 0; i < count && kept->size > 0; i++) {
    kept->bytes[kept->next] = bytes[i];
    kept->next = (kept->next + 1) % kept->size;
    kept->full = kept->full || kept->next == 0;
  }
}

static void write_all(int fd, const unsigned char* bytes, size_t count) {
  while (count > 0) {
    ssize_t written = write(fd, bytes, count);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    bytes += written;
    count -= (size_t)written;
  }
}

// Signals become bytes in a pipe, so that one poll waits for everything.
static void on_signal(int number) {
  int saved = errno;
  unsigned char byte = (unsigned char)number;
  ssize_t ignored = write(signal_pipe[1], &byte, 1);
  (void)ignored;
  errno = saved;
}

static bool make_pipe(int ends[2]) {
  if (pipe(ends) != 0) return false;
  for (int i = 0; i < 2; i++) {
    // Out of the way of the numbers that the worker gets.
    int moved = fcntl(ends[i], F_DUPFD_CLOEXEC, FIRST_FREE_FD);
    if (moved < 0) return false;
    close(ends[i]);
    ends[i] = moved;
  }
  return true;
}

static void catch_signals(void) {
  static const int caught[] = {SIGCHLD, SIGTERM, SIGHUP, SIGINT};
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
  sigemptyset(&action.sa_mask);
  for (size_t i = 0; i < sizeof caught / sizeof *caught; i++) sigaction(caught[i], &action, NULL);
  signal(SIGPIPE, SIG_IGN);
}

static void reset_signals(void) {
  static const int caught[] = {SIGCHLD, SIGTERM, SIGHUP, SIGINT, SIGPIPE};
  for (size_t i = 0; i < sizeof caught / sizeof *caught; i++) signal(caught[i], SIG_DFL);
}

// Each of these is a courtesy to the machine that may be refused without harm.
static void limit_worker(const options* chosen) {
  // From where the VM is, which may have been started with less than others already.
  if (chosen->nice != 0 && nice((int)chosen->nice) == -1) errno = 0;
  struct rlimit no_core = {0, 0};
  if (getrlimit(RLIMIT_CORE, &no_core) == 0) {
    no_core.rlim_cur = 0;
    setrlimit(RLIMIT_CORE, &no_core);
  }
  // When memory runs out, the kernel (of Linux) takes a worker before the VM.
  int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (fd >= 0) {
    write_all(fd, (const unsigned char*)"500", 3);
    close(fd);
  }
}

// In the child, between fork and exec. The launcher has one thread, so anything may be called.
static void become_worker(const options* chosen, int output) {
  setpgid(0, 0);
  family_enter();
  reset_signals();
  limit_worker(chosen);
  // Above the numbers that are given out now.
  int null = fcntl(open("/dev/null", O_RDONLY), F_DUPFD_CLOEXEC, FIRST_FREE_FD);
  bool ready = dup2(STDIN_FILENO, REQUEST_FD) >= 0 && dup2(STDOUT_FILENO, REPLY_FD) >= 0 &&
               dup2(null, STDIN_FILENO) >= 0 && dup2(output, STDOUT_FILENO) >= 0 &&
               dup2(output, STDERR_FILENO) >= 0;
  // To run what it is told to is what a launcher is for.
  if (ready && box.wanted) {
    sandbox_exec(&box, chosen->command);
    _exit(CANNOT_RUN);
  }
  if (ready) execv(chosen->command[0], chosen->command);  // NOLINT(clang-analyzer-optin.taint.GenericTaint)
  fprintf(stderr, "cannot run %s: %s\n", chosen->command[0], strerror(errno));
  _exit(CANNOT_RUN);
}

static int64_t now_ms(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

// Takes the status of every child that has ended. Returns whether the worker was among them.
static bool reap(int* status) {
  bool worker_ended = false;
  for (;;) {
    int ended_status = 0;
    pid_t ended = waitpid(-1, &ended_status, WNOHANG);
    if (ended <= 0) return worker_ended;
    if (ended == worker) {
      worker_ended = true;
      *status = ended_status;
    }
  }
}

// The group first. What had left it is found one generation at a time.
static void kill_everything(void) {
  enum { ROUNDS = 1000 };
  int ignored = 0;
  kill(-worker, SIGKILL);
  for (int round = 0; round < ROUNDS; round++) {
    reap(&ignored);
    if (!family_kill()) return;
    poll(NULL, 0, 1);
  }
}

// Reads what is there. Returns whether more may come: a worker may close its descriptors and live on.
static bool read_output(int output, tail* kept, bool echo) {
  unsigned char bytes[4096];
  ssize_t count = 0;
  while ((count = read(output, bytes, sizeof bytes)) > 0) {
    tail_add(kept, bytes, (size_t)count);
    if (echo) write_all(STDERR_FILENO, bytes, (size_t)count);
  }
  return count < 0;
}

static void put_length(unsigned char* bytes, size_t length) {
  for (int i = 0; i < 4; i++) bytes[i] = (unsigned char)(length >> (8 * (3 - i)));
}

// How much the worker has not read, when it is gone. The VM may write until it hears of that, and then says so by the mark. One
// that hears nothing, as the worker was cut off in the middle of a message, or has no time, is not waited for.
static size_t drain_unread(void) {
  enum { PATIENCE_MS = 500 };
  unsigned char bytes[65536];
  unsigned char last[sizeof end_mark] = {0};
  size_t unread = 0;
  int64_t until = now_ms() + PATIENCE_MS;
  struct pollfd in = {STDIN_FILENO, POLLIN, 0};
  while (memcmp(last, end_mark, sizeof last) != 0) {
    int64_t left = until - now_ms();
    if (left <= 0 || poll(&in, 1, (int)left) <= 0) return unread;
    ssize_t count = read(STDIN_FILENO, bytes, sizeof bytes);
    if (count <= 0) return unread;
    size_t taken = (size_t)count < sizeof last ? (size_t)count : sizeof last;
    memmove(last, last + taken, sizeof last - taken);
    memcpy(last + sizeof last - taken, bytes + count - taken, taken);
    unread += (size_t)count;
  }
  return unread - sizeof last;
}

static void tell_end(const tail* kept, int status) {
  static const unsigned char no_size[4] = {255, 255, 255, 255};
  unsigned char end[10 + sizeof end_mark];
  write_all(STDOUT_FILENO, no_size, sizeof no_size);
  put_length(end, drain_unread());
  put_length(end + 4, kept->full ? kept->size : kept->next);
  end[8] = WIFSIGNALED(status) ? 2 : 1;
  end[9] = (unsigned char)(WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
  memcpy(end + 10, end_mark, sizeof end_mark);
  if (kept->full) write_all(STDOUT_FILENO, kept->bytes + kept->next, kept->size - kept->next);
  write_all(STDOUT_FILENO, kept->bytes, kept->next);
  write_all(STDOUT_FILENO, end, sizeof end);
}

// A VM that writes when nobody reads any more is told so by the system, and forgets what it has not read itself.
static void await_reader(void) {
  enum { PATIENCE_MS = 500 };
  int unread = 0;
  for (int waited = 0; waited < PATIENCE_MS; waited++) {
    if (ioctl(STDOUT_FILENO, FIONREAD, &unread) != 0 || unread == 0) return;
    poll(NULL, 0, 1);
  }
}

typedef enum { GOES_ON, ENDED, DESERTED } outcome;

// SIGTERM asks for an end that leaves a trace: Python's fault handler answers SIGABRT with the stack of each thread.
static outcome handle_signals(int* status, int64_t* kill_at) {
  unsigned char numbers[64];
  ssize_t count = read(signal_pipe[0], numbers, sizeof numbers);
  for (ssize_t i = 0; i < count; i++) {
    if (numbers[i] == SIGCHLD && reap(status)) return ENDED;
    if (numbers[i] == SIGHUP) return DESERTED;
    if (numbers[i] == SIGTERM && *kill_at == 0) {
      kill(worker, SIGABRT);
      *kill_at = now_ms() + ABORT_GRACE_MS;
    }
  }
  return GOES_ON;
}

static int time_left(int64_t kill_at) {
  if (kill_at == 0) return -1;
  int64_t left = kill_at - now_ms();
  return left > 0 ? (int)left : 0;
}

static outcome watch(int output, tail* kept, bool echo, int* status) {
  int64_t kill_at = 0;
  bool open = true;
  for (;;) {
    struct pollfd fds[] = {
        family_poll(STDIN_FILENO), {signal_pipe[0], POLLIN, 0}, {open ? output : -1, POLLIN, 0}};
    int ready = poll(fds, 3, time_left(kill_at));
    if (ready < 0) continue;
    if (ready == 0) {
      kill(worker, SIGKILL);
      kill_at = INT64_MAX / 2;
    }
    if (fds[2].revents != 0) open = read_output(output, kept, echo);
    if (fds[0].revents != 0 && family_deserted()) return DESERTED;
    outcome result = fds[1].revents != 0 ? handle_signals(status, &kill_at) : GOES_ON;
    if (result != GOES_ON) return result;
  }
}

// Returns the end of a pipe from which the worker's output comes, or -1.
static int start_worker(const options* chosen) {
  int output[2];
  if (!make_pipe(output) || !make_pipe(signal_pipe)) return -1;
  catch_signals();
  if (!family_begin(STDIN_FILENO)) return -1;
  worker = fork();
  if (worker < 0) return -1;
  if (worker == 0) become_worker(chosen, output[1]);
  // Here as well as there: whoever comes second finds it done, and nobody is early.
  setpgid(worker, worker);
  family_watch(worker);
  sandbox_watch(&box, worker);
  close(output[1]);
  fcntl(output[0], F_SETFL, O_NONBLOCK);
  return output[0];
}

static int run(const options* chosen) {
  sandbox_prepare(&box);
  kept_output.size = chosen->kept_size < MAX_KEPT ? chosen->kept_size : MAX_KEPT;
  int output = start_worker(chosen);
  if (output < 0) {
    sandbox_end(&box);
    return CANNOT_RUN;
  }
  int status = 0;
  outcome result = watch(output, &kept_output, chosen->echo, &status);
  kill_everything();
  sandbox_end(&box);
  if (result == DESERTED) return 0;
  read_output(output, &kept_output, chosen->echo);
  tell_end(&kept_output, status);
  await_reader();
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int main(int argc, char** argv) {
  // What this kernel holds of a sandbox, without a worker.
  bool asks = argc > 1 && strcmp(argv[1], "-holds") == 0;
  int next = asks ? 2 : 4;
  while (next < argc && sandbox_argument(&box, argv[next])) next++;
  if (asks && next == argc) return sandbox_tell(&box, stdout) ? 0 : 1;
  if (asks || next >= argc || argv[next][0] == '-') {
    fprintf(stderr,
            "usage: pythonx_launcher NICE BYTES_OF_OUTPUT ECHO [-SANDBOX]... PROGRAM [ARGUMENT]...\n");
    return CANNOT_RUN;
  }
  options chosen = {.nice = strtol(argv[1], NULL, 10),
                    .kept_size = strtoul(argv[2], NULL, 10),
                    .echo = strcmp(argv[3], "1") == 0,
                    .command = argv + next};
  return run(&chosen);
}
