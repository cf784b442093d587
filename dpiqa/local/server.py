"""What the embedded servers share: a port on loopback, a start that knows its own process, a stop."""

from abc import ABC, abstractmethod

from dpiqa.errors import ConfigurationError
from dpiqa.local.process import Command, Process, free_port, spawn, wait_ready


class Server(ABC):
    """A server on loopback. `start` may be called again after it died: the port stays."""

    name: str
    start_seconds: float = 60  #: how long it may take to answer

    def __init__(self) -> None:
        self.port = 0
        self.process: Process | None = None

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.alive

    def start(self) -> None:
        """Start and wait until it answers. Raises `ConfigurationError` that quotes its log."""
        for attempt in range(3):
            known, self.port = self.port, self.port or free_port()
            self.process = spawn(self.command())
            try:
                wait_ready(self.process, self.is_ready, self.start_seconds)
            except ConfigurationError:
                self.process.kill()
                if known or attempt == 2:
                    raise
                self.port = 0  # somebody took the port between our look and the server's
            else:
                return

    def stop(self) -> None:
        """Stop it cleanly; a no-op where it does not run."""
        if self.process is not None:
            self.process.stop()

    @abstractmethod
    def command(self) -> Command:
        """Return the command that serves on `port`."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether `process` itself answers: another server may hold the port."""
