"""Supervisor of processes: starts them, waits until they are ready, restarts crashed ones, stops all in reverse order.

The reasons why it is our own are in `docs/decisions/0009-the-supervisor.md`.

One thread. Call `tick` a few times a second from the thread that started the processes.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import structlog

from dpiqa.local.process import Process, failure
from dpiqa.text import first_line

log = structlog.get_logger()

_BACKOFF_SECONDS = (0.5, 30.0)  #: first and longest wait before a restart
_STEADY_SECONDS = 60  #: a process that ran this long starts its back-off again


class UnitState(StrEnum):
    """State of a unit."""

    STARTING = "starting"
    READY = "ready"
    CRASHED = "crashed"  #: waits for its restart
    STOPPED = "stopped"


@dataclass
class Unit:
    """One process that must run."""

    name: str
    launch: Callable[[], Process]  #: starts it; may wait until it is ready
    is_ready: Callable[[Process], bool]  #: called often, until it returns True
    after_restart: Callable[[], None] | None = None  #: restores what the crashed process had in memory
    server: bool = False  #: others need it: stopped alone, after those
    url: str = ""
    state: UnitState = UnitState.STOPPED
    process: Process | None = None
    restarts: int = 0
    crashes_in_a_row: int = field(default=0, repr=False)
    retry_at: float = field(default=0.0, repr=False)
    check_error: str = field(default="", repr=False)  #: why `is_ready` could not tell, last time

    def describe(self) -> dict[str, Any]:
        """Return the row of `dpiqa local status`."""
        return {
            "name": self.name,
            "state": self.state.value,
            "pid": self.process.pid if self.process else None,
            "restarts": self.restarts,
            "url": self.url,
            "log": str(self.process.command.log) if self.process else "",
        }


def backoff_seconds(crashes_in_a_row: int) -> float:
    """Return the seconds to wait before the next start: 0.5, doubling to 30."""
    first, longest = _BACKOFF_SECONDS
    return min(longest, first * 2.0 ** min(crashes_in_a_row, 16))


class Supervisor:
    """Units in the order in which they start."""

    def __init__(self) -> None:
        self.units: list[Unit] = []
        #: Called whenever a unit's state changes.
        self.changed: Callable[[], None] = lambda: None

    def start(self, unit: Unit) -> None:
        """Start a unit for the first time. Raises `ConfigurationError` when it cannot."""
        self.units.append(unit)
        self._set(unit, UnitState.STARTING)
        unit.process = unit.launch()
        self._is_ready(unit)

    def wait_ready(self, units: Sequence[Unit], seconds: float) -> None:
        """Wait for units that have just been started; one that ends or takes too long is a `ConfigurationError`."""
        deadline = time.monotonic() + seconds
        while waiting := [unit for unit in units if not self._is_ready(unit)]:
            for unit in waiting:
                process = unit.process
                if process is not None and not process.alive:
                    raise failure(process, f"ended with status {process.popen.returncode}")
                if process is not None and time.monotonic() > deadline:
                    reason = f" ({unit.check_error})" if unit.check_error else ""
                    raise failure(process, f"was not ready after {seconds:.0f} s{reason}")
            time.sleep(0.1)

    def tick(self) -> None:
        """Check every unit once, and restart those that crashed."""
        for unit in self.units:
            process = unit.process
            if unit.state is UnitState.CRASHED:
                if time.monotonic() >= unit.retry_at:
                    self._restart(unit)
            elif process is not None and not process.alive:
                self._handle_crash(unit, process)
            else:
                self._is_ready(unit)

    def stop(self) -> None:
        """Stop all in reverse order; units that no other unit needs at the same time."""
        leaves = [unit for unit in reversed(self.units) if not unit.server]
        for unit in leaves:
            if unit.process is not None:
                unit.process.signal(unit.process.command.stop_signal)
        for unit in (*leaves, *(unit for unit in reversed(self.units) if unit.server)):
            if unit.process is not None:
                unit.process.stop()
            self._set(unit, UnitState.STOPPED)

    def kill(self) -> None:
        """Kill all at once."""
        for unit in reversed(self.units):
            if unit.process is not None:
                unit.process.kill()

    def _is_ready(self, unit: Unit) -> bool:
        """Return whether the unit is ready; checks its process until it is."""
        process = unit.process
        if unit.state is not UnitState.STARTING or process is None or not process.alive:
            return unit.state is UnitState.READY
        try:
            is_ready = unit.is_ready(process)
        except (
            Exception
        ) as error:  # e.g. Postgres does not answer: it ends neither this unit's start nor the supervisor
            if str(error) != unit.check_error:
                log.warning("check_failed", name=unit.name, error=first_line(error))
            unit.check_error = str(error)
            return False
        if is_ready:
            unit.check_error = ""
            self._set(unit, UnitState.READY)
            log.info("process_ready", name=unit.name, pid=process.pid)
        return is_ready

    def _handle_crash(self, unit: Unit, process: Process) -> None:
        process.kill()  # and the processes it left behind
        if time.monotonic() - process.started > _STEADY_SECONDS:
            unit.crashes_in_a_row = 0
        wait = backoff_seconds(unit.crashes_in_a_row)
        unit.crashes_in_a_row += 1
        unit.retry_at = time.monotonic() + wait
        log.warning("process_ended", name=unit.name, status=process.popen.returncode, restart_in_s=wait)
        self._set(unit, UnitState.CRASHED)

    def _restart(self, unit: Unit) -> None:
        unit.restarts += 1
        self._set(unit, UnitState.STARTING)
        unit.process = None
        try:
            unit.process = unit.launch()
            if unit.after_restart is not None:
                unit.after_restart()
        except Exception as error:  # of any kind: it must not end the supervisor, which would stop all other units
            if unit.process is not None:
                unit.process.kill()
            log.warning("process_not_started", name=unit.name, error=first_line(error))
            unit.retry_at = time.monotonic() + backoff_seconds(unit.crashes_in_a_row)
            unit.crashes_in_a_row += 1
            self._set(unit, UnitState.CRASHED)

    def _set(self, unit: Unit, state: UnitState) -> None:
        unit.state = state
        self.changed()
