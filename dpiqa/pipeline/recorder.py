"""Records outcomes in the database, and returns what to announce to the teacher after the commit."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import cast

import structlog
from sqlalchemy import Engine

from dpiqa import routing
from dpiqa.doorbell import Ring
from dpiqa.models.base import ModelCard
from dpiqa.pipeline import metrics
from dpiqa.pipeline.scorers import LoadedScorers
from dpiqa.retries import retry_until_available
from dpiqa.settings import Settings
from dpiqa.storage import record
from dpiqa.storage.engine import transaction
from dpiqa.storage.feed import ring_now
from dpiqa.storage.outcomes import Claim, Outcome, Rejected
from dpiqa.text import first_line
from dpiqa.types import Stage

log = structlog.get_logger()

RECORD_ITEMS = 64  #: items per transaction, and so per routing decision, at most


class Recorder:
    """Records outcomes, one transaction per call and profile, for as long as their leases are held."""

    def __init__(
        self,
        engine: Engine,
        stage: Stage,
        scorers: LoadedScorers,
        *,
        holds: Callable[[Claim], bool],
        settings: Settings,
    ) -> None:
        self._engine, self._stage, self._scorers = engine, stage, scorers
        self._holds, self._settings = holds, settings

    def record(self, outcomes: Sequence[Outcome]) -> list[Ring]:
        """Record the outcomes; return what to announce to the teacher.

        Tries again while Postgres is unavailable. What loses its lease meanwhile is dropped: another worker has it.
        """
        by_profile: dict[str, list[Outcome]] = defaultdict(list)
        for outcome in outcomes:
            by_profile[outcome.claim.profile_id].append(outcome)
        return [ring for profile_id, group in by_profile.items() for ring in self._persist(profile_id, group)]

    def _persist(self, profile_id: str, outcomes: list[Outcome]) -> list[Ring]:
        try:
            return retry_until_available(
                lambda: self._write_held(profile_id, outcomes), event="record_postponed", items=len(outcomes)
            )
        except Exception as error:
            log.exception("record_failed", items=len(outcomes), error=first_line(error))
            if len(outcomes) == 1:
                return []
            # Each alone: an outcome that the database refuses must not take its neighbours along.
            return [ring for outcome in outcomes for ring in self._persist(profile_id, [outcome])]

    def _write_held(self, profile_id: str, outcomes: list[Outcome]) -> list[Ring]:
        """Record the outcomes whose leases are still held, in one transaction."""
        held = [outcome for outcome in outcomes if self._holds(outcome.claim)]
        rings: list[Ring] = []
        n_stale = len(outcomes) - len(held)
        if held:
            profile = self._scorers.profile(profile_id)
            # None only where the model could not be loaded, and so nothing was scored
            card = cast("ModelCard", self._scorers.card(profile_id))
            with metrics.stage("record"), transaction(self._engine) as c:
                recorded = record.record(
                    c,
                    self._stage,
                    profile,
                    card,
                    held,
                    decide=routing.decide,
                    max_errors=self._settings.max_errors,
                )
                rings = ring_now(
                    c, recorded.teacher_items, window=self._settings.window_items, chunk=self._settings.chunk_items
                )
            n_stale += recorded.n_stale
            metrics.ESCALATIONS.inc(len(recorded.teacher_items))
        for outcome in held:
            name = outcome.reason.value if isinstance(outcome, Rejected) else type(outcome).__name__.lower()
            metrics.IMAGES.labels(self._stage.value, name).inc()
        if n_stale:
            metrics.STALE_WRITES.inc(n_stale)
            log.warning("stale_writes_refused", items=n_stale)
        return rings
