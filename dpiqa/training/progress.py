"""Progress of the work before the first update: decoding, statistics, distorted copies, latents, teachers' outputs.

The first run spends minutes on it, in functions that do not know who started the run. A front end reports it by
listening here.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import structlog

log = structlog.get_logger()
Listener = Callable[[str, int, int], None]  #: is called with the name of the work, how much is done, and of how much
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Report progress to `listener` while the block runs."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def blocks(label: str, done: int, total: int, size: int) -> Iterator[range]:
    """Yield the rows from `done` to `total` in blocks of `size`, and report before the first and after each."""
    if done < total:
        _report(label, done, total)
    for start in range(done, total, size):
        rows = range(start, min(start + size, total))
        yield rows
        _report(label, rows.stop, total)


def _report(label: str, done: int, total: int) -> None:
    log.info("preparing", what=label, done=done, of=total)
    listener = _listener.get()
    if listener is not None:
        listener(label, done, total)
