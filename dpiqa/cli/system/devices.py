"""Worker processes of several devices, one each: no two devices share a process, so a lost one ends only its own."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence

import structlog

from dpiqa.errors import InvalidRequest
from dpiqa.exit_codes import ExitCode
from dpiqa.local.commands import Launch, worker_command
from dpiqa.local.process import bind_lifetime
from dpiqa.local.supervisor import backoff_seconds
from dpiqa.settings import Settings
from dpiqa.signals import on_signals
from dpiqa.types import Stage

log = structlog.get_logger()

_STEADY_SECONDS = 60.0  #: a worker that ran this long starts its back-off again


def worker_commands(settings: Settings, stage: Stage) -> list[Launch]:
    """Return the command of a worker for each device of the settings, whose metrics have ports of their own.

    Raises `InvalidRequest` where a device is named twice, or not at all.
    """
    devices = [device.strip() for device in settings.device.split(",")]
    if "" in devices or len(set(devices)) < len(devices):
        raise InvalidRequest(f"{settings.device!r} is not a list of devices", hint="write cuda:0,cuda:1")
    commands = []
    for index, device in enumerate(devices):
        port = None if settings.metrics_port is None else settings.metrics_port + index
        own = settings.model_copy(update={"device": device, "metrics_port": port})
        commands.append(worker_command(own, stage))
    return commands


def run_each(commands: Sequence[Launch]) -> int:
    """Run the commands until SIGTERM or Ctrl-C, and start one that ended again, later each time. Return the exit code.

    Ends all where one says that its settings are wrong: starting it again would not help.
    """
    stopping: list[int] = []
    on_signals(lambda: stopping.append(signal.SIGTERM), signal.SIGTERM, signal.SIGINT)
    workers = [_Worker(*command) for command in commands]
    code = int(ExitCode.OK)
    while not stopping:
        for worker in workers:
            if worker.process.poll() == ExitCode.CONFIGURATION:
                code = int(ExitCode.CONFIGURATION)
                stopping.append(signal.SIGTERM)
            worker.restart_if_ended()
        time.sleep(0.2)
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        worker.process.wait()
    return code


class _Worker:
    """A worker process, and when it is started again."""

    def __init__(self, argv: list[str], environment: dict[str, str]) -> None:
        self._argv, self._environment = argv, {**os.environ, **environment}
        self._ends = 0
        self._retry_at: float | None = None
        self.process = self._start()

    def restart_if_ended(self) -> None:
        """Start it again once it has been away for its back-off."""
        if self.process.poll() is None:
            return
        if self._retry_at is None:
            is_steady = time.monotonic() - self._started >= _STEADY_SECONDS
            self._ends = 0 if is_steady else self._ends + 1
            self._retry_at = time.monotonic() + backoff_seconds(self._ends)
            log.warning("worker_ended", device=self._environment["DPIQA_DEVICE"], exit_code=self.process.returncode)
        elif time.monotonic() >= self._retry_at:
            self._retry_at = None
            self.process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        self._started = time.monotonic()
        # A session of its own: Ctrl-C reaches us only. If we are killed, the kernel asks it to end.
        return subprocess.Popen(
            self._argv,
            env=self._environment,
            start_new_session=True,
            preexec_fn=bind_lifetime(signal.SIGTERM),  # noqa: PLW1509 - it only makes system calls
        )
