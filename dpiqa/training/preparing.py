"""How far the work before the first update is: decoding, statistics, spoiled copies, latents, a teacher's answers.

The first run spends minutes on it, in places that do not know who started the run: whoever watches that listens here.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import structlog

log = structlog.get_logger()
Listener = Callable[[str, int, int], None]  #: hears what is prepared, how many are done, and of how many
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Let `listener` hear what is prepared while the block runs."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def blocks(what: str, done: int, total: int, size: int) -> Iterator[range]:
    """Yield the rows from `done` to `total` in blocks, and say how many of `what` there are before and after each."""
    if done < total:
        _tell(what, done, total)
    for start in range(done, total, size):
        rows = range(start, min(start + size, total))
        yield rows
        _tell(what, rows.stop, total)


def _tell(what: str, done: int, total: int) -> None:
    log.info("preparing", what=what, done=done, of=total)
    listener = _listener.get()
    if listener is not None:
        listener(what, done, total)
