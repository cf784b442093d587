"""Writes outcomes down, and tells the teacher after the commit."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import cast

import structlog
from sqlalchemy import Engine

from dpiqa import routing
from dpiqa.doorbell import Ring
from dpiqa.errors import DatabaseUnavailable
from dpiqa.models.base import ModelCard
from dpiqa.pipeline import metrics
from dpiqa.pipeline.failures import delay
from dpiqa.pipeline.loaded_scorers import ModelShelf
from dpiqa.settings import Settings
from dpiqa.storage import record
from dpiqa.storage.engine import transaction
from dpiqa.storage.feed import ring_now
from dpiqa.storage.outcomes import Claim, Outcome, Rejected
from dpiqa.text import first_line
from dpiqa.types import Stage

log = structlog.get_logger()


class Recorder:
    """Records outcomes, one transaction per call and profile, for as long as their leases are held."""

    def __init__(
        self, engine: Engine, stage: Stage, shelf: ModelShelf, *, holds: Callable[[Claim], bool], settings: Settings
    ) -> None:
        self._engine, self._stage, self._shelf = engine, stage, shelf
        self._holds, self._settings = holds, settings

    def record(self, outcomes: Sequence[Outcome]) -> list[Ring]:
        """Write the outcomes down; return what to ring for the teacher.

        Tries again while Postgres is away. What loses its lease meanwhile is dropped: another worker has it.
        """
        by_profile: dict[str, list[Outcome]] = defaultdict(list)
        for outcome in outcomes:
            by_profile[outcome.claim.profile_id].append(outcome)
        return [ring for profile_id, part in by_profile.items() for ring in self._persist(profile_id, part)]

    def _persist(self, profile_id: str, outcomes: list[Outcome]) -> list[Ring]:
        attempt = 0
        while held := [outcome for outcome in outcomes if self._holds(outcome.claim)]:
            try:
                rings = self._write(profile_id, held)
                _count_stale(len(outcomes) - len(held))
                return rings
            except DatabaseUnavailable as error:
                attempt += 1
                log.warning("record_postponed", items=len(held), error=str(error))
                time.sleep(delay(attempt, base=0.2, cap=5))
            except Exception as error:
                log.exception("record_failed", items=len(held), error=first_line(error))
                return self._one_by_one(profile_id, held)
        _count_stale(len(outcomes))
        return []

    def _one_by_one(self, profile_id: str, outcomes: list[Outcome]) -> list[Ring]:
        """Write each alone: an outcome that the database refuses must not take its neighbours along."""
        if len(outcomes) == 1:
            return []
        return [ring for outcome in outcomes for ring in self._persist(profile_id, [outcome])]

    def _write(self, profile_id: str, outcomes: list[Outcome]) -> list[Ring]:
        profile = self._shelf.profile(profile_id)
        card = cast("ModelCard", self._shelf.card(profile_id))  # None only where the model did not load: nothing scored
        with metrics.stage("record"), transaction(self._engine) as c:
            recorded = record.record(
                c,
                self._stage,
                profile,
                card,
                outcomes,
                decide=routing.decide,
                max_errors=self._settings.max_errors,
            )
            rings = ring_now(
                c, recorded.teacher_items, window=self._settings.window_items, chunk=self._settings.chunk_items
            )
        _count_stale(recorded.n_stale)
        metrics.ESCALATIONS.inc(len(recorded.teacher_items))
        for outcome in outcomes:
            metrics.IMAGES.labels(self._stage.value, _name(outcome)).inc()
        return rings


def _name(outcome: Outcome) -> str:
    return outcome.reason.value if isinstance(outcome, Rejected) else type(outcome).__name__.lower()


def _count_stale(n: int) -> None:
    if n:
        metrics.STALE_WRITES.inc(n)
        log.warning("stale_writes_refused", items=n)
