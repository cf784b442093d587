"""A worker process: its resources, and its work on a chunk: claim, fetch, decode, score, decide, record."""

import contextvars
import os
import socket
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import cast

import structlog
from sqlalchemy import Connection, Engine

from dpiqa import routing
from dpiqa.doorbell import Doorbell, Queue, Ring, load_doorbell, ring_score
from dpiqa.errors import DatabaseFailed, DatabaseUnavailable
from dpiqa.imaging.decode import Limits
from dpiqa.imaging.pool import DecodePool
from dpiqa.models.base import ModelCard
from dpiqa.objects.store import ObjectStore
from dpiqa.objects.stores import open_stores
from dpiqa.pipeline import metrics
from dpiqa.pipeline.buckets import Buckets
from dpiqa.pipeline.callbacks import CallbackSender
from dpiqa.pipeline.chunk import ChunkRun
from dpiqa.pipeline.device import Device
from dpiqa.pipeline.feeder import Feeder
from dpiqa.pipeline.lanes import Lanes
from dpiqa.pipeline.leases import LeaseKeeper, note_expired
from dpiqa.pipeline.lister import Lister
from dpiqa.pipeline.maintenance import Maintenance
from dpiqa.pipeline.preparer import Preparer
from dpiqa.pipeline.reconciler import Reconciler
from dpiqa.pipeline.scorer_cache import LoadedScorers
from dpiqa.pipeline.slots import CHUNKS_AT_ONCE, Slots
from dpiqa.pipeline.stage_times import STAGES, Step
from dpiqa.pipeline.startup import require_schema, wait_for
from dpiqa.profiles import Profile, load_profile
from dpiqa.retries import retry_delay, retry_until_available
from dpiqa.settings import Settings
from dpiqa.storage import workers
from dpiqa.storage.claims import claim, renew, with_known_scores
from dpiqa.storage.engine import open_engine, reading, transaction
from dpiqa.storage.feed import SMALL_CHUNK, ring_now, take_back_rings
from dpiqa.storage.items import Claim, Outcome, Postponed, Rejected
from dpiqa.storage.postponed_buckets import delay_items, items_of_buckets
from dpiqa.storage.recorded_scores import KnownScore, find_copies
from dpiqa.storage.results import record
from dpiqa.text import first_line
from dpiqa.types import Route, Stage
from dpiqa.watchdog import WATCHDOG

log = structlog.get_logger()

LOG_SECONDS = 60.0  #: between two log lines that say where the time goes


class Worker:
    """Connections, scorers and threads of one worker process, of one stage. Made before it takes its first message.

    Several threads may call `score` at once: the fetching, decoding and scoring of their chunks overlap. The worker
    owns all of these: `close` ends them.
    """

    def __init__(
        self,
        settings: Settings,
        stage: Stage,
        *,
        engine: Engine,
        store: ObjectStore,
        doorbell: Doorbell,
        decoder: DecodePool,
        scorers: LoadedScorers,
    ) -> None:
        self.settings, self.stage = settings, stage
        self.engine, self.store, self.doorbell, self.decoder, self.scorers = engine, store, doorbell, decoder, scorers
        #: unique per process, so that leases of an earlier process with this pid are not inherited
        self.id = f"{stage}@{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:6]}"
        self.stopping = threading.Event()
        self.slots = Slots(CHUNKS_AT_ONCE[stage])
        self.maintenance = Maintenance(engine)
        self._buckets = Buckets()
        self.feeder = Feeder(engine, doorbell, settings, buckets=self._buckets, heartbeat=self._heartbeat)
        self.lister = Lister(engine, store, doorbell, settings, self.stopping)
        self.reconciler = Reconciler(engine, store, doorbell, settings, self.stopping)
        self.callbacks = CallbackSender(engine, settings)
        self.device = Device()
        self._preparer = Preparer(
            store,
            decoder,
            settings,
            hashes=settings.reuse_bytes,
            buckets=self._buckets,
            backlog=self.device.backlog,
        )
        self.device.on_batch = self._preparer.fetch_more
        self._lanes = Lanes(
            lambda item_ids: self._score(item_ids, in_lane=True), min(settings.chunk_items, SMALL_CHUNK)
        )
        self._stuck: set[threading.Thread] = set()
        self._logged_times = STAGES.snapshot()
        self._leases = LeaseKeeper(self._renew, settings.lease_seconds, loop_seconds=settings.loop_seconds)

    def score(self, item_ids: list[int], queue: Queue = Queue.LIVE) -> int:
        """Process the unclaimed items among these and record the outcomes. Return how many were claimed.

        Raises nothing for an image that cannot be scored, or while S3 or Postgres is unavailable. Items that cannot
        be claimed now are announced again by the feeder. Waits for a slot where the queue needs one. What is left when
        only late fetches are is processed in a thread of its own, and items of slow buckets in their lanes.
        """
        with self.slots.hold(queue):
            if self.stopping.is_set():
                self._take_back(item_ids)
                return 0
            return self._score(item_ids)

    def _score(self, item_ids: list[int], *, in_lane: bool = False) -> int:
        claimed_at = time.monotonic()
        claims = self._claim(item_ids, in_lane=in_lane)
        leases = [(claim.item_id, claim.fence) for claim in claims]
        jobs = ",".join(sorted({str(claim.job_id) for claim in claims}))
        with structlog.contextvars.bound_contextvars(job=jobs):
            self._leases.hold(leases, claimed_at)
            run = ChunkRun(
                self._preparer,
                self.device,
                self.scorers,
                stopping=self.stopping,
                holds=self._holds,
                find_copies=self._find_copies,
                stops_when_stuck=not in_lane,
            )
            try:
                self._record_all(run.batches(claims))
            finally:
                if not run.is_stuck:
                    self._leases.drop(leases)
            if run.is_stuck:
                self._go_on_apart(run, leases)
        if claims:
            self.feeder.wake()
        return len(claims)

    def _go_on_apart(self, run: ChunkRun, leases: Sequence[tuple[int, int]]) -> None:
        """Process the rest of a chunk in a thread of its own: its late fetches must not hold a slot."""
        context = contextvars.copy_context()  # of the log

        def go_on() -> None:
            try:
                context.run(self._record_all, run.rest())
            except Exception as error:  # as of a task: leases end, and the feeder announces the items again
                log.error("stuck_chunk_failed", error=first_line(error), exc_info=error)
            finally:
                self._leases.drop(leases)
                self._stuck.discard(threading.current_thread())

        thread = threading.Thread(target=go_on, name="stuck-chunk", daemon=True)
        self._stuck.add(thread)
        thread.start()

    def _record_all(self, batches: Iterable[Sequence[Outcome]]) -> None:
        with WATCHDOG.watch("chunk", self.settings.loop_seconds):
            for batch in batches:
                ring_score(self.doorbell, self._record(batch))

    def _take_back(self, item_ids: Sequence[int]) -> None:
        """Leave items that were announced to this worker to the others."""
        try:
            with transaction(self.engine) as c:
                take_back_rings(c, item_ids)
        except DatabaseUnavailable as error:
            log.warning("rings_not_taken_back", items=len(item_ids), error=str(error))

    def stop(self) -> None:
        """Claim nothing more; running chunks release claims that have not reached the device."""
        self.stopping.set()
        self.slots.close()

    def close(self) -> None:
        """End all threads, processes and connections. Call when no task runs any more."""
        self.stop()
        self.feeder.close()
        self.callbacks.close()
        self._take_back(self._lanes.close())
        for thread in list(self._stuck):
            thread.join()
        try:
            with transaction(self.engine) as c:
                workers.remove_worker(c, self.id)
        except DatabaseUnavailable as error:
            log.warning("not_signed_off", error=str(error))  # its row expires
        self.maintenance.close()
        self._preparer.close()
        self.device.close()
        self.decoder.close()
        self._leases.close()
        self.engine.dispose()

    def _claim(self, item_ids: list[int], *, in_lane: bool) -> list[Claim]:
        """Claim the items whose buckets are read here; a lane takes those of slow buckets."""
        try:
            with STAGES.time(Step.CLAIM, images=len(item_ids)), transaction(self.engine) as c:
                item_ids = self._of_open_buckets(c, item_ids, in_lane=in_lane)
                scorer_ids = self.scorers.scorer_ids()
                claims = claim(
                    c,
                    item_ids,
                    stage=self.stage,
                    owner=self.id,
                    lease_seconds=self.settings.lease_seconds,
                    max_crashes=self.settings.max_crashes,
                    scorer_ids=scorer_ids,
                    on_expired=note_expired,
                )
                self.feeder.ring_again(set(item_ids) - {claim.item_id for claim in claims})
                new_profiles = {claim.profile_id for claim in claims} - scorer_ids.keys()
                for profile_id in new_profiles:
                    self.scorers.profile(profile_id)
                return with_known_scores(c, claims, self.scorers.scorer_ids()) if new_profiles else claims
        except DatabaseUnavailable as error:
            log.warning("claim_postponed", items=len(item_ids), error=str(error))
            return []

    def _of_open_buckets(self, c: Connection, item_ids: list[int], *, in_lane: bool) -> list[int]:
        """Return the items of buckets that are neither postponed nor slow.

        Of the others, the former wait for the end of the postponement, the latter for their lane.
        """
        closed = self._buckets.closed()
        slow = set() if in_lane else self._preparer.slow_buckets() - closed.keys()
        metrics.show_only(metrics.SLOW, slow)
        found = items_of_buckets(c, item_ids, closed.keys() | slow)
        delay_items(c, {item.id: closed[item.bucket] for item in found if item.bucket in closed})
        late = [item for item in found if item.bucket in slow and not item.crashes]  # a suspect is claimed alone
        for item in late:
            self._lanes.add(item.bucket, item.queue, [item.id])
        elsewhere = {item.id for item in found if item.bucket in closed} | {item.id for item in late}
        return [item_id for item_id in item_ids if item_id not in elsewhere]

    def _find_copies(
        self, content_hashes: Sequence[bytes], scorer_ids: Sequence[str]
    ) -> dict[tuple[bytes, str], KnownScore]:
        """Look scores up by bytes; none while the database is unavailable: computing them again is harmless."""
        try:
            with reading(self.engine) as c:
                return find_copies(c, content_hashes, scorer_ids)
        except DatabaseUnavailable as error:
            log.warning("copies_not_looked_up", error=str(error))
            return {}

    def _record(self, outcomes: Sequence[Outcome]) -> list[Ring]:
        """Record the outcomes, one transaction per profile; return the rings for the teacher.

        Tries again while Postgres is unavailable. Outcomes whose lease is lost meanwhile are dropped: another worker
        has the item.
        """
        by_profile: dict[str, list[Outcome]] = defaultdict(list)
        for outcome in outcomes:
            by_profile[outcome.claim.profile_id].append(outcome)
        escalated = [item for profile_id, group in by_profile.items() for item in self._record_of(profile_id, group)]
        if not escalated:
            return []
        window, chunk = self.settings.window_items, self.settings.chunk_items
        try:  # after all profiles, so that an image is fetched once for the teachers of all of them
            with transaction(self.engine) as c:
                return ring_now(c, escalated, window=window, chunk=chunk)
        except DatabaseUnavailable as error:
            log.warning("ring_left_to_feeder", items=len(escalated), error=str(error))
            return []

    def _record_of(self, profile_id: str, outcomes: list[Outcome]) -> list[int]:
        """Record the outcomes under one profile; return the items that now wait for the teacher."""
        try:
            return retry_until_available(
                lambda: self._record_held(profile_id, outcomes),
                event="record_postponed",
                items=len(outcomes),
                except_for=(DatabaseFailed,),
            )
        except Exception as error:
            log.exception("record_failed", items=len(outcomes), error=first_line(error))
            if len(outcomes) == 1:
                (outcome,) = outcomes
                if not isinstance(error, DatabaseFailed) or isinstance(outcome, Postponed):
                    return []
                later = Postponed(outcome.claim, retry_delay(outcome.claim.fence), first_line(error))
                return self._record_of(profile_id, [later])
            # Each alone: an outcome that the database refuses must not discard the others.
            return [item for outcome in outcomes for item in self._record_of(profile_id, [outcome])]

    def _record_held(self, profile_id: str, outcomes: list[Outcome]) -> list[int]:
        """Record the outcomes whose leases are still held, in one transaction."""
        recordable = [outcome for outcome in outcomes if self._holds(outcome.claim)]
        escalated: list[int] = []
        n_stale = len(outcomes) - len(recordable)
        if recordable:
            settings, profile = self.settings, self.scorers.profile(profile_id)
            # None only where the model could not be loaded, and so nothing was scored
            card = cast("ModelCard", self.scorers.card(profile_id))
            with STAGES.time(Step.RECORD, images=len(recordable)), transaction(self.engine) as c:
                recorded = record(
                    c, self.stage, profile, card, recordable, decide=_decide, max_errors=settings.max_errors
                )
            n_stale, escalated = n_stale + recorded.n_stale, recorded.teacher_items
            metrics.ESCALATIONS.inc(len(escalated))
        for outcome in recordable:
            name = outcome.reason.value if isinstance(outcome, Rejected) else type(outcome).__name__.lower()
            metrics.IMAGES.labels(self.stage.value, name).inc()
        if n_stale:
            metrics.STALE_WRITES.inc(n_stale)
            log.warning("stale_writes_refused", items=n_stale)
        return escalated

    def _renew(self, leases: Sequence[tuple[int, int]]) -> set[int]:
        with transaction(self.engine) as c:
            return renew(c, leases, self.settings.lease_seconds)

    def _holds(self, claim: Claim) -> bool:
        return self._leases.holds(claim.item_id, claim.fence)

    def _heartbeat(self) -> None:
        self._log_times()
        with transaction(self.engine) as c:
            scorers = self.scorers
            workers.heartbeat(c, self.id, self.stage, scorers.default_scorer_id, scorers.default_device)

    def _log_times(self) -> None:
        """Log where the time of the last minute went, as /metrics says it; nothing where no image was scored."""
        now = STAGES.snapshot()
        latest = now - self._logged_times
        if latest.seconds >= LOG_SECONDS:
            self._logged_times = now
            if latest.steps[Step.MODEL].images:
                log.info("stage_times", seconds=round(latest.seconds, 1), **latest.figures())


def _decide(scores: Sequence[float], profile: Profile, *, scored_before: int, escalated_before: int) -> list[Route]:
    with STAGES.time(Step.DECIDE, images=len(scores)):
        return routing.decide(scores, profile, scored_before=scored_before, escalated_before=escalated_before)


def start_worker(settings: Settings) -> Worker:
    """Connect, load the default profile's model and start the threads, except the feeder's.

    Waits while the database is unavailable. Starts a decode process. Raises `ConfigurationError` or `NotFound` where
    waiting does not help.
    """
    stage = settings.worker_stage
    engine = open_engine(settings, f"dpiqa-{stage}")
    wait_for(lambda: require_schema(engine))
    scorers = LoadedScorers(settings, stage, engine)
    scorers.load_default(load_profile(settings.profile, settings.profiles_dir))
    decoder = DecodePool(settings.decode_processes, Limits.from_settings(settings))
    log.info("decoders_confined", by=str(decoder.start()))
    return Worker(
        settings,
        stage,
        engine=engine,
        store=open_stores(settings),
        doorbell=load_doorbell(settings),
        decoder=decoder,
        scorers=scorers,
    )
