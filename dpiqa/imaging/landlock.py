"""Landlock: from then on a process may only read below named folders, and neither connect nor listen nor signal.

By the kernel's three system calls (Linux 5.13 and newer, where it is enabled); there is no wrapper in libc.
"""

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  #: the same on every architecture
_ASK_VERSION, _PATH_BENEATH = 1, 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
#: Rights to files that a version of the interface knows and can take away; bits from the lowest on.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_CONNECT_AND_BIND = 0b11  #: TCP, from version 4 on
_SOCKETS_AND_SIGNALS = 0b11  #: abstract sockets and signals outside, from version 6 on


def version() -> int:
    """Return the version of the kernel's interface; 0 where it is missing or disabled."""
    return max(0, int(_syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)))


def restrict(readable: Iterable[Path]) -> bool:
    """Bind this thread, and those it starts, to reading below these paths. Returns whether the kernel did.

    Call it before other threads exist, and after `PR_SET_NO_NEW_PRIVS`. Paths that do not exist are left out.
    """
    abi = version()
    if not abi:
        return False
    rights = (1 << _FILE_RIGHTS[min(abi, 5)]) - 1
    attributes = struct.pack("QQQ", rights, _CONNECT_AND_BIND, _SOCKETS_AND_SIGNALS)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = int(_syscall(_CREATE_RULESET, attributes[:size], size, 0))
    if ruleset < 0:
        return False
    try:
        return all(_allow(ruleset, path) for path in readable) and _syscall(_RESTRICT_SELF, ruleset, 0) == 0
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path) -> bool:
    try:
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        allowed = _READ_FILE | _READ_DIR if path.is_dir() else _READ_FILE
        return _syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", allowed, beneath), 0) == 0
    finally:
        os.close(beneath)


def _syscall(number: int, *arguments: object) -> int:
    return int(ctypes.CDLL(None, use_errno=True).syscall(number, *arguments))
