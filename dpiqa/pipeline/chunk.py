"""One chunk of claimed items: fetch, decoding and scoring, to one outcome each."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any

from dpiqa.errors import ImageRejected, ObjectChanged, ObjectGone, Unavailable
from dpiqa.pipeline import metrics
from dpiqa.pipeline.device import Device
from dpiqa.pipeline.preparer import PreparedImage, Preparer
from dpiqa.pipeline.scorers import LoadedScorer, LoadedScorers
from dpiqa.retries import retry_delay
from dpiqa.storage.items import Changed, Claim, Failed, Gone, Outcome, Postponed, Rejected, Released, Scored
from dpiqa.text import first_line


@dataclass(frozen=True, slots=True)
class _Step:
    """The claim that a running future belongs to."""

    claim: Claim
    scorer: LoadedScorer
    image: PreparedImage | None = None  #: on the device; None while it is fetched and decoded


class ChunkRun:
    """Processes claimed items and yields their outcomes, each as soon as it is known."""

    def __init__(
        self,
        preparer: Preparer,
        device: Device,
        scorers: LoadedScorers,
        *,
        stopping: threading.Event,
        holds: Callable[[Claim], bool],
    ) -> None:
        self._preparer, self._device, self._scorers = preparer, device, scorers
        self._stopping, self._holds = stopping, holds
        self._running: dict[Future[Any], _Step] = {}

    def outcomes(self, claims: Sequence[Claim]) -> Iterator[Outcome]:
        """Yield one outcome per claim, in the order they end; none for a claim whose lease was lost on the way.

        Once `stopping` is set, claims that have not reached the device are released.
        """
        for claim in claims:
            yield from self._start(claim)
        while self._running:
            done, _ = wait(self._running, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                yield from self._advance(future, self._running.pop(future))
            if self._stopping.is_set():
                yield from self._release()

    def _start(self, claim: Claim) -> Iterator[Outcome]:
        if claim.known_score is not None:
            yield Scored(claim, claim.known_score, claim.ref.etag, claim.ref.version_id)
            return
        try:
            scorer = self._scorers.scorer(claim.profile_id)
        except Exception as error:  # a model that cannot be loaded affects its own items, not the worker
            yield outcome_of_error(claim, error)
            return
        future = self._preparer.submit(claim.ref, scorer.card.preprocessing)
        self._running[future] = _Step(claim, scorer)

    def _advance(self, future: "Future[Any]", step: _Step) -> Iterator[Outcome]:
        """Take the result of a step that ended: to the device, or to an outcome."""
        if not self._holds(step.claim):
            metrics.STALE_WRITES.inc()
            return
        if future.cancelled():
            yield Released(step.claim)
        elif (error := future.exception()) is not None:
            yield outcome_of_error(step.claim, error)
        elif step.image is not None:
            yield Scored(step.claim, future.result(), step.image.etag, step.image.version_id)
        elif self._stopping.is_set():
            yield Released(step.claim)
        else:
            image: PreparedImage = future.result()
            self._running[self._device.submit(step.scorer, image.pixels)] = _Step(step.claim, step.scorer, image)

    def _release(self) -> Iterator[Outcome]:
        """Released claims that are not on the device, without waiting for a running fetch: S3 may hang."""
        for future, step in list(self._running.items()):
            if future.cancel() or step.image is None:
                del self._running[future]
                yield Released(step.claim)


def outcome_of_error(claim: Claim, error: BaseException) -> Outcome:
    """Return the outcome of a claimed item whose fetch, decoding or scoring ended in `error`.

    An error about the image ends the item. Something outside that is unavailable postpones it, without limit. After
    anything else it is tried again a few times, then given up with the error's text.
    """
    match error:
        case ImageRejected():
            return Rejected(claim, error.reason, error.message)
        case ObjectGone():
            return Gone(claim)
        case ObjectChanged():
            return Changed(claim, error.current)
        case Unavailable():
            return Postponed(claim, retry_delay(claim.fence), str(error))
        case _:
            return Failed(claim, first_line(error), retry_delay(claim.fence))
