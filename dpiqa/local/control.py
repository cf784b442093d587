"""`dpiqa local up|status|down`: start the stack, in the foreground or as a process of its own; ask it; stop it."""

import contextlib
import subprocess
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from dpiqa.connection_file import connection_path, is_alive, local_dir, read_live_connection
from dpiqa.errors import ConfigurationError
from dpiqa.local.process import python, tail
from dpiqa.local.running import AlreadyRunningError, read_state, supervise

_READY_SECONDS = 300
_STOP_SECONDS = 60


@dataclass(frozen=True)
class Status:
    """What `dpiqa local status` shows."""

    running: bool
    phase: str = "stopped"  #: starting, ready, stopping or stopped
    pid: int | None = None  #: of the supervisor
    processes: list[dict[str, Any]] = field(default_factory=list)  #: name, state, pid, restarts, url, log
    connection: dict[str, Any] = field(default_factory=dict, repr=False)  #: the connection file; holds secrets
    already_running: bool = False  #: `up` found it so


def up(home: Path, *, everything: bool = True, foreground: bool = False) -> Status:
    """Start the stack and return when it is ready; in the foreground, when it has stopped.

    `everything=False`: Postgres, Valkey and S3 only. Raises `ConfigurationError` when a part does not start.
    """
    if status(home).running:
        return _await_ready(home, None)
    if not foreground:
        return _await_ready(home, _detach(home, everything=everything))
    try:
        supervise(home, everything=everything)
    except AlreadyRunningError:  # another `up` was faster
        return _await_ready(home, None)
    return Status(running=False)


def status(home: Path) -> Status:
    """Say what runs. Never raises for what does not."""
    state = read_state(home)
    if not is_alive(state.get("supervisor")):
        return Status(running=False)
    return Status(
        running=True,
        phase=str(state.get("phase", "starting")),
        pid=state["supervisor"]["pid"],
        processes=list(state.get("processes", [])),
        connection=read_live_connection(home),
    )


def down(home: Path) -> bool:
    """Stop the stack; False when none ran."""
    mark = read_state(home).get("supervisor")
    if mark is None or not is_alive(mark):
        connection_path(home).unlink(missing_ok=True)
        return False
    with contextlib.suppress(psutil.NoSuchProcess):  # it may be about to end anyway
        _end(psutil.Process(mark["pid"]))
    connection_path(home).unlink(missing_ok=True)
    return True


def _end(supervisor: psutil.Process) -> None:
    supervisor.terminate()
    deadline = time.monotonic() + _STOP_SECONDS
    while supervisor.is_running() and supervisor.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            supervisor.kill()  # its processes die with it
            return
        time.sleep(0.05)


def _detach(home: Path, *, everything: bool) -> subprocess.Popen[bytes]:
    """Start the supervisor as a process that outlives us."""
    log = _supervisor_log(home)
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
    argv = python("dpiqa.local", str(home), *([] if everything else ["--servers-only"]))
    with log.open("wb") as output:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )


def _await_ready(home: Path, starter: subprocess.Popen[bytes] | None) -> Status:
    """Wait for the supervisor that we started, or for the one that runs already."""
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        found = status(home)
        if found.running and found.phase == "ready":
            return replace(found, already_running=starter is None or found.pid != starter.pid)
        if starter is None and not found.running:
            raise ConfigurationError("the stack that was running has just stopped", hint="run `dpiqa local up` again")
        if starter is not None and starter.poll() is not None and not found.running:
            last = next(iter(reversed(tail(_supervisor_log(home), 5))), "no output")
            raise ConfigurationError(f"the stack did not start: {last}", hint=f"see {_supervisor_log(home)}")
        time.sleep(0.1)
    raise ConfigurationError(f"the stack was not ready after {_READY_SECONDS} s", hint=f"see {_supervisor_log(home)}")


def _supervisor_log(home: Path) -> Path:
    return local_dir(home) / "supervisor.log"
