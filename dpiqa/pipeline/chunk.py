"""One chunk of claimed items on its way through fetch, decoding and the device."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any

from dpiqa.pipeline import metrics
from dpiqa.pipeline.device import Device, Model
from dpiqa.pipeline.failures import verdict
from dpiqa.pipeline.loaded_scorers import ModelShelf
from dpiqa.pipeline.preparer import Prepared, Preparer
from dpiqa.storage.outcomes import Claim, Outcome, Release, Scored


@dataclass(frozen=True, slots=True)
class _Step:
    """One image on its way."""

    claim: Claim
    model: Model
    prepared: Prepared | None = None  #: None while it is fetched and decoded


@dataclass(frozen=True, slots=True)
class Machinery:
    """What a process scores with; shared by all its chunks."""

    preparer: Preparer
    device: Device
    shelf: ModelShelf


class Chunk:
    """Brings claimed items to their outcomes, each as soon as it is known."""

    def __init__(self, machinery: Machinery, *, stopping: threading.Event, holds: Callable[[Claim], bool]) -> None:
        self._machinery = machinery
        self._stopping, self._holds = stopping, holds
        self._running: dict[Future[Any], _Step] = {}

    def outcomes(self, claims: Sequence[Claim]) -> Iterator[Outcome]:
        """Yield one outcome per claim, in the order they end; none for a claim whose lease was lost on the way.

        Once `stopping` is set, what has not reached the device is given back.
        """
        for claim in claims:
            yield from self._begin(claim)
        while self._running:
            done, _ = wait(self._running, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                yield from self._advance(future, self._running.pop(future))
            if self._stopping.is_set():
                yield from self._give_back()

    def _begin(self, claim: Claim) -> Iterator[Outcome]:
        if claim.known_score is not None:
            yield Scored(claim, claim.known_score, claim.ref.etag, claim.ref.version_id)
            return
        try:
            model = self._machinery.shelf.model(claim.profile_id)
        except Exception as error:  # a model that cannot be loaded harms its own items, not the worker
            yield verdict(claim, error)
            return
        future = self._machinery.preparer.submit(claim.ref, model.scorer.card.preprocessing)
        self._running[future] = _Step(claim, model)

    def _advance(self, future: "Future[Any]", step: _Step) -> Iterator[Outcome]:
        """Take a finished step's result: to the device, or out."""
        if not self._holds(step.claim):
            metrics.STALE_WRITES.inc()
            return
        if future.cancelled():
            yield Release(step.claim)
        elif (error := future.exception()) is not None:
            yield verdict(step.claim, error)
        elif step.prepared is not None:
            yield Scored(step.claim, future.result(), step.prepared.etag, step.prepared.version_id)
        elif self._stopping.is_set():
            yield Release(step.claim)
        else:
            prepared: Prepared = future.result()
            scoring = self._machinery.device.submit(step.model, prepared.pixels)
            self._running[scoring] = _Step(step.claim, step.model, prepared)

    def _give_back(self) -> Iterator[Outcome]:
        """Release what is not on the device. A fetch that cannot be cancelled is left to itself: S3 may hang."""
        for future, step in list(self._running.items()):
            if future.cancel() or step.prepared is None:
                del self._running[future]
                yield Release(step.claim)
