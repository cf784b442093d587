"""Filter of system calls for decode processes, as a program of the kernel's packet filter (seccomp-BPF).

An allow-list: what computing, and talking over an open socket, needs. Any other call fails with EPERM, as a decoder
that tries to connect, to start a program or to watch another process finds out.
"""

import ctypes
import errno
import os
import platform
import resource
import struct

#: Numbers of system calls: x86-64, and aarch64, where the call exists there.
ALLOWED: dict[str, tuple[int, int | None]] = {
    # memory
    "brk": (12, 214), "madvise": (28, 233), "mincore": (27, 232), "mmap": (9, 222), "mprotect": (10, 226),
    "mremap": (25, 216), "munmap": (11, 215), "get_mempolicy": (239, 236),
    # open files and sockets
    "close": (3, 57), "dup": (32, 23), "fadvise64": (221, 223), "fcntl": (72, 25), "fstat": (5, 80),
    "lseek": (8, 62), "poll": (7, None), "ppoll": (271, 73), "pread64": (17, 67), "pselect6": (270, 72),
    "read": (0, 63), "readv": (19, 65), "recvfrom": (45, 207), "recvmsg": (47, 212), "select": (23, None),
    "sendmsg": (46, 211), "sendto": (44, 206), "shutdown": (48, 210), "write": (1, 64), "writev": (20, 66),
    # names of files: opening them is another list
    "access": (21, None), "faccessat": (269, 48), "faccessat2": (439, 439), "getcwd": (79, 17),
    "getdents64": (217, 61), "lstat": (6, None), "newfstatat": (262, 79), "readlink": (89, None),
    "readlinkat": (267, 78), "stat": (4, None), "statx": (332, 291),
    # time, threads and signals of this process
    "alarm": (37, None), "clock_getres": (229, 114), "clock_gettime": (228, 113), "clock_nanosleep": (230, 115),
    "exit": (60, 93), "exit_group": (231, 94), "futex": (202, 98), "get_robust_list": (274, 100),
    "getcpu": (309, 168), "getitimer": (36, 102), "getpid": (39, 172), "getppid": (110, 173),
    "getrandom": (318, 278), "getrlimit": (97, 163), "getrusage": (98, 165), "gettid": (186, 178),
    "gettimeofday": (96, 169), "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176),
    "getegid": (108, 177), "membarrier": (324, 283), "nanosleep": (35, 101), "restart_syscall": (219, 128),
    "rseq": (334, 293), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "sched_getaffinity": (204, 123), "sched_getparam": (143, 121), "sched_getscheduler": (145, 120),
    "sched_yield": (24, 124), "set_robust_list": (273, 99), "set_tid_address": (218, 96), "setitimer": (38, 103),
    "sigaltstack": (131, 132), "sysinfo": (99, 179), "time": (201, None), "times": (100, 153), "uname": (63, 160),
}  # fmt: skip
#: Calls that open a file for reading: allowed where Landlock decides which.
OPENING: dict[str, tuple[int, int | None]] = {"open": (2, None), "openat": (257, 56)}
#: Calls that are allowed with some arguments only.
CLONE, CLONE3, IOCTL, KILL, TGKILL = (56, 220), (435, 435), (16, 29), (62, 129), (234, 131)
PRCTL, PRLIMIT, SECCOMP = (157, 167), (302, 261), (317, 277)

_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  #: column of the tables, and AUDIT_ARCH
_CLONE_THREAD = 0x10000
_IOCTLS = (0x5401, 0x5421, 0x5450, 0x5451)  #: TCGETS, FIONBIO, FIONCLEX, FIOCLEX
_PR_SET_NAME = 15
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  #: offsets in `struct seccomp_data`
_X32 = 0x40000000  #: calls of another ABI on x86-64 have this bit
_SET_MODE_FILTER, _ALL_THREADS = 1, 1

Instruction = tuple[int, int, int, int]  #: code, jump if true, jump if false, operand


def is_known() -> bool:
    """Return whether there is a filter for this machine's architecture, 64 bits."""
    return platform.machine() in _MACHINES and struct.calcsize("P") == 8


def program(*, opening: bool) -> list[Instruction]:
    """Return the filter for this process; `opening`: files may be opened for reading and writing."""
    column, architecture = _MACHINES[platform.machine()]
    table = ALLOWED | (OPENING if opening else {})
    numbers = [pair[column] for pair in table.values()]
    instructions = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _KILL_PROCESS),
    ]
    for allowed in sorted(number for number in numbers if number is not None):
        instructions += [(_EQUAL, 0, 1, allowed), (_RETURN, 0, 0, _ALLOW)]
    refused = [(_RETURN, 0, 0, _ERRNO | errno.EPERM)]
    if not opening:
        for pair in OPENING.values():
            if (number := pair[column]) is not None:
                instructions += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | errno.EACCES)]
    instructions += [(_EQUAL, 0, 1, CLONE3[column]), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]  # libc then uses clone
    instructions += _where(CLONE[column], 0, [(_ANY_BIT, _CLONE_THREAD)])
    instructions += _where(IOCTL[column], 1, [(_EQUAL, code) for code in _IOCTLS])
    for of_self in (KILL, TGKILL):  # abort() is one
        instructions += _where(of_self[column], 0, [(_EQUAL, os.getpid())])
    instructions += _where(PRCTL[column], 0, [(_EQUAL, _PR_SET_NAME)])
    instructions += _where(PRLIMIT[column], 1, [(_EQUAL, resource.RLIMIT_CPU)])  # set for each image
    return instructions + refused


def _where(number: int, argument: int, tests: list[tuple[int, int]]) -> list[Instruction]:
    """Allow a call if the lower half of an argument passes one of the tests, and refuse it otherwise."""
    body: list[Instruction] = [(_LOAD, 0, 0, _ARGUMENTS + 8 * argument)]  # both architectures are little-endian
    for code, operand in tests:
        body += [(code, 0, 1, operand), (_RETURN, 0, 0, _ALLOW)]
    body += [(_RETURN, 0, 0, _ERRNO | errno.EPERM)]
    return [(_EQUAL, 0, len(body), number), *body]


def install(instructions: list[Instruction]) -> bool:
    """Bind all threads of this process to the filter, for good. Returns whether the kernel did."""
    column, _ = _MACHINES[platform.machine()]
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
    buffer = ctypes.create_string_buffer(code, len(code))
    head = struct.pack("HxxxxxxP", len(instructions), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.syscall(SECCOMP[column], _SET_MODE_FILTER, _ALL_THREADS, head)) == 0
