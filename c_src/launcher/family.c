#define _GNU_SOURCE
#include "family.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#if defined(__linux__)

#include <sys/prctl.h>

bool family_begin(int vm) {
  (void)vm;
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  // Should another process hold the VM's end of the descriptor, as a fork of it would.
  prctl(PR_SET_PDEATHSIG, SIGHUP);
  return true;
}

void family_enter(void) { prctl(PR_SET_PDEATHSIG, SIGKILL); }

void family_watch(pid_t worker) { (void)worker; }

// No events: a hang-up is reported anyway.
struct pollfd family_poll(int vm) { return (struct pollfd){vm, 0, 0}; }

bool family_deserted(void) { return true; }

// What has become a child of the launcher.
bool family_kill(void) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
  FILE* list = fopen(path, "re");
  if (list == NULL) return false;
  bool any = false;
  char word[32];
  while (fscanf(list, "%31s", word) == 1) {
    long pid = strtol(word, NULL, 10);
    if (pid <= 1) continue;
    kill((pid_t)pid, SIGKILL);
    any = true;
  }
  fclose(list);
  return any;
}

#elif defined(__APPLE__)

#include <fcntl.h>
#include <libproc.h>
#include <limits.h>
#include <sys/event.h>

// Those that are watched, and no others: the event of an end takes each out before its number can belong to another process. What
// does not fit in is not watched.
enum { MAX_FAMILY = 4096, MAX_CHILDREN = 1024 };

static pid_t family[MAX_FAMILY];
static size_t family_size;
static int events = -1;
static int vm_fd;

static void forget(pid_t pid) {
  for (size_t i = 0; i < family_size; i++) {
    if (family[i] == pid) {
      family[i] = family[--family_size];
      return;
    }
  }
}

static bool is_known(pid_t pid) {
  for (size_t i = 0; i < family_size; i++)
    if (family[i] == pid) return true;
  return false;
}

// Fails where the process has ended.
static bool watch_process(pid_t pid) {
  if (family_size == MAX_FAMILY || is_known(pid)) return false;
  struct kevent change;
  EV_SET(&change, (uintptr_t)pid, EVFILT_PROC, EV_ADD, NOTE_FORK | NOTE_EXIT, 0, NULL);
  if (kevent(events, &change, 1, NULL, 0, NULL) != 0) return false;
  family[family_size++] = pid;
  return true;
}

// Also the children of each that is new: they may have been forked before it was watched.
static void watch_children(pid_t parent) {
  static pid_t found[MAX_CHILDREN];
  size_t next = family_size;
  for (;;) {
    int count = proc_listchildpids(parent, found, sizeof found);
    for (int i = 0; i < count && i < MAX_CHILDREN; i++)
      if (found[i] > 1) watch_process(found[i]);
    if (next >= family_size) return;
    parent = family[next++];
  }
}

static void close_on_exec(int fd) { fcntl(fd, F_SETFD, FD_CLOEXEC); }

// Of a descriptor that can be read poll reports a hang-up only to who asks for data, so the kqueue waits for it, and for no amount
// of data that a pipe can hold.
bool family_begin(int vm) {
  vm_fd = vm;
  events = kqueue();
  if (events < 0) return false;
  close_on_exec(events);
  struct kevent change;
  EV_SET(&change, (uintptr_t)vm, EVFILT_READ, EV_ADD | EV_CLEAR, NOTE_LOWAT, INT_MAX, NULL);
  return kevent(events, &change, 1, NULL, 0, NULL) == 0;
}

void family_enter(void) {}

void family_watch(pid_t worker) {
  if (watch_process(worker)) watch_children(worker);
}

struct pollfd family_poll(int vm) {
  (void)vm;
  return (struct pollfd){events, POLLIN, 0};
}

bool family_deserted(void) {
  const struct timespec now = {0, 0};
  struct kevent event;
  bool deserted = false;
  while (kevent(events, NULL, 0, &event, 1, &now) == 1) {
    if (event.filter == EVFILT_READ) {
      deserted = deserted || ((int)event.ident == vm_fd && (event.flags & EV_EOF) != 0);
      continue;
    }
    pid_t pid = (pid_t)event.ident;
    if ((event.fflags & NOTE_FORK) != 0) watch_children(pid);
    if ((event.fflags & NOTE_EXIT) != 0) forget(pid);
  }
  return deserted;
}

bool family_kill(void) {
  family_deserted();
  for (size_t i = 0; i < family_size; i++) watch_children(family[i]);
  for (size_t i = 0; i < family_size; i++) kill(family[i], SIGKILL);
  return family_size > 0;
}

#else

bool family_begin(int vm) {
  (void)vm;
  return true;
}

void family_enter(void) {}

void family_watch(pid_t worker) { (void)worker; }

struct pollfd family_poll(int vm) { return (struct pollfd){vm, 0, 0}; }

bool family_deserted(void) { return true; }

bool family_kill(void) { return false; }

#endif
