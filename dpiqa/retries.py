"""Retry policies: every wait for something outside, by tenacity, in one place. Delays are in seconds."""

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import structlog
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    retry_if_exception_type,
    retry_if_not_exception_type,
    stop_after_attempt,
    stop_after_delay,
    stop_never,
    stop_when_event_set,
    wait_random_exponential,
)

from dpiqa.errors import DatabaseMisconfigured, DatabaseUnavailable, StoreUnavailable, Unavailable
from dpiqa.watchdog import beat

log = structlog.get_logger()
T = TypeVar("T")

#: The longest that a request waits because the server asks for it. Who is asked to wait longer tries again later.
_MAX_ASKED_SECONDS = 5.0


def _is_retried(error: BaseException) -> bool:
    return isinstance(error, StoreUnavailable) and (error.retry_after or 0) <= _MAX_ASKED_SECONDS


def _object_wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    asked = getattr(error, "retry_after", None) or 0.0
    return max(wait_random_exponential(multiplier=0.2, max=2)(state), asked)


#: One request to S3, its body included: boto3's own retries do not cover reading the body.
OBJECT_REQUEST = Retrying(
    retry=retry_if_exception(_is_retried),
    stop=stop_after_attempt(3) | stop_after_delay(60),
    wait=_object_wait,
    reraise=True,
)


def retry_transaction(transaction: Callable[[], T], *, attempts: int | None = 5, max_wait: float = 10.0) -> T:
    """Call `transaction` again while the database is unavailable or picked it as the victim of a deadlock.

    It must hold a whole transaction. `attempts=None` tries forever; waits are random and grow up to `max_wait`.
    """
    policy = Retrying(
        retry=retry_if_exception_type(DatabaseUnavailable) & retry_if_not_exception_type(DatabaseMisconfigured),
        stop=stop_never if attempts is None else stop_after_attempt(attempts),
        wait=wait_random_exponential(multiplier=0.05, max=max_wait),
        before_sleep=_log_retry("database_retry"),
        reraise=True,
    )
    return policy(transaction)


def retry_until_available(
    step: Callable[[], T],
    *,
    event: str,
    base: float = 0.2,
    cap: float = 5.0,
    stopping: threading.Event | None = None,
    except_for: tuple[type[Unavailable], ...] = (),
    **context: object,
) -> T:
    """Call `step` until it no longer raises `Unavailable`; waits grow from `base` to `cap` seconds.

    Each failure is logged as `event`. Raises `Unavailable` once `stopping` is set, and those of `except_for` at once.
    """
    stopping = stopping or threading.Event()
    policy = Retrying(
        retry=retry_if_exception_type(Unavailable) & retry_if_not_exception_type(except_for),
        stop=stop_when_event_set(stopping),
        wait=lambda state: retry_delay(state.attempt_number, base=base, cap=cap),
        sleep=lambda seconds: _sleep(seconds, stopping),
        before_sleep=_log_retry(event, **context),
        reraise=True,
    )
    return policy(step)


def retry_delay(attempt: int, *, base: float = 2.0, cap: float = 300.0) -> float:
    """Return the seconds before try `attempt + 1`: doubling from `base` up to `cap`, with half of it random.

    The jitter spreads the images of one outage, so that they do not all come back in the same second.
    """
    seconds = min(cap, base * 2.0 ** min(max(attempt, 1) - 1, 30))
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


def _sleep(seconds: float, stopping: threading.Event) -> None:
    """Sleep. Raises `Unavailable` as soon as `stopping` is set.

    Polls instead of waiting for the event: a signal handler of this very thread may set it, which would wait forever
    for a lock that the interrupted `wait` holds.
    """
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if stopping.is_set():
            raise Unavailable("this process was told to stop while it waited")
        beat()
        time.sleep(min(left, 0.1))


def _log_retry(event: str, **context: object) -> Callable[[RetryCallState], None]:
    def log_retry(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        beat()
        log.warning(event, attempt=state.attempt_number, error=str(error), **context)

    return log_retry
