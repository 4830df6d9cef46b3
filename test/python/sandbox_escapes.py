"""Attempts to get out of the sandbox of a worker, for test/pythonx/pool/sandbox_test.exs.

The argument is a JSON object of what there is outside: `secret` (a file), `folder` (which it is in), `library` (a file
that may be read), `victim` and `vm` (processes), `port` (where somebody listens), `unix` and `abstract` (sockets with
listeners), `held` (a descriptor that the launcher had). Descriptor 4 gets a line for each attempt: its name, a tab, and
what was raised; `nothing` would be an escape. A test evaluates it in a worker of a pool, too, with the object as
`OUTSIDE`, and takes `LINES`. Above 400 lines, as it is one list.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import platform
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

IN_A_POOL = "OUTSIDE" in globals()
if not IN_A_POOL:
    OUTSIDE = json.loads(sys.argv[1])
SECRET = OUTSIDE["secret"]
FOLDER = OUTSIDE["folder"]
VICTIM = OUTSIDE["victim"]
X86 = platform.machine() == "x86_64"
libc = ctypes.CDLL(None, use_errno=True)
attempts = []

# Numbers of system calls, of x86-64 and arm64. From 424 on they are the same.
NUMBERS = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "unshare": (272, 97),
    "setns": (308, 268),
    "clone": (56, 220),
    "execve": (59, 221),
    "execveat": (322, 281),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "kexec_load": (246, 104),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "personality": (135, 92),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "clock_settime": (227, 112),
    "swapon": (167, 224),
    "acct": (163, 89),
    "syslog": (103, 116),
    "capset": (126, 91),
    "name_to_handle_at": (303, 264),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "pidfd_send_signal": (424, 424),
    "io_uring_setup": (425, 425),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "clone3": (435, 435),
    "openat2": (437, 437),
    "pidfd_getfd": (438, 438),
    "memfd_secret": (447, 447),
    "newer": (5000, 5000),
}
NEW_USER, NEW_NET, NEW_NS, NEW_PID = 0x10000000, 0x40000000, 0x20000, 0x20000000
AT_FDCWD = -100


def attempt(function):
    """One that is to raise."""
    attempts.append(function)
    return function


def check(result):
    """What C code returns, as Python has it."""
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def call(name, *arguments):
    """Make a system call, past all libraries."""
    number = NUMBERS[name][0 if X86 else 1]
    plain = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return check(libc.syscall(ctypes.c_long(number), *plain))


def read(path, **how):
    """Read a file."""
    with open(path, **how) as file:
        return file.read()


# Files


@attempt
def read_a_file():
    return read(SECRET)


@attempt
def read_a_file_of_the_system():
    return read("/etc/passwd")


@attempt
def open_by_ctypes():
    return check(libc.open(SECRET.encode(), os.O_RDONLY))


@attempt
def open_by_openat2():
    how = (ctypes.c_uint64 * 3)(os.O_RDONLY, 0, 0)
    return call("openat2", AT_FDCWD, SECRET.encode(), how, 24)


@attempt
def open_a_relative_path():
    return read(os.path.relpath(SECRET, os.getcwd()))


@attempt
def open_by_a_folder_with_dots():
    folder = os.open(".", os.O_RDONLY)
    return os.open("../../../../../../.." + SECRET, os.O_RDONLY, dir_fd=folder)


@attempt
def open_by_a_folder_that_was_not_opened_for_reading():
    folder = os.open(FOLDER, os.O_PATH)
    return os.open(os.path.basename(SECRET), os.O_RDONLY, dir_fd=folder)


@attempt
def change_the_folder():
    home = os.getcwd()
    try:
        os.chdir(FOLDER)
        return read(os.path.basename(SECRET))
    finally:
        os.chdir(home)


@attempt
def list_a_folder():
    return os.listdir(FOLDER)


@attempt
def list_the_root():
    return os.listdir("/")


@attempt
def list_processes():
    return os.listdir("/proc")


@attempt
def follow_a_symlink():
    os.symlink(SECRET, "link")
    return read("link")


@attempt
def follow_a_symlink_to_a_folder():
    os.symlink(FOLDER, "folder")
    return read("folder/" + os.path.basename(SECRET))


@attempt
def follow_a_symlink_through_proc():
    os.symlink("/proc/self/root" + SECRET, "through")
    return read("through")


@attempt
def race_with_a_symlink():
    with open("mine", "w") as file:
        file.write("mine")
    os.symlink("mine", "racing")
    over = threading.Event()

    def swap():
        for n in range(3000):
            os.symlink(SECRET if n % 2 else "mine", "next")
            os.rename("next", "racing")
        over.set()

    thread = threading.Thread(target=swap)
    thread.start()
    refused = None
    try:
        while not over.is_set():
            try:
                if read("racing") != "mine":
                    return "escaped"
            except OSError as error:
                refused = error
    finally:
        thread.join()
    # That it never was the secret is what counts. It may never have been seen to be refused.
    raise refused or PermissionError("never met")


@attempt
def race_with_a_folder():
    os.mkdir("inside")
    with open("inside/" + os.path.basename(SECRET), "w") as file:
        file.write("mine")
    os.rename("inside", "way")
    over = threading.Event()

    def swap():
        for _ in range(1000):
            os.rename("way", "inside")
            os.symlink(FOLDER, "way")
            os.unlink("way")
            os.rename("inside", "way")
        over.set()

    thread = threading.Thread(target=swap)
    thread.start()
    refused = None
    try:
        while not over.is_set():
            try:
                if read("way/" + os.path.basename(SECRET)) != "mine":
                    return "escaped"
            except OSError as error:
                refused = error
    finally:
        thread.join()
    raise refused or PermissionError("never met")


@attempt
def link_a_file_into_the_own_folder():
    os.link(SECRET, "hard")
    return read("hard")


@attempt
def link_a_library_into_the_own_folder_and_write():
    os.link(OUTSIDE["library"], "hard-library")
    with open("hard-library", "a") as file:
        file.write("x")


@attempt
def move_a_file_into_the_own_folder():
    os.rename(SECRET, "moved")


@attempt
def move_a_file_over_another():
    with open("spare", "w") as file:
        file.write("x")
    os.replace("spare", SECRET)


@attempt
def write_a_file():
    with open(SECRET, "a") as file:
        file.write("x")


@attempt
def make_a_file():
    with open(os.path.join(FOLDER, "made"), "w"):
        pass


@attempt
def make_a_file_in_tmp():
    with open("/tmp/pythonx-made-by-an-escape", "w"):
        pass


@attempt
def make_a_folder():
    os.mkdir(os.path.join(FOLDER, "made"))


@attempt
def make_a_file_without_a_name():
    return os.open(FOLDER, os.O_TMPFILE | os.O_RDWR)


@attempt
def delete_a_file():
    os.unlink(SECRET)


@attempt
def delete_a_folder():
    os.rmdir(os.path.join(FOLDER, "empty"))


@attempt
def cut_a_file():
    os.truncate(SECRET, 0)


@attempt
def cut_a_library():
    os.truncate(OUTSIDE["library"], 0)


@attempt
def write_a_library():
    with open(OUTSIDE["library"], "r+") as file:
        file.write("x")


@attempt
def make_a_module():
    with open(os.path.join(os.path.dirname(OUTSIDE["library"]), "escaped.py"), "w"):
        pass


@attempt
def map_a_library_for_writing():
    with open(OUTSIDE["library"], "rb") as file:
        mmap.mmap(file.fileno(), 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE)


@attempt
def change_the_mode_of_a_file():
    os.chmod(SECRET, 0o777)


@attempt
def change_the_mode_of_an_open_library():
    with open(OUTSIDE["library"]) as file:
        os.fchmod(file.fileno(), 0o777)


@attempt
def change_the_owner():
    os.chown(SECRET, os.getuid(), os.getgid())


@attempt
def change_the_time():
    os.utime(SECRET, (0, 0))


@attempt
def change_an_attribute():
    os.setxattr(SECRET, "user.x", b"x")


@attempt
def change_flags_of_a_library():
    import fcntl

    with open(OUTSIDE["library"]) as file:
        fcntl.ioctl(file.fileno(), 0x40086602, (0).to_bytes(8, "little"))


@attempt
def watch_a_folder():
    watch = check(libc.inotify_init1(0))
    check(libc.inotify_add_watch(watch, FOLDER.encode(), 0xFFF))


@attempt
def open_by_a_handle():
    handle = ctypes.create_string_buffer(136)
    handle[0:4] = (128).to_bytes(4, "little")
    call("name_to_handle_at", AT_FDCWD, SECRET.encode(), handle, ctypes.byref(ctypes.c_int()), 0)


@attempt
def make_a_setuid_file():
    os.close(os.open("setuid", os.O_CREAT | os.O_WRONLY, 0o4755))


@attempt
def make_a_file_setuid():
    with open("plain", "w"):
        pass
    os.chmod("plain", 0o4755)


# Devices and the system's own files


@attempt
def make_a_device():
    os.mknod("device", 0o600 | 0o020000, os.makedev(1, 1))


@attempt
def make_a_block_device():
    os.mknod("disk", 0o600 | 0o060000, os.makedev(8, 0))


@attempt
def open_memory_of_the_system():
    return os.open("/dev/mem", os.O_RDONLY)


@attempt
def open_a_terminal():
    return os.open("/dev/tty", os.O_RDWR)


@attempt
def make_a_terminal():
    return os.open("/dev/ptmx", os.O_RDWR)


@attempt
def use_shared_memory_of_all():
    with open("/dev/shm/pythonx-escape", "w"):
        pass


@attempt
def use_shared_memory_by_multiprocessing():
    from multiprocessing import shared_memory

    shared_memory.SharedMemory(create=True, size=10)


@attempt
def set_a_parameter_of_the_kernel():
    with open("/proc/sys/kernel/core_pattern", "w") as file:
        file.write("|/tmp/x")


@attempt
def join_another_cgroup():
    with open("/sys/fs/cgroup/cgroup.procs", "w") as file:
        file.write("0")


# /proc


@attempt
def read_own_memory_as_a_file():
    return os.open("/proc/self/mem", os.O_RDWR)


@attempt
def read_own_environment_as_a_file():
    return read("/proc/self/environ", mode="rb")


@attempt
def reach_the_root_by_proc():
    return read("/proc/self/root" + SECRET)


@attempt
def reach_a_file_by_the_folder_of_a_thread():
    return read(f"/proc/thread-self/cwd/../../../../../../../..{SECRET}")


@attempt
def open_a_descriptor_again():
    fd = os.open(SECRET, os.O_PATH)
    return read(f"/proc/self/fd/{fd}")


@attempt
def read_memory_of_another():
    return os.open(f"/proc/{VICTIM}/mem", os.O_RDONLY)


@attempt
def read_the_environment_of_another():
    return read(f"/proc/{VICTIM}/environ", mode="rb")


@attempt
def read_the_command_of_the_vm():
    return read(f"/proc/{OUTSIDE['vm']}/cmdline")


@attempt
def read_maps_of_the_vm():
    return read(f"/proc/{OUTSIDE['vm']}/maps")


@attempt
def take_a_descriptor_of_the_vm():
    return os.open(f"/proc/{OUTSIDE['vm']}/fd/0", os.O_RDONLY)


@attempt
def reach_a_file_by_another_process():
    return read(f"/proc/{VICTIM}/root{SECRET}")


@attempt
def follow_the_program_of_another():
    return os.readlink(f"/proc/{VICTIM}/exe")


@attempt
def make_the_kernel_prefer_the_vm():
    with open(f"/proc/{OUTSIDE['vm']}/oom_score_adj", "w") as file:
        file.write("1000")


# Other processes


@attempt
def trace_another():
    call("ptrace", 16, VICTIM, 0, 0)


@attempt
def seize_another():
    call("ptrace", 0x4206, VICTIM, 0, 0)


@attempt
def read_by_process_vm_readv():
    here = ctypes.create_string_buffer(8)
    vector = (ctypes.c_uint64 * 2)(ctypes.addressof(here), 8)
    call("process_vm_readv", VICTIM, vector, 1, vector, 1, 0)


@attempt
def write_by_process_vm_writev():
    here = ctypes.create_string_buffer(8)
    vector = (ctypes.c_uint64 * 2)(ctypes.addressof(here), 8)
    call("process_vm_writev", VICTIM, vector, 1, vector, 1, 0)


@attempt
def take_a_descriptor_by_pidfd():
    call("pidfd_getfd", os.pidfd_open(VICTIM), 0, 0)


@attempt
def compare_processes():
    call("kcmp", os.getpid(), VICTIM, 0, 0, 0)


@attempt
def kill_another():
    os.kill(VICTIM, signal.SIGKILL)


@attempt
def ask_whether_the_vm_is_there():
    os.kill(OUTSIDE["vm"], 0)


@attempt
def signal_the_vm():
    os.kill(OUTSIDE["vm"], signal.SIGUSR1)


@attempt
def kill_the_launcher():
    os.kill(os.getppid(), signal.SIGKILL)


@attempt
def stop_the_launcher():
    os.kill(os.getppid(), signal.SIGSTOP)


@attempt
def signal_all():
    os.kill(-1, signal.SIGCONT)


@attempt
def signal_a_group():
    os.killpg(os.getpgid(VICTIM), signal.SIGCONT)


@attempt
def signal_a_thread():
    call("tgkill", VICTIM, VICTIM, signal.SIGTERM)


@attempt
def signal_with_a_value():
    info = ctypes.create_string_buffer(128)
    info[8:12] = (-1).to_bytes(4, "little", signed=True)
    call("rt_sigqueueinfo", VICTIM, signal.SIGTERM, info)


@attempt
def signal_by_pidfd():
    signal.pidfd_send_signal(os.pidfd_open(VICTIM), signal.SIGKILL)


@attempt
def limit_another():
    resource.prlimit(VICTIM, resource.RLIMIT_NOFILE, (0, 0))


@attempt
def slow_another_down():
    os.setpriority(os.PRIO_PROCESS, VICTIM, 19)


@attempt
def slow_all_of_the_user_down():
    # Which the kernel itself would refuse with another number.
    try:
        os.setpriority(os.PRIO_USER, 0, -20)
    except OSError as error:
        if error.errno == errno.EPERM:
            raise
    return "reached the kernel"


@attempt
def have_all_of_the_user_wait_for_the_disk():
    # With a class that does not exist.
    try:
        check(libc.syscall(ctypes.c_long(251 if X86 else 30), 3, 0, ctypes.c_long(7 << 13)))
    except OSError as error:
        if error.errno == errno.EPERM:
            raise
    return "reached the kernel"


@attempt
def move_another_to_a_core():
    os.sched_setaffinity(VICTIM, {0})


@attempt
def schedule_another():
    os.sched_setscheduler(VICTIM, os.SCHED_IDLE, os.sched_param(0))


@attempt
def outlive_the_launcher():
    check(libc.prctl(1, 0, 0, 0, 0))


# Programs and processes


@attempt
def fork():
    if os.fork() == 0:
        os._exit(0)


@attempt
def fork_by_a_system_call():
    call("clone", signal.SIGCHLD, 0, 0, 0, 0)


@attempt
def fork_by_clone3():
    arguments = (ctypes.c_uint64 * 11)(0, 0, 0, 0, signal.SIGCHLD)
    call("clone3", arguments, 88)


@attempt
def run_a_shell():
    return subprocess.run(["/bin/sh", "-c", "true"])


@attempt
def run_a_shell_by_system():
    # It tells of a failure by its result, as in C.
    if os.system("true") in (-1, 127 << 8):
        raise PermissionError("no shell")


@attempt
def run_python():
    return subprocess.run([sys.executable, "-c", "pass"])


@attempt
def run_in_the_background():
    return os.posix_spawn("/bin/true", ["true"], {})


@attempt
def run_by_multiprocessing():
    import multiprocessing

    multiprocessing.get_context("fork").Process(target=print).start()


@attempt
def become_a_shell():
    os.execv("/bin/sh", ["sh", "-c", "echo escaped"])


@attempt
def become_python_again():
    os.execv(sys.executable, [sys.executable, "-c", "print('escaped')"])


@attempt
def become_a_descriptor():
    os.execve(os.open("/bin/sh", os.O_PATH), ["sh"], {})


@attempt
def become_a_program_by_execveat():
    empty = (ctypes.c_char_p * 1)(None)
    call("execveat", os.open("/bin/sh", os.O_PATH), b"", empty, empty, 0x1000)


@attempt
def become_the_first_program_once_more():
    # The descriptor by which the worker was run has the number of the limit.
    program = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    empty = (ctypes.c_char_p * 1)(None)
    call("execveat", program, b"", empty, empty, 0x1000)


@attempt
def have_that_descriptor_again():
    os.dup2(os.open("/bin/sh", os.O_PATH), resource.getrlimit(resource.RLIMIT_NOFILE)[1])


@attempt
def become_a_setuid_program():
    os.execv("/usr/bin/su", ["su"])


@attempt
def become_a_program_by_the_dynamic_linker():
    linker = next(
        p for p in ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1", "/lib") if os.path.exists(p)
    )
    os.execv(linker, [linker, "/bin/sh"])


@attempt
def make_a_program_in_memory():
    return os.memfd_create("program", 0)


@attempt
def run_a_program_in_memory():
    fd = os.memfd_create("program", os.MFD_CLOEXEC | 8)
    os.write(fd, b"\x7fELF")
    os.execve(fd, ["program"], {})


@attempt
def make_pages_for_programs():
    return os.memfd_create("large", os.MFD_HUGETLB | 8)


@attempt
def have_secret_memory():
    call("memfd_secret", 0)


# Name spaces and mounts


@attempt
def have_a_user_name_space():
    call("unshare", NEW_USER)


@attempt
def have_a_mount_name_space():
    call("unshare", NEW_NS)


@attempt
def fork_into_a_user_name_space():
    call("clone", NEW_USER | NEW_PID | signal.SIGCHLD, 0, 0, 0, 0)


@attempt
def enter_the_name_space_of_another():
    call("setns", os.pidfd_open(VICTIM), NEW_NET)


@attempt
def mount_memory():
    call("mount", b"none", b".", b"tmpfs", 0, 0)


@attempt
def bind_a_folder():
    call("mount", FOLDER.encode(), b".", 0, 4096, 0)


@attempt
def unmount():
    call("umount2", b"/proc", 2)


@attempt
def mount_in_the_new_way():
    call("fsopen", b"tmpfs", 0)


@attempt
def copy_a_mount():
    call("open_tree", AT_FDCWD, b"/", 1)


@attempt
def change_the_root():
    os.chroot(".")


@attempt
def turn_the_root_around():
    call("pivot_root", b".", b".")


# Sockets


@attempt
def connect_to_a_port():
    socket.create_connection(("127.0.0.1", OUTSIDE["port"]), timeout=5)


@attempt
def connect_over_ipv6():
    socket.socket(socket.AF_INET6, socket.SOCK_STREAM)


@attempt
def send_a_datagram():
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", OUTSIDE["port"]))


@attempt
def ping():
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)


@attempt
def have_a_raw_socket():
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)


@attempt
def see_all_packets():
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3)


@attempt
def have_a_multipath_socket():
    socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)


@attempt
def speak_with_the_kernel():
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)


@attempt
def use_the_ciphers_of_the_kernel():
    socket.socket(38, socket.SOCK_SEQPACKET)


@attempt
def speak_with_the_host():
    socket.socket(40, socket.SOCK_STREAM)


@attempt
def use_any_family():
    found = []
    for family in range(64):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
            try:
                socket.socket(family, kind).close()
                found.append((family, kind))
            except OSError as error:
                refused = error
    if found:
        return found
    raise refused


@attempt
def connect_to_a_unix_socket():
    socket.socket(socket.AF_UNIX).connect(OUTSIDE["unix"])


@attempt
def connect_to_an_abstract_socket():
    socket.socket(socket.AF_UNIX).connect("\0" + OUTSIDE["abstract"])


@attempt
def connect_a_pair_elsewhere():
    left, _right = socket.socketpair()
    left.connect(OUTSIDE["unix"])


@attempt
def send_from_a_pair_elsewhere():
    left, _right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    left.sendto(b"x", OUTSIDE["unix"])


@attempt
def listen():
    socket.create_server(("127.0.0.1", 0))


@attempt
def look_a_name_up():
    socket.getaddrinfo("example.org", 443)


# Calls of the kernel


@attempt
def have_a_ring():
    call("io_uring_setup", 1, ctypes.create_string_buffer(120))


@attempt
def load_a_program_into_the_kernel():
    call("bpf", 5, ctypes.create_string_buffer(128), 128)


@attempt
def handle_page_faults():
    call("userfaultfd", 1)


@attempt
def count_events():
    attributes = ctypes.create_string_buffer(128)
    attributes[4] = 128
    call("perf_event_open", attributes, 0, -1, -1, 0)


@attempt
def use_keys():
    call("keyctl", 0, -3, 0)


@attempt
def add_a_key():
    call("add_key", b"user", b"x", b"x", 1, -3)


@attempt
def request_a_key():
    call("request_key", b"user", b"x", b"x", -3)


@attempt
def load_another_kernel():
    call("kexec_load", 0, 0, 0, 0)


@attempt
def load_a_module():
    call("init_module", b"", 0, b"")


@attempt
def load_a_module_from_a_file():
    call("finit_module", 0, b"", 0)


@attempt
def share_memory_of_system_v():
    call("shmget", 1234, 4096, 0o1600)


@attempt
def have_a_semaphore_of_system_v():
    call("semget", 1234, 1, 0o1600)


@attempt
def have_a_queue_of_system_v():
    call("msgget", 1234, 0o1600)


@attempt
def have_a_queue():
    call("mq_open", b"escape", os.O_CREAT | os.O_RDWR, 0o600, 0)


@attempt
def turn_off_random_addresses():
    call("personality", 0x0040000)


@attempt
def restart_the_machine():
    # With a wrong number, should it be let through.
    call("reboot", 1, 2, 3, 0)


@attempt
def rename_the_machine():
    call("sethostname", b"escaped", 7)


@attempt
def set_the_clock():
    time.clock_settime(time.CLOCK_REALTIME, time.time())


@attempt
def swap():
    call("swapon", b"/nonexistent", 0)


@attempt
def account():
    call("acct", 0)


@attempt
def read_the_log_of_the_kernel():
    call("syslog", 3, ctypes.create_string_buffer(100), 100)


@attempt
def get_capabilities_back():
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    call("capset", header, (ctypes.c_uint32 * 6)(*[0xFFFFFFFF] * 6))


@attempt
def become_another_user():
    os.setuid(12345)
    if os.getuid() != 12345:
        return "nothing happened"
    return "escaped"


@attempt
def use_a_call_that_is_new():
    call("newer")


if X86:

    def machine(code):
        """Run some bytes of machine code, which return a number."""
        page = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=7)
        page.write(code)
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        result = ctypes.CFUNCTYPE(ctypes.c_long)(address)()
        if -4096 < result < 0:
            raise OSError(-result, os.strerror(-result))
        return result

    @attempt
    def call_as_x32():
        # mov eax, 0x40000000 + 39 (getpid); syscall; ret
        return machine(b"\xb8\x27\x00\x00\x40\x0f\x05\xc3")

    @attempt
    def call_as_i386():
        # mov eax, 20 (getpid); int 0x80; movsxd rax, eax; ret
        return machine(b"\xb8\x14\x00\x00\x00\xcd\x80\x48\x63\xc0\xc3")

    @attempt
    def have_ports_of_the_machine():
        check(libc.iopl(3))

    @attempt
    def change_descriptors_of_memory():
        check(libc.syscall(ctypes.c_long(154), 0, ctypes.create_string_buffer(16), ctypes.c_long(16)))


# Limits


@attempt
def take_much_memory():
    return len(bytearray(1 << 40))


@attempt
def take_memory_bit_by_bit():
    kept = []
    while len(kept) < 1000:
        kept.append(mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


@attempt
def take_memory_that_is_shared():
    return mmap.mmap(-1, 1 << 20)


@attempt
def take_threads():
    threading.stack_size(256 << 20)
    over = threading.Event()
    threads = []
    try:
        for _ in range(1000):
            thread = threading.Thread(target=over.wait)
            thread.start()
            threads.append(thread)
    finally:
        over.set()
        for thread in threads:
            thread.join()
        threading.stack_size(0)


@attempt
def fill_the_disk():
    with open("large", "wb") as file:
        file.seek(1 << 40)
        file.write(b"x")


@attempt
def lengthen_a_file():
    with open("long", "wb") as file:
        file.truncate(1 << 40)


@attempt
def fill_memory_by_a_file_of_it():
    os.truncate(os.memfd_create("large", 8), 1 << 40)


@attempt
def open_many_files():
    opened = []
    try:
        for _ in range(100_000):
            opened.append(os.open("/dev/null", os.O_RDONLY))
    finally:
        for fd in opened:
            os.close(fd)


@attempt
def raise_a_limit():
    resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@attempt
def raise_the_limit_of_files():
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))


@attempt
def be_preferred():
    os.setpriority(os.PRIO_PROCESS, 0, -20)


# Descriptors


@attempt
def use_an_inherited_descriptor():
    return os.read(OUTSIDE["held"], 10)


@attempt
def find_any_inherited_descriptor():
    found = []
    for fd in range(5, 256):
        try:
            # A pool's worker has pipes of its own.
            if not (stat.S_ISFIFO(os.fstat(fd).st_mode) and IN_A_POOL):
                found.append(fd)
        except OSError as error:
            refused = error
    if found:
        return found
    raise refused


# Memory that the VM has shared: a file of it, sealed.


def shared():
    fd = os.memfd_create("shared", os.MFD_ALLOW_SEALING | 8)
    os.write(fd, b"shared" * 1000)
    # F_ADD_SEALS; F_SEAL_SEAL, SHRINK, GROW and WRITE
    import fcntl

    fcntl.fcntl(fd, 1033, 1 | 2 | 4 | 8)
    return fd


@attempt
def cut_shared_memory():
    os.ftruncate(shared(), 0)


@attempt
def lengthen_shared_memory():
    os.ftruncate(shared(), 1 << 20)


@attempt
def write_shared_memory():
    os.pwrite(shared(), b"x", 0)


@attempt
def map_shared_memory_for_writing():
    mmap.mmap(shared(), 6000, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE)


@attempt
def write_shared_memory_by_another_descriptor():
    again = os.open(f"/proc/self/fd/{shared()}", os.O_RDWR)
    os.pwrite(again, b"x", 0)


@attempt
def break_the_seals_of_shared_memory():
    import fcntl

    fcntl.fcntl(shared(), 1033, 16)


@attempt
def punch_a_hole_into_shared_memory():
    check(libc.fallocate(shared(), 3, ctypes.c_long(0), ctypes.c_long(4096)))


def main():
    # Before any of them has opened something.
    inherited = [a for a in attempts if a.__name__.endswith("inherited_descriptor")]
    lines = []
    for function in inherited + [a for a in attempts if a not in inherited]:
        try:
            result = function()
            lines.append(f"{function.__name__}\tnothing: {result!r}")
        except Exception as error:  # What is ordinary.
            name = errno.errorcode.get(error.errno, "") if isinstance(error, OSError) else ""
            lines.append(f"{function.__name__}\t{type(error).__name__} {name}")
    return lines


LINES = main()
if not IN_A_POOL:
    os.write(4, ("\n".join(LINES) + "\n").encode())
