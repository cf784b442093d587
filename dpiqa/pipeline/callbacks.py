"""The sender of callbacks: one thread in every worker, and a few that wait for receivers.

It reads what is due from Postgres and needs no message: a callback is not lost with the broker, nor with a worker that
is killed between two attempts. Receivers that do not answer hold senders for `TOTAL_SECONDS` an attempt: receivers take
turns, and none has more than half of the senders of a round.
"""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import structlog
from sqlalchemy import Connection, Engine

from dpiqa.callbacks.addresses import CallbackRules
from dpiqa.callbacks.delivery import Attempt, Signer, backoff, deliver
from dpiqa.errors import ConfigurationError, DatabaseUnavailable, InvalidRequest, LeaseLost
from dpiqa.retries import retry_transaction
from dpiqa.settings import Settings
from dpiqa.storage.callbacks import (
    Delivery,
    due_callbacks,
    finish_delivery,
    postpone_delivery,
    start_delivery,
)
from dpiqa.storage.engine import transaction
from dpiqa.text import first_line, iso_utc
from dpiqa.watchdog import WATCHDOG, beat

log = structlog.get_logger()
T = TypeVar("T")

POLL_SECONDS = 3.0
SENDERS = 8  #: callbacks that one worker delivers at once
#: Seconds before the second attempt, the third, and so on: 22 hours in all.
DELAYS = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0, 21600.0, 28800.0)
MAX_ASKED_SECONDS = 3600.0  #: that a receiver may put the next attempt off by


class CallbackSender:
    """Delivers due callbacks until it is closed."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        """Read the settings. Raises `ConfigurationError`."""
        self._engine, self._settings = engine, settings
        self._signer = signer_of(settings)
        self._rules = rules_of(settings)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="callbacks", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """End the thread after the attempts that it makes."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def send_due(self) -> int:
        """Make one attempt for each callback that is due; return how many. Raises `DatabaseUnavailable`."""
        due = self._commit(due_callbacks)
        if not due:
            return 0
        n_made = 0
        with ThreadPoolExecutor(SENDERS, thread_name_prefix="callback") as pool:
            for made in pool.map(self._send, due):
                n_made += made
                beat()
        return n_made

    def _send(self, callback_id: int) -> bool:
        """Make one attempt, unless another worker does. Returns whether it was made."""
        if self._stopped.is_set():
            return False
        held = self._commit(lambda c: start_delivery(c, callback_id))
        if held is None:
            return False
        callback = held.callback
        if self._signer is None:
            attempt = Attempt(None, "this worker has no DPIQA_CALLBACK_SECRET", is_final=False)
        else:
            body = payload(held, self._settings.api_url)
            now = int(datetime.now(UTC).timestamp())
            headers = self._signer.headers(held.job.client, callback.message_id, now, body)
            attempt = deliver(callback.url, headers, body, self._rules)
        try:
            self._commit(partial(_record, held=held, attempt=attempt))
        except LeaseLost:  # the job was opened again, or this process was paused: it is told again
            log.info("callback_taken_over", job=str(held.job.id))
            return True
        event = "callback_delivered" if attempt.error is None else "callback_failed"
        log.info(
            event,
            job=str(held.job.id),
            host=urlsplit(callback.url).hostname,
            attempt=callback.attempts + 1,
            status=attempt.status,
            error=attempt.error,
        )
        return True

    def _run(self) -> None:
        with WATCHDOG.watch("callbacks", self._settings.loop_seconds):
            while not self._stopped.wait(POLL_SECONDS):
                beat()
                try:
                    while self.send_due() and not self._stopped.is_set():
                        beat()
                except DatabaseUnavailable as error:
                    log.warning("callbacks_postponed", error=str(error))
                except Exception as error:  # this thread is the only one that tells: it must survive any error
                    log.error("callbacks_failed", error=first_line(error))

    def _commit(self, statements: Callable[[Connection], T]) -> T:
        def attempt() -> T:
            with transaction(self._engine) as c:
                return statements(c)

        return retry_transaction(attempt)


def signer_of(settings: Settings) -> Signer | None:
    """Return what signs callbacks; None without a secret. Raises `ConfigurationError` for one that cannot be used."""
    return None if settings.callback_secret is None else Signer(settings.callback_secret.get_secret_value())


def rules_of(settings: Settings) -> CallbackRules:
    """Return where callbacks may go. Raises `ConfigurationError` for a setting that cannot be read."""
    try:
        return CallbackRules(settings.callback_hosts)
    except InvalidRequest as error:
        raise ConfigurationError(f"DPIQA_CALLBACK_HOSTS: {error.message}", hint=error.hint) from None


def check_callback(settings: Settings, url: str) -> str:
    """Return the URL of a callback. Raises `InvalidRequest` for one that may not be called, `ConfigurationError`."""
    rules_of(settings).parse(url)
    if signer_of(settings) is None:
        raise ConfigurationError(
            "callbacks need a secret that signs them: DPIQA_CALLBACK_SECRET",
            hint="`dpiqa callbacks secret --new` makes one, for the API and the workers",
        )
    return url


def payload(held: Delivery, api_url: str) -> bytes:
    """Return the body: the job's id, state and counts, and where to ask for more."""
    job = held.job
    ended_at = job.finished_at or job.deleted_at or datetime.now(UTC)
    data: dict[str, Any] = {
        "job_id": str(job.id),
        "state": job.state.value,
        "deleted": job.deleted_at is not None,
        "counts": held.counts,
        "links": {"job": f"{api_url.rstrip('/')}/v1/jobs/{job.id}"},
    }
    document = {"type": "job.ended", "timestamp": iso_utc(ended_at), "data": data}
    return json.dumps(document, separators=(",", ":")).encode()


def _record(c: Connection, held: Delivery, attempt: Attempt) -> None:
    """Record an attempt: delivered, given up, or when the next one is due."""
    pause = backoff(held.callback.attempts + 1, DELAYS)
    if attempt.is_final or pause is None:
        finish_delivery(c, held.callback, status=attempt.status, error=attempt.error)
        return
    asked = min(attempt.retry_after or 0.0, MAX_ASKED_SECONDS)
    postpone_delivery(c, held.callback, max(pause, asked), status=attempt.status, error=attempt.error)
