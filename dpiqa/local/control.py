"""The embedded stack of a home: `dpiqa local up|status|down`, and the process that supervises it.

`<home>/local/lock` is held by the supervising process, so the kernel frees it however that process ends.
`<home>/local/state.json` lists what is supervised; the connection file tells other commands how to reach it.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import structlog

from dpiqa.connection_file import (
    connection_path,
    is_alive,
    local_dir,
    process_identity,
    read_live_connection,
    write_connection,
)
from dpiqa.errors import AlreadyRunningError, ConfigurationError
from dpiqa.files import locked, replace_text
from dpiqa.local.process import python, runs, tail
from dpiqa.local.stack import Stack
from dpiqa.signals import ignored, interrupted_by

log = structlog.get_logger()

_READY_SECONDS = 300
_STOP_SECONDS = 60
_TICK_SECONDS = 0.25


@dataclass(frozen=True)
class Status:
    """State of the stack, as `dpiqa local status` shows it."""

    running: bool
    phase: str = "stopped"  #: starting, ready, stopping or stopped
    pid: int | None = None  #: of the supervisor
    processes: list[dict[str, Any]] = field(default_factory=list)  #: name, state, pid, restarts, url, log
    connection: dict[str, Any] = field(default_factory=dict, repr=False)  #: the connection file; holds secrets
    already_running: bool = False  #: before this `up`


def up(home: Path, *, everything: bool = True, foreground: bool = False) -> Status:
    """Start the stack and return when it is ready; in the foreground, when it has stopped.

    `everything=False`: Postgres, Valkey and S3 only. Ctrl-C stops what was started. Raises `ConfigurationError` when
    one of them does not start.
    """
    if status(home).running:
        return _wait_ready(home, None)
    if not foreground:
        starter = _detach(home, everything=everything)
        try:
            return _wait_ready(home, starter)
        except KeyboardInterrupt:
            _end(psutil.Process(starter.pid))
            raise
    try:
        supervise(home, everything=everything)
    except AlreadyRunningError:  # another `up` was faster
        return _wait_ready(home, None)
    return Status(running=False)


def status(home: Path) -> Status:
    """Return the state of the stack. Never raises because something does not run."""
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
    """Stop the stack; returns False if none was running."""
    supervisor = read_state(home).get("supervisor")
    if supervisor is None or not is_alive(supervisor):
        connection_path(home).unlink(missing_ok=True)
        return False
    with contextlib.suppress(psutil.NoSuchProcess):  # it may be about to end anyway
        _end(psutil.Process(supervisor["pid"]))
    connection_path(home).unlink(missing_ok=True)
    return True


def _end(supervisor: psutil.Process) -> None:
    """End the supervisor and all that it started: cleanly, or, at Ctrl-C and after a minute, by killing it."""
    supervisor.terminate()
    deadline = time.monotonic() + _STOP_SECONDS
    try:
        while runs(supervisor):
            if time.monotonic() > deadline:
                supervisor.kill()  # its processes die with it
                return
            time.sleep(0.05)
    except KeyboardInterrupt:
        supervisor.kill()
        raise


def _detach(home: Path, *, everything: bool) -> subprocess.Popen[bytes]:
    """Start the supervisor as a process that outlives this one."""
    log = _supervisor_log(home)
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
    argv = python("dpiqa.local", str(home), *([] if everything else ["--servers-only"]))
    with log.open("wb") as output:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )


def _wait_ready(home: Path, starter: subprocess.Popen[bytes] | None) -> Status:
    """Wait for the supervisor that was started (`starter`), or for the one that is running already."""
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        current = status(home)
        if current.running and current.phase == "ready":
            return replace(current, already_running=starter is None or current.pid != starter.pid)
        if starter is None and not current.running:
            raise ConfigurationError("the stack that was running has just stopped", hint="run `dpiqa local up` again")
        if starter is not None and starter.poll() is not None and not current.running:
            last = next(iter(reversed(tail(_supervisor_log(home), 5))), "no output")
            raise ConfigurationError(f"the stack did not start: {last}", hint=f"see {_supervisor_log(home)}")
        time.sleep(0.1)
    raise ConfigurationError(f"the stack was not ready after {_READY_SECONDS} s", hint=f"see {_supervisor_log(home)}")


def _supervisor_log(home: Path) -> Path:
    return local_dir(home) / "supervisor.log"


class RunningStack:
    """The stack of this process, and the files that tell other processes about it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.phase = "starting"
        stack.supervisor.changed = self._write

    def tick(self) -> None:
        """Check the processes once, and restart those that crashed."""
        self.stack.supervisor.tick()

    def announce(self) -> None:
        """Write the connection file: the stack is ready."""
        write_connection(self.stack.home, self.stack.values)
        self.phase = "ready"
        self._write()

    def stop(self) -> None:
        """Stop cleanly; at a further signal, kill the processes and raise `KeyboardInterrupt`."""
        try:
            connection_path(self.stack.home).unlink(missing_ok=True)
            self.phase = "stopping"
            self.stack.stop()
        except KeyboardInterrupt:
            with ignored(signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                self.stack.supervisor.kill()
            raise
        finally:
            state_path(self.stack.home).unlink(missing_ok=True)

    def _write(self) -> None:
        content = {
            "supervisor": process_identity(os.getpid()),
            "phase": self.phase,
            "processes": [unit.describe() for unit in self.stack.supervisor.units],
        }
        try:
            replace_text(state_path(self.stack.home), json.dumps(content, indent=1) + "\n", private=True)
        except OSError as error:  # a full disk: the processes go on, the file says what was true before
            log.warning("state_not_written", error=str(error))


@contextmanager
def opened(home: Path, **overrides: Any) -> Iterator[RunningStack]:
    """Lock the home and yield a stack of which nothing is started yet; stop all that was started at the end.

    Call it in the main thread. SIGTERM and SIGHUP end the block by `KeyboardInterrupt`, as Ctrl-C does.
    Raises `AlreadyRunningError`.
    """
    with _locked(home), interrupted_by(signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        running = RunningStack(Stack(home, **overrides))
        try:
            yield running
        finally:
            running.stop()


def supervise(home: Path, *, everything: bool = True) -> None:
    """Run the stack until SIGTERM, SIGHUP or Ctrl-C. Raises `AlreadyRunningError`, `ConfigurationError`."""
    try:
        with opened(home) as running:
            running.stack.start_servers()
            if everything:
                running.stack.start_apps()
                running.stack.wait_ready()
            running.announce()
            while True:
                running.tick()
                time.sleep(_TICK_SECONDS)
    except KeyboardInterrupt:
        return


def state_path(home: Path) -> Path:
    """Return the state file of a home."""
    return local_dir(home) / "state.json"


def read_state(home: Path) -> dict[str, Any]:
    """Return the state file's content, of a running or a stopped stack; empty if it does not exist or is damaged."""
    try:
        content = json.loads(state_path(home).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Hold the lock of a home; the stack's processes do not inherit it."""
    folder = local_dir(home)
    # Started by root, Postgres runs as `nobody`, which needs traverse permission.
    folder.mkdir(parents=True, exist_ok=True, mode=0o711)
    hint = "`dpiqa local status` shows it, `dpiqa local down` stops it"
    busy = AlreadyRunningError(f"the stack of {home} is already running", hint=hint)
    with locked(folder / "lock", wait=False, busy=busy):
        connection_path(home).unlink(missing_ok=True)  # of a killed predecessor
        yield
