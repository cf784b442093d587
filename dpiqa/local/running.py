"""One running stack of a home: its lock, its state file, its connection file.

`<home>/local/lock` is held by the process that supervises, so the kernel frees it however that process ends.
`<home>/local/state.json` says what is supervised.
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dpiqa.connection_file import connection_path, local_dir, process_mark, write_connection
from dpiqa.errors import ConfigurationError
from dpiqa.files import locked, replace_text
from dpiqa.local.stack import Stack
from dpiqa.signals import interrupted_by

_TICK_SECONDS = 0.25


class AlreadyRunningError(ConfigurationError):
    """This home's stack runs already."""


class RunningStack:
    """The stack of this process, and what others may know of it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.phase = "starting"
        stack.supervisor.changed = self._write

    def tick(self) -> None:
        """Look after the processes once."""
        self.stack.supervisor.tick()

    def announce(self) -> None:
        """Say that the stack is ready: write the connection file."""
        write_connection(self.stack.home, self.stack.values)
        self.phase = "ready"
        self._write()

    def stop(self) -> None:
        """Stop cleanly; a further signal does it by force."""

        def by_force(*_: Any) -> None:
            self.stack.supervisor.kill()
            os._exit(130)

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, by_force)
        connection_path(self.stack.home).unlink(missing_ok=True)
        self.phase = "stopping"
        self.stack.stop()
        state_path(self.stack.home).unlink(missing_ok=True)

    def _write(self) -> None:
        content = {
            "supervisor": process_mark(os.getpid()),
            "phase": self.phase,
            "processes": [unit.describe() for unit in self.stack.supervisor.units],
        }
        replace_text(state_path(self.stack.home), json.dumps(content, indent=1) + "\n", private=True)


@contextmanager
def opened(home: Path, **overrides: Any) -> Iterator[RunningStack]:
    """Hold the home and a stack of which nothing is started yet; stop all that was started at the end.

    To be used in the main thread. SIGTERM and SIGHUP end the block by `KeyboardInterrupt`, as Ctrl-C does.
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
    """Return the state file of that home."""
    return local_dir(home) / "state.json"


def read_state(home: Path) -> dict[str, Any]:
    """Return the state file's content, of a live or a dead stack; empty when there is none or it is damaged."""
    try:
        content = json.loads(state_path(home).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Hold this home's lock; the stack's processes do not inherit it."""
    folder = local_dir(home)
    folder.mkdir(parents=True, exist_ok=True, mode=0o711)  # Postgres of root passes through as `nobody`
    hint = "`dpiqa local status` shows it, `dpiqa local down` stops it"
    busy = AlreadyRunningError(f"the stack of {home} is already running", hint=hint)
    with locked(folder / "lock", wait=False, busy=busy):
        connection_path(home).unlink(missing_ok=True)  # of a killed predecessor
        yield
