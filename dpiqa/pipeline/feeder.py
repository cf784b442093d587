"""The feeder: keeps a bounded number of chunks announced, and finds lost work. One thread in every worker."""

import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog
from sqlalchemy import Connection, Engine

from dpiqa.doorbell import (
    Doorbell,
    empty_queues,
    ring_expand,
    ring_explain,
    ring_prepare,
    ring_reconcile,
    ring_report,
    ring_score,
)
from dpiqa.errors import DatabaseUnavailable
from dpiqa.pipeline.buckets import Buckets
from dpiqa.pipeline.leases import note_expired
from dpiqa.settings import Settings
from dpiqa.storage.audit import prune_audit
from dpiqa.storage.engine import transaction
from dpiqa.storage.explanations import due_explanations, prune_explanations
from dpiqa.storage.failure_checks import check_failures
from dpiqa.storage.feed import feed, ring_again
from dpiqa.storage.listings import unlisted_jobs
from dpiqa.storage.postponed_buckets import remove_old
from dpiqa.storage.reconciliations import request_due, unfinished_reconciliations
from dpiqa.storage.reports import due_reports
from dpiqa.storage.requirements import unprepared
from dpiqa.storage.retention import WATCH_PAUSE, request_pruning
from dpiqa.storage.rollups import count_results, fold_results
from dpiqa.storage.sweeps import sweep_once
from dpiqa.storage.uploads import prune_uploads
from dpiqa.text import first_line
from dpiqa.watchdog import WATCHDOG, Watchdog, beat

log = structlog.get_logger()

MIN_PAUSE = 0.5  #: minimum seconds between polls, however often it is woken
MAX_PAUSE = 3.0  #: maximum; a job that a user resumes, retries or cancels wakes nobody


class Feeder:
    """Announces waiting work: every `MAX_PAUSE`, and soon after `wake`; finds lost work every `sweep_seconds`."""

    def __init__(
        self,
        engine: Engine,
        doorbell: Doorbell,
        settings: Settings,
        *,
        buckets: Buckets | None = None,
        heartbeat: Callable[[], None] = lambda: None,
        watchdog: Watchdog = WATCHDOG,
    ) -> None:
        self._buckets, self._watchdog = buckets or Buckets(), watchdog
        self._engine, self._doorbell, self._settings, self._heartbeat = engine, doorbell, settings, heartbeat
        self._skipped: set[int] = set()
        self._skipped_lock = threading.Lock()
        self._woken = threading.Event()
        self._stopped = threading.Event()
        self._counts_results = True  # until all results of before an upgrade are in the roll-ups
        self._thread = threading.Thread(target=self._run, name="feeder", daemon=True)

    def start(self) -> None:
        """Start the thread; it polls at once."""
        self._thread.start()

    def wake(self) -> None:
        """Poll soon: a chunk was finished, so another may be announced."""
        self._woken.set()

    def ring_again(self, item_ids: Iterable[int]) -> None:
        """Announce again, soon, what a claim was told of and could not take, as far as it still waits."""
        with self._skipped_lock:
            self._skipped.update(item_ids)
        self.wake()

    def close(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join()

    def poll(self, *, sweep: bool = True) -> bool:
        """Announce waiting work, once. `sweep`: also lost messages, and what waits in `maintenance`.

        Returns whether items of cancelled, retried or deleted jobs are left that could be changed at once: the next
        poll changes them. Raises `DatabaseUnavailable`.
        """
        self._ring_skipped()
        empty = empty_queues(self._doorbell) if sweep else set()
        settings = self._settings
        with transaction(self._engine) as c:
            self._buckets.exchange(c)
        with transaction(self._engine) as c:
            rings = feed(
                c,
                window=settings.window_items,
                rering_seconds=settings.rering_seconds,
                chunk=settings.chunk_items,
                empty_queues=empty,
                max_crashes=settings.max_crashes,
                on_expired=note_expired,
            )
            others = _due(c) if sweep else []
        ring_score(self._doorbell, rings)
        for ring in others:
            ring(self._doorbell)
        with transaction(self._engine) as c:
            paused = check_failures(c)
        for job in paused:
            log.warning("job_paused", job=str(job), reason="its first images failed")
        if sweep:
            with transaction(self._engine) as c:
                fold_results(c)
                if settings.prune_items_after_days is not None:
                    before = datetime.now(UTC) - timedelta(days=settings.prune_items_after_days)
                    request_pruning(c, before, watch_pause=WATCH_PAUSE)
                prune_uploads(c)
                prune_explanations(c)
                remove_old(c)
                prune_audit(c, settings.audit_days)
        if self._counts_results:
            self._counts_results = count_results(self._engine)
        with transaction(self._engine) as c:
            return sweep_once(c) or self._counts_results

    def _ring_skipped(self) -> None:
        """Announce what claims skipped. What another transaction still holds is left for the next poll."""
        with self._skipped_lock:
            skipped = set(self._skipped)
        if not skipped:
            return
        with transaction(self._engine) as c:
            rings, held = ring_again(c, skipped, stage=self._settings.worker_stage, chunk=self._settings.chunk_items)
        with self._skipped_lock:
            self._skipped -= skipped - held
        ring_score(self._doorbell, rings)

    def _run(self) -> None:
        with self._watchdog.watch("feeder", self._settings.loop_seconds):
            self._poll_until_stopped()

    def _poll_until_stopped(self) -> None:
        next_sweep = 0.0
        while not self._stopped.is_set():
            beat()
            sweep = time.monotonic() >= next_sweep
            if sweep:
                next_sweep = time.monotonic() + self._settings.sweep_seconds
            more = False
            try:
                if sweep:
                    self._heartbeat()
                more = self.poll(sweep=sweep)
            except DatabaseUnavailable as error:
                log.warning("feeder_postponed", error=str(error))
            except Exception as error:  # this thread finds lost work: it must survive any error
                log.error("feeder_failed", error=first_line(error))
            self._stopped.wait(MIN_PAUSE)
            if not more:
                self._woken.wait(max(0.0, min(MAX_PAUSE, next_sweep - time.monotonic())))
            self._woken.clear()


def _due(c: Connection) -> list[Callable[[Doorbell], str | None]]:
    """Return the rings for what waits and is not an item: jobs to be listed, requirements, explanations and so on."""
    request_due(c)
    return [
        *(partial(ring_expand, job_id=str(job_id)) for job_id in unlisted_jobs(c)),
        *(partial(ring_prepare, requirement=requirement) for requirement in unprepared(c)),
        *(partial(ring_reconcile, reconciliation=str(row_id)) for row_id in unfinished_reconciliations(c)),
        *(partial(ring_report, report=report) for report in due_reports(c)),
        *(partial(ring_explain, explanation=explanation) for explanation in due_explanations(c)),
    ]
