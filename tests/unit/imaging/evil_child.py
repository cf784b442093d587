"""A decode process whose decoder does what the bytes say: the real process, socket, limits and sandbox."""

import ctypes
import errno
import os
import re
import resource
import signal
import socket
import sys
import threading
import time

from dpiqa.errors import ImageRejected
from dpiqa.imaging import child
from dpiqa.imaging.decode import decode_and_prepare
from dpiqa.types import Reason


def hang():
    re.match(r"(a+)+$", "a" * 64 + "b")  # in C, holding the interpreter's lock, for years


def crash():
    os.kill(os.getpid(), signal.SIGSEGV)


def eat_memory():
    return bytearray(3 << 29)  # the address space of these tests has less


def say_too_much():
    os.write(2, b"libtiff: noise\n" * 1000)


def confess():
    names = [*os.environ, *(name for name in sys.modules if name in {"torch", "boto3", "celery"})]
    raise ImageRejected(Reason.CORRUPT, " ".join(names))


def say_pid():
    raise ImageRejected(Reason.CORRUPT, str(os.getpid()))


def sleep():
    time.sleep(600)


def stop():
    os.kill(os.getpid(), signal.SIGSTOP)


def abort():
    os.abort()


def die():
    os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does where memory runs out


def attempt(name, call):
    """Say how the system answers a call: `name=EPERM`."""
    try:
        call()
    except OSError as error:
        return f"{name}={errno.errorcode[error.errno]}"
    except ValueError:  # as `resource` calls EPERM
        return f"{name}=EPERM"
    return f"{name}=done"


def syscall(number, *arguments):
    """Call the kernel by a number of x86-64."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")


def fork():
    if os.fork() == 0:
        os._exit(0)


def make_folder():
    path = f"/tmp/escaped-{os.getpid()}"
    os.mkdir(path)  # noqa: PTH102
    os.rmdir(path)  # noqa: PTH106


def escape():
    """Try what a decoder that was taken over would try."""
    owner = os.getppid()
    attempts = {
        "tcp": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
        "udp": lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
        "unix": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
        "pair": socket.socketpair,
        "passwd": lambda: open("/etc/passwd").close(),  # noqa: PTH123
        "secrets": lambda: open(f"/proc/{owner}/environ").close(),  # noqa: PTH123
        "memory": lambda: open(f"/proc/{owner}/mem", "rb").close(),  # noqa: PTH123
        "write": lambda: open(os.devnull, "w").close(),  # noqa: PTH123
        "python": lambda: open(os.__file__, "a").close(),  # noqa: PTH123
        "mkdir": make_folder,
        "fork": fork,
        "exec": lambda: os.execv("/no/such/program", ["true"]),
        "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
        "signal": lambda: os.kill(owner, 0),
        "limits": lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 40, resource.RLIM_INFINITY)),
        "uid": lambda: os.setuid(0),
        "chroot": lambda: os.chroot("/"),
        "nice": lambda: os.nice(1),
        "memfd": lambda: os.memfd_create("code"),
        "ptrace": lambda: syscall(101, 0x4206, owner, 0, 0),
        "peek": lambda: syscall(310, owner, 0, 0, 0, 0, 0),
        "unshare": lambda: syscall(272, 0x10000000),
        "io_uring": lambda: syscall(425, 1, 0),
        "bpf": lambda: syscall(321, 0, 0, 0),
        "keys": lambda: syscall(250, 0, 0),
        "clone3": lambda: syscall(435, 0, 0),
    }
    answers = [attempt(name, call) for name, call in attempts.items()]
    raise ImageRejected(Reason.CORRUPT, " ".join(answers))


def start_thread():
    """Do what decoders may do."""
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    import wave  # noqa: F401, PLC0415 - a module of the standard library that nothing has loaded


def break_protocol():
    os.write(int(sys.argv[1]), b"P" + bytes(8))


DEEDS = {
    b"hang": hang,
    b"crash": crash,
    b"memory": eat_memory,
    b"noise": say_too_much,
    b"confess": confess,
    b"pid": say_pid,
    b"protocol": break_protocol,
    b"sleep": sleep,
    b"stop": stop,
    b"abort": abort,
    b"die": die,
    b"escape": escape,
    b"thread": start_thread,
}


def work(data, preprocessing, limits):
    if data.startswith(b"once ") and not os.path.exists(os.environ["TMPDIR"] + "/done"):  # noqa: PTH110
        open(os.environ["TMPDIR"] + "/done", "w").close()  # noqa: PTH123
        DEEDS[data.removeprefix(b"once ")]()
    if deed := DEEDS.get(data):
        deed()
    return decode_and_prepare(data, preprocessing, limits)


if __name__ == "__main__":
    child.run(sys.argv, work)
