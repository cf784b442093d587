"""Limits of one API process: requests a minute by key, and wrong keys by address, in its memory; what waits in all.

Each process counts for itself: with N processes a key has N times its number. A limit across processes belongs into the
proxy before them, which sees all of them; a count in Redis would be one more part that every request waits for.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address

from dpiqa.errors import LimitExceeded, Overloaded

MAX_KEYS = 10_000  #: that are remembered; the one used longest ago is forgotten first
MAX_ADDRESSES = 10_000  #: likewise
FREE_ATTEMPTS = 5  #: wrong keys of one address that are answered at once
MAX_DELAY_SECONDS = 5.0  #: before a wrong key is answered
MAX_WAITING = 8  #: wrong keys of one address whose answers wait; others are refused unread
BACKLOG_SECONDS = 5.0  #: for which the number of waiting items is trusted
FORGET_SECONDS = 300.0  #: without a wrong key, after which an address counts as new

Clock = Callable[[], float]


class RequestRates:
    """A token bucket for each key: its number of requests at once, and as many again in each minute."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # key id -> tokens, and when

    def take(self, key_id: str, per_minute: int) -> None:
        """Count a request. Raises `LimitExceeded` with the seconds to wait."""
        now = self._clock()
        tokens, at = self._buckets.pop(key_id, (float(per_minute), now))
        tokens = min(float(per_minute), tokens + (now - at) * per_minute / 60)
        self._buckets[key_id] = (max(tokens - 1, 0.0) if tokens >= 1 else tokens, now)
        if len(self._buckets) > MAX_KEYS:
            self._buckets.popitem(last=False)
        if tokens < 1:
            raise LimitExceeded(
                f"this key may send {per_minute} requests a minute",
                hint="wait as long as Retry-After says; ask for larger pages instead of more",
                retry_seconds=max(1, round((1 - tokens) * 60 / per_minute + 0.5)),
            )


@dataclass(slots=True)
class _Attempts:
    n: int = 0  #: wrong keys
    waiting: int = 0  #: of these, whose answers wait
    at: float = 0.0  #: of the last one


class WrongKeys:
    """Wrong keys by address: answered later and later, so that keys chosen by people cannot be searched for.

    Not a lock: keys that are in use go on to work from the same address, which may be that of a proxy.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._attempts: OrderedDict[str, _Attempts] = OrderedDict()

    def are_too_many(self, address: str) -> bool:
        """Return whether so many answers to an address wait that further keys are not looked at."""
        attempts = self._attempts.get(_group(address))
        return attempts is not None and attempts.waiting >= MAX_WAITING

    def begin(self, address: str) -> tuple[str, float]:
        """Count a wrong key; return the name for `end`, and the seconds before it is answered."""
        group, now = _group(address), self._clock()
        attempts = self._attempts.pop(group, _Attempts())
        if now - attempts.at > FORGET_SECONDS and not attempts.waiting:
            attempts = _Attempts()
        attempts.n, attempts.at, attempts.waiting = attempts.n + 1, now, attempts.waiting + 1
        self._attempts[group] = attempts
        if len(self._attempts) > MAX_ADDRESSES:
            self._attempts.popitem(last=False)
        late = attempts.n - FREE_ATTEMPTS
        return group, 0.0 if late <= 0 else min(MAX_DELAY_SECONDS, 0.1 * 2.0 ** min(late, 10))

    def end(self, group: str) -> None:
        """Count the answer to a wrong key."""
        attempts = self._attempts.get(group)
        if attempts is not None:
            attempts.waiting = max(0, attempts.waiting - 1)


class Backlog:
    """The number of items that wait, as a limit of new jobs. Read at most every `BACKLOG_SECONDS`."""

    def __init__(self, count: Callable[[], int], most: int, clock: Clock = time.monotonic) -> None:
        """`count` reads the number; `most`: from which on new jobs are refused."""
        self._count, self._most, self._clock = count, most, clock
        self._known: tuple[int, float] | None = None

    def check(self) -> None:
        """Raise `Overloaded` where too much waits already."""
        now = self._clock()
        if self._known is None or now - self._known[1] >= BACKLOG_SECONDS:
            self._known = self._count(), now
        if self._known[0] >= self._most:
            raise Overloaded(
                f"{self._known[0]:,} images wait to be scored: no job is accepted above {self._most:,}",
                hint="submit it again later; more workers, or a larger DPIQA_MAX_WAITING_ITEMS, help",
            )


def _group(address: str) -> str:
    """Return an address, or the network of an IPv6 address, of which one machine has many."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:64]
    return str(parsed) if parsed.version == 4 else str(int(parsed) >> 64)
