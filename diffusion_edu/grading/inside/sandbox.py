"""Walls around a process that runs somebody else's code: Landlock, seccomp, limits. Linux only.

Nothing here needs root, a container or a namespace. Applied to the calling process, for good:

    landlock    reads only what is listed, writes nothing (files, directories, devices)
    seccomp     no socket, no new process, no ptrace, no signal to others, no shared memory, ...
    limits      memory, seconds of processor, size of files, open files, threads, no core dump
    privileges  no capability; as root another user, where the interpreter can be read by it

This file also runs where the library is not: standard library only.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Iterable, Sequence

__all__ = [
    "die_with_parent",
    "drop_privileges",
    "landlock",
    "landlock_abi",
    "limits",
    "readable_by_others",
    "seccomp",
    "seccomp_works",
    "undumpable",
]

NOBODY = 65534
MOST_TASKS = 4096  # processes and threads of the user, those outside included
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
PR_SET_SECCOMP, PR_CAPBSET_DROP = 22, 24
SECCOMP_MODE_FILTER = 2

# ---- Landlock ------------------------------------------------------------------------------------

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on every architecture
PATH_BENEATH = 1
EXECUTE, READ_FILE, READ_DIR = 1 << 0, 1 << 2, 1 << 3
WRITE_FILE = 1 << 1
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # ABI -> number of rights on files
NET_BIND_AND_CONNECT = 0b11  # ABI 4
SCOPE_ABSTRACT_AND_SIGNAL = 0b11  # ABI 6
TRUNCATE_SINCE = 3  # ABI


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("fd", ctypes.c_int32)]


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(number: int, *args: object) -> int:
    result = int(_libc().syscall(ctypes.c_long(number), *args))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"syscall {number}: {os.strerror(error)}")
    return result


def landlock_abi() -> int:
    """Version of Landlock, 0 where there is none."""
    if sys.platform != "linux":
        return 0
    result = int(_libc().syscall(ctypes.c_long(CREATE_RULESET), None, ctypes.c_size_t(0), 1))
    return max(result, 0)


def landlock(readable: Iterable[str], devices: Iterable[str] = ("/dev/null",)) -> None:
    """From now on only ``readable`` paths can be read, and only ``devices`` also written."""
    abi = landlock_abi()
    every = (1 << FILE_RIGHTS[min(abi, 5)]) - 1
    attributes = struct.pack(
        "<QQQ",
        every,
        NET_BIND_AND_CONNECT if abi >= 4 else 0,
        SCOPE_ABSTRACT_AND_SIGNAL if abi >= 6 else 0,
    )
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    buffer = ctypes.create_string_buffer(attributes[:size], size)
    ruleset = _call(CREATE_RULESET, buffer, ctypes.c_size_t(size), 0)
    for path in readable:
        _allow(ruleset, path, EXECUTE | READ_FILE | READ_DIR)
    for path in devices:
        _allow(ruleset, path, READ_FILE | WRITE_FILE)
    _call(RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there needs no permission
    try:
        if not os.path.isdir(path):
            rights &= ~READ_DIR
        rule = _Beneath(rights, fd)
        _call(ADD_RULE, ruleset, PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(fd)


# ---- seccomp -------------------------------------------------------------------------------------

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# Numbers on (x86_64, aarch64); None where there is no such call.
DENIED: dict[str, tuple[int | None, int | None]] = {
    # sockets of every family: AF_UNIX leads to D-Bus, ssh-agent and container engines
    "socket": (41, 198),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "socketpair": (53, 199),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    # other processes
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "setpriority": (141, 140),
    "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274),
    "ioprio_set": (251, 30),
    "sched_setparam": (142, 118),
    "sched_setaffinity": (203, 122),
    "setpgid": (109, 154),
    "setsid": (112, 157),
    # what processes of one user share, and what stays behind when one ends
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "semctl": (66, 191),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    # files as Landlock does not see them: modes, owners, times, attributes, handles, who opens them
    "truncate": (76, 45),
    "ioctl": (16, 29),
    "openat2": (437, 437),  # its flags are in memory, which no filter reads
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "inotify_add_watch": (254, 27),
    "fanotify_init": (300, 262),
    "getxattr": (191, 8),
    "lgetxattr": (192, 9),
    "listxattr": (194, 11),
    "llistxattr": (195, 12),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "open_by_handle_at": (304, 265),
    # the machine
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "personality": (135, 92),
    "reboot": (169, 142),
    "syslog": (103, 116),
    "sethostname": (170, 161),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "swapon": (167, 224),
    "acct": (163, 89),
    "quotactl": (179, 60),
}
CLONE, CLONE3, KILL, TGKILL = (56, 220), (435, 435), (62, 129), (234, 131)
PRLIMIT, PRCTL, FCNTL = (302, 261), (157, 167), (72, 25)
OPEN, OPENAT = (2, None), (257, 56)
CLONE_THREAD = 0x10000
SIGNALS_TO = (8, 10, 15)  # F_SETOWN, F_SETSIG, F_SETOWN_EX: any signal to any process of the user
O_TRUNC = 0x200
FIRST_UNKNOWN = 463  # calls that were not there when the list above was made, and 32-bit twins
ALLOW, ERRNO, KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
EACCES, ENOSYS = 13, 38
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NR, ARCH, ARG0, ARG1, ARG2 = 0, 4, 16, 24, 32


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def seccomp_works() -> bool:
    """Whether this kernel filters system calls, on an architecture that is known here."""
    if sys.platform != "linux" or platform.machine() not in ARCHITECTURES:
        return False
    action = ctypes.c_uint32(ERRNO)
    number = 317 if platform.machine() == "x86_64" else 277
    return int(_libc().syscall(ctypes.c_long(number), 2, 0, ctypes.byref(action))) == 0


def seccomp() -> None:
    """From now on the calls of ``DENIED`` fail with EACCES, and so do new processes and signals."""
    program = b"".join(_program(os.getpid(), landlock_abi()))
    code = ctypes.create_string_buffer(program, len(program))
    head = _Program(len(program) // 8, ctypes.cast(code, ctypes.c_void_p).value)
    if _libc().prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(head), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")


def _op(code: int, k: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("<HBBI", code, yes, no, k)


def _program(pid: int, abi: int) -> list[bytes]:
    """Classic BPF: one test after the other; jumps count the instructions that are skipped."""
    machine = platform.machine()
    column = 0 if machine == "x86_64" else 1
    program = [
        _op(LOAD, ARCH),
        _op(EQUAL, ARCHITECTURES[machine], 1, 0),
        _op(RETURN, KILL_PROCESS),
        _op(LOAD, NR),
        _op(AT_LEAST, FIRST_UNKNOWN, 0, 1),
        _op(RETURN, ERRNO | ENOSYS),
        # libc falls back to clone, whose flags a filter can read
        _op(EQUAL, CLONE3[column], 0, 1),
        _op(RETURN, ERRNO | ENOSYS),
        *_only(CLONE[column], ARG0, CLONE_THREAD, ANY_BIT),
        # on oneself only: signals by number (0 is a group of processes), limits by 0
        *_only(KILL[column], ARG0, pid),
        *_only(TGKILL[column], ARG0, pid),
        *_only(PRLIMIT[column], ARG0, 0),
        # a process that can dump core again, or that outlives the grader
        *_never(PRCTL[column], ARG0, (PR_SET_PDEATHSIG, PR_SET_DUMPABLE)),
        *_never(FCNTL[column], ARG1, SIGNALS_TO),
    ]
    if abi < TRUNCATE_SINCE:  # else opening a file to read it is enough to empty it
        program += _never(OPEN[column], ARG1, (O_TRUNC,), ANY_BIT)
        program += _never(OPENAT[column], ARG2, (O_TRUNC,), ANY_BIT)
    for numbers in DENIED.values():
        denied = numbers[column]
        if denied is not None:
            program += [_op(EQUAL, denied, 0, 1), _op(RETURN, ERRNO | EACCES)]
    return [*program, _op(RETURN, ALLOW)]


def _only(number: int, argument: int, allowed: int, how: int = EQUAL) -> list[bytes]:
    """The call with that argument, and no other way."""
    return [
        _op(EQUAL, number, 0, 4),
        _op(LOAD, argument),
        _op(how, allowed, 0, 1),
        _op(RETURN, ALLOW),
        _op(RETURN, ERRNO | EACCES),
    ]


def _never(
    number: int | None, argument: int, refused: Sequence[int], how: int = EQUAL
) -> list[bytes]:
    """The call in every way but with those arguments."""
    if number is None:
        return []
    tests = [x for v in refused for x in (_op(how, v, 0, 1), _op(RETURN, ERRNO | EACCES))]
    head = [_op(EQUAL, number, 0, len(tests) + 2), _op(LOAD, argument)]
    return [*head, *tests, _op(RETURN, ALLOW)]


# ---- limits and privileges -----------------------------------------------------------------------


def limits(memory: int, seconds: int) -> None:
    """Bytes of address space beyond what is in use now, and seconds of processor.

    The number of threads is limited too, where the kernel counts them: not those of root.
    """
    import resource

    def cap(what: int, value: int) -> None:
        hard = resource.getrlimit(what)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (value, value))

    cap(resource.RLIMIT_CORE, 0)
    cap(resource.RLIMIT_CPU, seconds)
    cap(resource.RLIMIT_FSIZE, 0)
    cap(resource.RLIMIT_NOFILE, 256)
    cap(resource.RLIMIT_NPROC, MOST_TASKS)
    if sys.platform == "linux":  # elsewhere it is not kept to
        cap(resource.RLIMIT_AS, _in_use() + memory)


def _in_use() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def readable_by_others(paths: Iterable[str]) -> bool:
    """Whether a user who owns nothing can reach and read these."""
    for path in paths:
        parts = os.path.abspath(path)
        while True:
            mode = os.stat(parts).st_mode
            if (not mode & 0o001 and os.path.isdir(parts)) or not mode & 0o004:
                return False
            if parts == os.path.dirname(parts):
                break
            parts = os.path.dirname(parts)
    return True


def drop_privileges(to_nobody: bool) -> None:
    """Give up all capabilities; as root with ``to_nobody`` become a user who owns nothing."""
    libc = _libc()
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.geteuid() != 0:
        return
    for capability in range(64):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    if to_nobody:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        return
    head = ctypes.create_string_buffer(struct.pack("<Ii", 0x20080522, 0))
    nothing = ctypes.create_string_buffer(24)
    number = 126 if platform.machine() == "x86_64" else 91
    _call(number, ctypes.byref(head), ctypes.byref(nothing))


def die_with_parent() -> None:
    """The kernel kills this process when the one that started it ends."""
    if sys.platform == "linux":
        _libc().prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0)


def undumpable() -> None:
    """Other processes of the same user cannot look into this one."""
    if sys.platform == "linux":
        _libc().prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
