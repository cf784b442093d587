"""A worker process: what it holds, and how it scores chunks: claim, fetch, decode, score, decide, record."""

import os
import socket
import threading
import time
import uuid
from collections.abc import Sequence

import structlog
from sqlalchemy import Engine

from dpiqa.doorbell import Doorbell, load_doorbell, ring_score
from dpiqa.errors import DatabaseUnavailable
from dpiqa.imaging.limits import Limits
from dpiqa.imaging.pool import DecodePool
from dpiqa.objects.s3 import S3Store
from dpiqa.objects.store import ObjectStore
from dpiqa.pipeline.batches import batched
from dpiqa.pipeline.chunk import ChunkRun
from dpiqa.pipeline.device import Device
from dpiqa.pipeline.feeder import Feeder
from dpiqa.pipeline.leases import LeaseKeeper
from dpiqa.pipeline.lister import Lister
from dpiqa.pipeline.preparer import Preparer
from dpiqa.pipeline.recorder import RECORD_ITEMS, Recorder
from dpiqa.pipeline.scorers import LoadedScorers
from dpiqa.pipeline.startup import require_schema, wait_for
from dpiqa.profiles import load_profile
from dpiqa.settings import Settings
from dpiqa.storage import workers
from dpiqa.storage.claims import claim, renew
from dpiqa.storage.engine import make_engine, transaction
from dpiqa.storage.outcomes import Claim
from dpiqa.types import Stage

log = structlog.get_logger()


class Worker:
    """Connections, scorers and threads of one worker process, of one stage. Made before it takes its first message.

    Several threads may call `score` at once: the fetching, decoding and scoring of their chunks overlap. The worker
    owns what it is made of: `close` ends it.
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
        #: never used again by another process: leases of a predecessor are not this worker's
        self.id = f"{stage}@{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:6]}"
        self.stopping = threading.Event()
        self.feeder = Feeder(engine, doorbell, settings, heartbeat=self._heartbeat)
        self.lister = Lister(engine, store, doorbell, settings, self.stopping)
        self._preparer = Preparer.from_settings(store, decoder, settings)
        self._device = Device()
        self._leases = LeaseKeeper(self._renew, settings.lease_seconds)
        self._recorder = Recorder(engine, stage, scorers, holds=self._holds, settings=settings)

    def score(self, item_ids: list[int]) -> int:
        """Bring those of the items that are free to their outcomes, in the database. Return how many were claimed.

        Raises nothing for an image that cannot be scored, or while S3 or Postgres is unavailable. What cannot be
        claimed now is announced again by the feeder.
        """
        claimed_at = time.monotonic()
        claims = [] if self.stopping.is_set() else self._claim(item_ids)
        held = [(claim.item_id, claim.fence) for claim in claims]
        jobs = ",".join(sorted({str(claim.job_id) for claim in claims}))
        with structlog.contextvars.bound_contextvars(job=jobs):
            self._leases.hold(held, claimed_at)
            run = ChunkRun(self._preparer, self._device, self.scorers, stopping=self.stopping, holds=self._holds)
            try:
                for outcomes in batched(run.outcomes(claims), RECORD_ITEMS):
                    ring_score(self.doorbell, self._recorder.record(outcomes))
            finally:
                self._leases.drop(held)
        if claims:
            self.feeder.nudge()
        return len(claims)

    def stop(self) -> None:
        """Claim nothing more; running chunks release what has not reached the device."""
        self.stopping.set()

    def close(self) -> None:
        """End all threads, processes and connections. Call when no task runs any more."""
        self.stop()
        self.feeder.close()
        try:
            with transaction(self.engine) as c:
                workers.leave(c, self.id)
        except DatabaseUnavailable as error:
            log.warning("not_signed_off", error=str(error))  # the heartbeat ends by itself
        self._preparer.close()
        self._device.close()
        self.decoder.close()
        self._leases.close()
        self.engine.dispose()

    def _claim(self, item_ids: list[int]) -> list[Claim]:
        try:
            with transaction(self.engine) as c:
                return claim(
                    c,
                    item_ids,
                    stage=self.stage,
                    owner=self.id,
                    lease_seconds=self.settings.lease_seconds,
                    max_crashes=self.settings.max_crashes,
                    scorer_id=self.scorers.scorer_ids(),
                    only_these_profiles=False,  # a profile not met before is loaded
                )
        except DatabaseUnavailable as error:
            log.warning("claim_postponed", items=len(item_ids), error=str(error))
            return []

    def _renew(self, held: Sequence[tuple[int, int]]) -> set[int]:
        with transaction(self.engine) as c:
            return renew(c, held, self.settings.lease_seconds)

    def _holds(self, claim: Claim) -> bool:
        return self._leases.holds(claim.item_id, claim.fence)

    def _heartbeat(self) -> None:
        with transaction(self.engine) as c:
            workers.heartbeat(c, self.id, self.stage, self.scorers.default_scorer_id)


def start_worker(settings: Settings) -> Worker:
    """Connect, load the default profile's model and start the threads, except the feeder's.

    Waits while the database is unavailable. Raises `ConfigurationError` or `NotFound` where waiting does not help.
    """
    stage = settings.worker_stage
    engine = make_engine(settings.require_database_url(), application_name=f"dpiqa-{stage}")
    wait_for(lambda: require_schema(engine))
    scorers = LoadedScorers(settings, stage, engine)
    scorers.load_default(load_profile(settings.profile, settings.profiles_dir))
    return Worker(
        settings,
        stage,
        engine=engine,
        store=S3Store.from_settings(settings),
        doorbell=load_doorbell(settings),
        decoder=DecodePool(settings.decode_processes, Limits.from_settings(settings)),
        scorers=scorers,
    )
