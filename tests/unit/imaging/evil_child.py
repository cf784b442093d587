"""A decode process whose decoder does what the bytes say: the real process, socket and limits, another decoder."""

import os
import re
import signal
import sys

from dpiqa.errors import ImageRejected
from dpiqa.imaging import child
from dpiqa.imaging.decode import Limits, decode_and_prepare
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
}


def work(data, preprocessing, limits):
    if data == b"crash once" and not os.path.exists(os.environ["TMPDIR"] + "/crashed"):  # noqa: PTH110
        open(os.environ["TMPDIR"] + "/crashed", "w").close()  # noqa: PTH123
        crash()
    if deed := DEEDS.get(data):
        deed()
    return decode_and_prepare(data, preprocessing, limits)


if __name__ == "__main__":
    child.run(int(sys.argv[1]), Limits.model_validate_json(sys.argv[2]), int(sys.argv[3]), work)
