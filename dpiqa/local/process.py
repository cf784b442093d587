"""Child processes that die with their parent and are always stopped, and servers among them.

On Linux the kernel is asked to signal a child when the thread that started it ends (`PR_SET_PDEATHSIG`): start children
from the main thread. Elsewhere a parent killed by `kill -9` leaves its children; every other end stops them too.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from dpiqa.errors import ConfigurationError
from dpiqa.local.ports import free_port
from dpiqa.signals import deferred

_PR_SET_PDEATHSIG = 1
#: Loaded before any fork: a child between fork and exec must not take the import lock.
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def python(module: str, *arguments: str) -> list[str]:
    """Return the command of a module; `-P` prevents files in the working directory from shadowing modules."""
    return [sys.executable, "-P", "-m", module, *arguments]


def die_with_parent(death_signal: int = signal.SIGKILL) -> None:
    """Have the kernel send this process `death_signal` when the thread that started it ends. A no-op off Linux."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)


def bind_lifetime(death_signal: int = signal.SIGKILL) -> Callable[[], None]:
    """Return a `preexec_fn` that binds the child's lifetime to ours, even if we die before the child's exec."""
    parent = os.getpid()

    def bind() -> None:
        die_with_parent(death_signal)
        if os.getppid() != parent:  # it died between fork and prctl: the kernel will not signal us
            os._exit(1)

    return bind


@dataclass(frozen=True, kw_only=True)
class Command:
    """A program to run, and the way to end it."""

    name: str  #: short, for logs and `dpiqa local status`
    argv: list[str]
    log: Path  #: standard output and error are appended here
    env: dict[str, str] | None = None  #: the whole environment; None: that of this process
    cwd: Path | None = None
    uid: int | None = None  #: run as this user (only root may)
    gid: int | None = None
    stop_signal: int = signal.SIGTERM  #: asks for a clean end
    stop_seconds: float = 10  #: after which it is killed
    death_signal: int = signal.SIGKILL  #: sent by the kernel when this process dies


@dataclass
class Process:
    """One run of a command, in a session of its own: Ctrl-C at the terminal reaches only us."""

    command: Command
    popen: subprocess.Popen[bytes]
    started: float = field(default_factory=time.monotonic)

    @property
    def pid(self) -> int:
        """Process id."""
        return self.popen.pid

    @property
    def alive(self) -> bool:
        """Return whether it still runs."""
        return self.popen.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal to the process, if it still runs."""
        if self.alive:
            self.popen.send_signal(number)

    def kill(self) -> None:
        """Kill it and the processes that it started; reap it."""
        self._kill(self._descendants())

    def stop(self) -> None:
        """End it cleanly within `stop_seconds`, else kill it, with the processes it started."""
        descendants = self._descendants()
        self.signal(self.command.stop_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(self.command.stop_seconds)
        self._kill(descendants)

    def _kill(self, descendants: list[psutil.Process]) -> None:
        """Kill its group and reap it; kill `descendants` too, some of which have sessions of their own (Postgres)."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.popen.wait()
        left = wait_ended(descendants, 1)
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        wait_ended(left, 1)

    def _descendants(self) -> list[psutil.Process]:
        try:
            return list(psutil.Process(self.pid).children(recursive=True))
        except psutil.Error:
            return []


def runs(process: psutil.Process) -> bool:
    """Return whether it runs: a zombie does not, and process 1 of a container may leave it one for long."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_ended(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until they have ended; return those that still run after that time."""
    deadline = time.monotonic() + seconds
    while (left := [process for process in processes if runs(process)]) and time.monotonic() < deadline:
        time.sleep(0.01)
    return left


def spawn(command: Command) -> Process:
    """Start a command. Raises `ConfigurationError` when it cannot be started at all."""
    command.log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with command.log.open("ab") as log, deferred(signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            popen = subprocess.Popen(
                command.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=command.env,
                cwd=command.cwd,
                user=command.uid,
                group=command.gid,
                extra_groups=None if command.uid is None else [],
                start_new_session=True,
                preexec_fn=bind_lifetime(command.death_signal),  # noqa: PLW1509 - it only makes system calls
            )
    except OSError as error:
        raise ConfigurationError(f"{command.name} cannot be started: {error}", hint="run `dpiqa doctor`") from None
    return Process(command, popen)


def wait_ready(process: Process, ready: Callable[[], bool], seconds: float) -> None:
    """Wait until `ready()`; raises `ConfigurationError` with the log's last line when it ends or takes too long."""
    deadline = time.monotonic() + seconds
    while not ready():
        if not process.alive:
            raise failure(process, f"ended with status {process.popen.returncode}")
        if time.monotonic() > deadline:
            raise failure(process, f"was not ready after {seconds:.0f} s")
        time.sleep(0.02)


def failure(process: Process, event: str) -> ConfigurationError:
    """Return an error that quotes the last line of the process's log."""
    last = next(iter(reversed(tail(process.command.log, 20))), "no output")
    return ConfigurationError(f"{process.command.name} {event}: {last}", hint=f"see {process.command.log}")


def tail(log: Path, lines: int) -> list[str]:
    """Return the last lines of a log that are not blank."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 64 * 1024))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-lines:]


def owns_port(pid: int, port: int) -> bool:
    """Return whether the process itself listens on that port: another server may hold it and answer in its place."""
    return any(c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port for c in _connections(pid))


def talks_to(pid: int, port: int) -> bool:
    """Return whether the process holds a connection to that port."""
    return any(c.status == psutil.CONN_ESTABLISHED and c.raddr and c.raddr.port == port for c in _connections(pid))


def _connections(pid: int) -> list[Any]:
    try:
        return list(psutil.Process(pid).net_connections("tcp"))
    except psutil.Error:
        return []


class Server(ABC):
    """A server on loopback. `start` may be called again after it died: the port stays."""

    name: str
    start_seconds: float = 60  #: until it must answer

    def __init__(self) -> None:
        self.port = 0
        self.process: Process | None = None

    @property
    def alive(self) -> bool:
        """Return whether its process is running."""
        return self.process is not None and self.process.alive

    def start(self) -> None:
        """Start and wait until it answers. Raises `ConfigurationError` that quotes its log."""
        for attempt in range(3):
            earlier_port, self.port = self.port, self.port or free_port()
            self.process = spawn(self.command())
            try:
                wait_ready(self.process, self.is_ready, self.start_seconds)
            except ConfigurationError:
                self.process.kill()
                if earlier_port or attempt == 2:
                    raise
                self.port = 0  # another process took the port between our check and the server's start
            except BaseException:  # Ctrl-C: nobody else knows of the process yet
                self.process.kill()
                raise
            else:
                return

    def stop(self) -> None:
        """Stop it cleanly; a no-op if it is not running."""
        if self.process is not None:
            self.process.stop()

    @abstractmethod
    def command(self) -> Command:
        """Return the command that serves on `port`."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Return whether `process` itself answers: another server may hold the port."""
