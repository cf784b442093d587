"""A worker's work: claim -> fetch -> decode -> score -> decide -> record."""

import threading
import time
from collections.abc import Callable, Iterable

import structlog
from sqlalchemy import Engine

from dpiqa.doorbell import Doorbell, ring_score
from dpiqa.errors import DatabaseUnavailable
from dpiqa.pipeline.batches import RECORD_ITEMS, in_parts
from dpiqa.pipeline.chunk import Chunk, Machinery
from dpiqa.pipeline.leases import LeaseKeeper
from dpiqa.pipeline.recorder import Recorder
from dpiqa.settings import Settings
from dpiqa.storage import claims
from dpiqa.storage.claims import renew
from dpiqa.storage.engine import transaction
from dpiqa.storage.outcomes import Claim
from dpiqa.types import Stage

log = structlog.get_logger()


class Pipeline:
    """Scores chunks of items for one stage. Several threads may call `run_chunk` at once: their steps overlap."""

    def __init__(
        self,
        engine: Engine,
        *,
        stage: Stage,
        owner: str,
        settings: Settings,
        machinery: Machinery,
        doorbell: Doorbell,
        nudge: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine, self._stage, self._owner, self._settings = engine, stage, owner, settings
        self._machinery = machinery
        self._doorbell, self._nudge = doorbell, nudge
        self._leases = LeaseKeeper(self._renew, settings.lease_seconds)
        self._recorder = Recorder(engine, stage, machinery.shelf, holds=self._holds, settings=settings)
        self._stopping = threading.Event()

    def run_chunk(self, item_ids: list[int]) -> int:
        """Bring those of the items that are free to their outcomes, in the database. Return how many were claimed.

        Raises nothing for what images, S3 or Postgres do. What cannot be claimed now is rung again by the feeder.
        """
        claimed_at = time.monotonic()
        claims = [] if self._stopping.is_set() else self._claim(item_ids)
        leases = [(claim.item_id, claim.fence) for claim in claims]
        self._leases.hold(leases, claimed_at)
        chunk = Chunk(self._machinery, stopping=self._stopping, holds=self._holds)
        try:
            for outcomes in in_parts(chunk.outcomes(claims), RECORD_ITEMS):
                ring_score(self._doorbell, self._recorder.record(outcomes))
        finally:
            self._leases.drop(leases)
        if claims:
            self._nudge()
        return len(claims)

    def stop(self) -> None:
        """Claim nothing more; running chunks give back what has not reached the device."""
        self._stopping.set()

    def close(self) -> None:
        """End the threads of the pipeline itself, after `stop` and when no chunk runs."""
        self._leases.close()

    def _claim(self, item_ids: list[int]) -> list[Claim]:
        try:
            with transaction(self._engine) as c:
                return claims.claim(
                    c,
                    item_ids,
                    stage=self._stage,
                    owner=self._owner,
                    lease_seconds=self._settings.lease_seconds,
                    max_crashes=self._settings.max_crashes,
                    scorer_id=self._machinery.shelf.scorer_ids(),
                    only_these_profiles=False,  # a profile not met before is loaded
                )
        except DatabaseUnavailable as error:
            log.warning("claim_postponed", items=len(item_ids), error=str(error))
            return []

    def _renew(self, leases: Iterable[tuple[int, int]]) -> set[int]:
        with transaction(self._engine) as c:
            return renew(c, list(leases), self._settings.lease_seconds)

    def _holds(self, claim: Claim) -> bool:
        return self._leases.holds(claim.item_id, claim.fence)
