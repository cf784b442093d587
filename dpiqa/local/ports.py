"""TCP ports for servers on loopback. A port belongs to the process that chose it: two stacks may start at once.

A port that is only looked at is free for both, until the first server listens.
"""

import contextlib
import json
import os
import socket
import tempfile
from pathlib import Path

import psutil

from dpiqa.errors import ConfigurationError
from dpiqa.files import locked, replace_text

_TRIES = 50


def free_port(preferred: int = 0) -> int:
    """Return `preferred` if it is free on loopback, else any free TCP port, and keep it for this process while it runs.

    Raises `ConfigurationError` where none is free.
    """
    for port in (preferred, *(0 for _ in range(_TRIES))):
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT does not matter
            with contextlib.suppress(OSError):
                sock.bind(("127.0.0.1", port))
                found = int(sock.getsockname()[1])
                if reserve(found):
                    return found
    raise ConfigurationError("no TCP port is free on 127.0.0.1", hint="end some programs")


def reserve(port: int) -> bool:
    """Keep a port for this process; return whether it could: no other living process of this user has it."""
    folder = Path(tempfile.gettempdir()) / f"dpiqa-ports-{os.getuid()}"
    file = folder / "ports.json"
    with contextlib.suppress(OSError), locked(folder / "lock"):  # a port is worth more than a note that cannot be made
        owners: dict[str, int] = {}
        with contextlib.suppress(OSError, ValueError):
            owners = {name: pid for name, pid in json.loads(file.read_text()).items() if psutil.pid_exists(pid)}
        if owners.get(str(port), os.getpid()) != os.getpid():
            return False
        replace_text(file, json.dumps(owners | {str(port): os.getpid()}))
    return True
