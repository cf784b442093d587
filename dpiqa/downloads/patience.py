"""How long a download is waited for. Every wait has an end."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from dpiqa.downloads.errors import Interrupted


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Bounds of one download. Tries that bring nothing new are counted; one that brings something starts afresh."""

    connect_seconds: float = 10
    stall_seconds: float = 30  #: without a byte, or slower than `least_rate` all the while
    least_rate: float = 1024  #: bytes per second
    tries: int = 6
    wait_seconds: float = 1  #: before the second try; doubles from try to try
    longest_wait: float = 60  #: seconds between two tries, also when a server asks for more
    total_seconds: float = 24 * 3600


@dataclass
class Pace:
    """Watches one try: raises `Interrupted` when too little comes, or when the time of the whole download is up."""

    patience: Patience
    deadline: float  #: on `clock`
    clock: Callable[[], float] = time.monotonic
    _since: float = field(init=False)
    _bytes: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._since = self.clock()

    def got(self, count: int) -> None:
        """Note that so many bytes came."""
        now = self.clock()
        self._bytes += count
        if now > self.deadline:
            raise Interrupted(f"it took longer than {self.patience.total_seconds:.0f} s in all")
        elapsed = now - self._since
        if elapsed < self.patience.stall_seconds:
            return
        if self._bytes < elapsed * self.patience.least_rate:
            raise Interrupted(f"only {self._bytes:,} bytes came in {elapsed:.0f} s")
        self._since, self._bytes = now, 0
