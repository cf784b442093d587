"""One chunk of claimed items: fetch, decoding and scoring, to one outcome each.

What claims have in common is done once: an image is fetched once for all its claims, decoded once for each
preprocessing, and the same bytes are scored once by each scorer. An image whose score is known is read all the same
where its job asks for measures that it does not have.
"""

import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeAlias

import numpy as np
import structlog

from dpiqa.errors import ImageRejected
from dpiqa.imaging.measured import Measures
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.models.base import ModelCard
from dpiqa.pipeline import metrics
from dpiqa.pipeline.device import Device
from dpiqa.pipeline.outcomes import known_outcome, outcome_of_error, outcomes_of_error, outcomes_without_bytes
from dpiqa.pipeline.preparer import FetchedImage, Preparer
from dpiqa.pipeline.scorer_cache import LoadedScorers
from dpiqa.pipeline.scorers import LoadedScorer
from dpiqa.storage.items import Claim, Outcome, Released, Scored
from dpiqa.storage.recorded_scores import KnownScore
from dpiqa.types import Rendition
from dpiqa.watchdog import beat

log = structlog.get_logger()

#: Images whose bytes are looked up in one statement, and the longest that one waits for others.
LOOKUP_IMAGES, LOOKUP_SECONDS = 8, 0.02

#: Seconds after which outcomes are recorded though others of their chunk are still in work; for those of events.
RECORD_SECONDS, URGENT_RECORD_SECONDS = 1.0, 0.05

#: SHA-256 of the bytes, or the image's id where they are not compared; and the scorer's id.
ScoreKey: TypeAlias = tuple[bytes | int, str]


class FindCopies(Protocol):
    """A look-up of scores by bytes, such as `dpiqa.storage.recorded_scores.find_copies` in a transaction."""

    def __call__(
        self, content_hashes: Sequence[bytes], scorer_ids: Sequence[str]
    ) -> Mapping[tuple[bytes, str], KnownScore]:
        """Return the computed scores of these bytes, by SHA-256 and scorer id."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A claim and the bytes that were read for it."""

    claim: Claim
    image: FetchedImage

    def scored(
        self, score: float, measures: Measures | None, *, reused: bool, copied_from: int | None = None
    ) -> Scored:
        return Scored(
            self.claim,
            score,
            self.image.etag,
            self.image.version_id,
            content_hash=self.image.content_hash,
            copied_from=copied_from,
            reused=reused,
            rendition=self.image.rendition,
            measures=measures if self.claim.wants_measures else None,
        )


@dataclass(eq=False, slots=True)
class _Work:
    """One score to compute, or one picture to measure whose score is known, and the claims that wait for it."""

    key: ScoreKey
    scorer: LoadedScorer | None  #: None: the score is known
    reads: list[_Read] = field(default_factory=list)
    known: KnownScore | None = None
    is_on_device: bool = False


class ChunkRun:
    """Processes claimed items and yields their outcomes, each as soon as it is known.

    It is stuck when nothing but late fetches is left (`Preparer.is_stuck`). With `stops_when_stuck`, it then gives back
    what has not begun, sets `is_stuck` and yields no more; `rest` goes on, in any thread.
    """

    def __init__(
        self,
        preparer: Preparer,
        device: Device,
        scorers: LoadedScorers,
        *,
        stopping: threading.Event,
        holds: Callable[[Claim], bool],
        find_copies: FindCopies,
        stops_when_stuck: bool = False,
    ) -> None:
        self._preparer, self._device, self._scorers = preparer, device, scorers
        self._stopping, self._holds, self._find_copies = stopping, holds, find_copies
        self._stops_when_stuck = stops_when_stuck
        self.is_stuck = False
        self._cards: dict[str, ModelCard] = {}  # by profile id
        self._scorer_ids: dict[tuple[str, Rendition], str] = {}  # by profile id
        self._done: SimpleQueue[Future[Any]] = SimpleQueue()  # of the three below, and some that are out of them
        self._patience = RECORD_SECONDS / 2  # of a wait
        self._fetching: dict[Future[FetchedImage], list[Claim]] = {}
        self._fetched: list[tuple[FetchedImage, list[Claim]]] = []  # to be looked up
        self._look_up_by = 0.0
        self._decoding: dict[Future[np.ndarray], list[_Work]] = {}
        self._scoring: dict[Future[float], _Work] = {}
        self._works: dict[ScoreKey, _Work] = {}
        self._ended: dict[ScoreKey, KnownScore | ImageRejected] = {}
        self._wants_measures = False  # whether any of the claims does: then each picture is measured
        self._measures: dict[bytes | int, Measures] = {}  # by the first part of `ScoreKey`

    def outcomes(self, claims: Sequence[Claim]) -> Iterator[Outcome]:
        """Yield one outcome per claim, in the order they end; none for a claim whose lease was lost on the way.

        Once `stopping` is set, claims that have not reached the device are released.
        """
        for step in self._steps(claims):
            yield from step

    def batches(self, claims: Sequence[Claim]) -> Iterator[list[Outcome]]:
        """Yield the outcomes in lists to be recorded together: all, unless some end long before the others."""
        batch: list[Outcome] = []
        record_by = math.inf
        for step in self._steps(claims):
            batch += step
            for outcome in step:
                delay = URGENT_RECORD_SECONDS if outcome.claim.is_urgent else RECORD_SECONDS
                record_by = min(record_by, time.monotonic() + delay)
            if time.monotonic() >= record_by:
                yield batch
                batch, record_by = [], math.inf
        if batch:
            yield batch

    def rest(self) -> Iterator[list[Outcome]]:
        """Yield the batches that `batches` left because the run was stuck."""
        self._stops_when_stuck = self.is_stuck = False
        return self.batches(())

    def _steps(self, claims: Sequence[Claim]) -> Iterator[list[Outcome]]:
        """Yield the outcomes of each wait, often none."""
        try:
            yield list(self._start(claims))
            while self._goes_on():
                step = list(self._wait())
                if self._stopping.is_set():
                    step += self._release()
                elif self._is_lookup_due():
                    step += self._look_up()
                elif self._stops_when_stuck and self._has_stuck():
                    step += self._give_back_waiting()
                    self.is_stuck = bool(self._fetching)
                    yield step
                    return
                yield step
        finally:
            if not self.is_stuck:
                self._abandon()

    def _goes_on(self) -> bool:
        return bool(self._fetching or self._fetched or self._decoding or self._scoring)

    def _has_stuck(self) -> bool:
        """Return whether only late fetches are left, and those that wait behind them."""
        if self._fetched or self._decoding or self._scoring or not self._fetching:
            return False
        return self._preparer.is_stuck({future: of[0].ref.bucket for future, of in self._fetching.items()})

    def _give_back_waiting(self) -> Iterator[Outcome]:
        """Release the claims whose fetch has not begun."""
        for future in [future for future in self._fetching if future.cancel()]:
            yield from map(Released, self._held(self._fetching.pop(future)))

    def _start(self, claims: Sequence[Claim]) -> Iterator[Outcome]:
        """Begin to fetch the images whose scores are not known, or whose pictures are to be measured."""
        by_image: dict[int, list[Claim]] = defaultdict(list)
        self._wants_measures = any(claim.wants_measures for claim in claims)
        for claim in claims:
            if claim.known_score is not None and not claim.wants_measures:
                yield known_outcome(claim, claim.known_score)
                continue
            try:
                card = self._scorers.card(claim.profile_id) or self._scorers.scorer(claim.profile_id).card
            except Exception as error:  # a model that cannot be loaded affects its own items, not the worker
                yield outcome_of_error(claim, error)
            else:
                self._cards[claim.profile_id] = card
                by_image[claim.image_id].append(claim)
        for siblings in by_image.values():
            is_urgent = any(claim.is_urgent for claim in siblings)
            if is_urgent:
                self._patience = URGENT_RECORD_SECONDS
            fetching = self._preparer.fetch(siblings[0].ref, str(siblings[0].job_id), urgent=is_urgent)
            self._fetching[fetching] = siblings
            fetching.add_done_callback(self._done.put)

    def _wait(self) -> Iterator[Outcome]:
        """Wait for the next step to end; take each result to the next step, or to outcomes."""
        beat()
        try:
            ended = [self._done.get(timeout=LOOKUP_SECONDS if self._fetched else self._patience)]
        except Empty:
            return
        while not self._done.empty():
            ended.append(self._done.get())
        for future in ended:
            if future in self._fetching:
                yield from self._fetch_ended(future, self._fetching.pop(future))
            elif future in self._decoding:
                self._preparer.pass_on(1)
                yield from self._decoding_ended(future, self._decoding.pop(future))
            elif future in self._scoring:
                yield from self._score_ended(future, self._scoring.pop(future))

    def _fetch_ended(self, future: "Future[FetchedImage]", claims: list[Claim]) -> Iterator[Outcome]:
        held = self._held(claims)
        if future.cancelled():
            yield from map(Released, held)
        elif (error := future.exception()) is not None:
            yield from outcomes_without_bytes(held, error)
        elif self._stopping.is_set() or not held:
            future.result().release()
            yield from map(Released, held)
        else:
            if not self._fetched:
                self._look_up_by = time.monotonic() + LOOKUP_SECONDS
            self._fetched.append((future.result(), held))

    def _is_lookup_due(self) -> bool:
        is_full = len(self._fetched) >= LOOKUP_IMAGES or time.monotonic() >= self._look_up_by
        return bool(self._fetched) and (is_full or not self._fetching)

    def _look_up(self) -> Iterator[Outcome]:
        """Take the scores of bytes that are known; begin to decode the other images."""
        batch, self._fetched = self._fetched, []
        hashes = [image.content_hash for image, _ in batch if image.content_hash is not None]
        scorer_ids = {self._scorer_id(claim, image) for image, claims in batch for claim in claims}
        known = self._find_copies(hashes, sorted(scorer_ids)) if hashes else {}
        for image, claims in batch:
            to_decode: dict[Preprocessing, list[_Work]] = defaultdict(list)
            for claim in self._held(claims):
                yield from self._begin(_Read(claim, image), known, to_decode)
            if not to_decode:
                image.release()
            self._preparer.hold(len(to_decode))
            decoding = self._preparer.decode(image, to_decode, is_measured=self._wants_measures)
            for preprocessing, future in decoding.items():
                self._decoding[future] = to_decode[preprocessing]
                future.add_done_callback(self._done.put)

    def _begin(
        self,
        read: _Read,
        known: Mapping[tuple[bytes, str], KnownScore],
        to_decode: dict[Preprocessing, list[_Work]],
    ) -> Iterator[Outcome]:
        """Yield the outcome of a claim whose bytes were scored, here or elsewhere; else let it wait for a score.

        It also waits where its picture is still to be measured.
        """
        claim, content_hash = read.claim, read.image.content_hash
        scorer_id = self._scorer_id(claim, read.image)
        key: ScoreKey = (content_hash or claim.image_id, scorer_id)
        score = known.get((content_hash or b"", scorer_id)) or self._ended.get(key)
        if isinstance(score, ImageRejected):
            yield outcome_of_error(claim, score)
            return
        if score is None and claim.known_score is not None and read.image.rendition is Rendition.FULL:
            score = KnownScore(claim.known_score, claim.image_id)
        if score is not None and score.measures is not None:
            self._measures.setdefault(key[0], score.measures)
        if score is not None and (key[0] in self._measures or not claim.wants_measures):
            yield self._reused(read, score)
        elif key in self._works:
            self._works[key].reads.append(read)
        else:
            try:
                scorer = self._scorers.scorer(claim.profile_id) if score is None else None
            except Exception as error:  # as in `_start`
                yield outcome_of_error(claim, error)
            else:
                self._works[key] = _Work(key, scorer, [read], score)
                to_decode[self._cards[claim.profile_id].preprocessing].append(self._works[key])

    def _reused(self, read: _Read, score: KnownScore) -> Scored:
        copied_from = None if score.image_id in (None, read.claim.image_id) else score.image_id
        return read.scored(score.score, self._measures_of(read), reused=True, copied_from=copied_from)

    def _measures_of(self, read: _Read) -> Measures | None:
        return self._measures.get(read.image.content_hash or read.claim.image_id)

    def _scorer_id(self, claim: Claim, image: FetchedImage) -> str:
        key = claim.profile_id, image.rendition
        if key not in self._scorer_ids:
            self._scorer_ids[key] = self._cards[claim.profile_id].rendered(image.rendition).scorer_id
        return self._scorer_ids[key]

    def _decoding_ended(self, future: "Future[np.ndarray]", works: list[_Work]) -> Iterator[Outcome]:
        error = future.exception()
        for work in works:
            if (measures := work.reads[0].image.measures) is not None:
                self._measures[work.key[0]] = measures
            if work.known is not None and (error is None or isinstance(error, ImageRejected)):
                yield from self._end_known(work, work.known)
            elif error is not None:
                yield from self._fail(work, error)
            elif self._stopping.is_set():
                yield from self._end(work, Released)
            elif work.scorer is not None and any(self._holds(read.claim) for read in work.reads):
                work.is_on_device = True
                is_urgent = any(read.claim.is_urgent for read in work.reads)
                scoring = self._device.submit(work.scorer, future.result(), urgent=is_urgent)
                self._scoring[scoring] = work
                scoring.add_done_callback(self._done.put)
            else:
                yield from self._end(work, Released)

    def _score_ended(self, future: "Future[float]", work: _Work) -> Iterator[Outcome]:
        if future.cancelled():
            yield from self._end(work, Released)
        elif (error := future.exception()) is not None:
            yield from self._fail(work, error)
        else:
            score = future.result()
            self._ended[work.key] = KnownScore(score)
            del self._works[work.key]
            for index, read in enumerate(work.reads):
                if self._held([read.claim]):
                    yield read.scored(score, self._measures_of(read), reused=index > 0)

    def _end_known(self, work: _Work, score: KnownScore) -> Iterator[Outcome]:
        """Yield the outcomes of a picture that was decoded to be measured, or cannot be."""
        self._ended[work.key] = score
        del self._works[work.key]
        for read in work.reads:
            if self._held([read.claim]):
                yield self._reused(read, score)

    def _fail(self, work: _Work, error: BaseException) -> Iterator[Outcome]:
        del self._works[work.key]
        if isinstance(error, ImageRejected):
            self._ended[work.key] = error
        yield from outcomes_of_error(self._held([read.claim for read in work.reads]), error)

    def _end(self, work: _Work, outcome: Callable[[Claim], Outcome]) -> Iterator[Outcome]:
        del self._works[work.key]
        yield from map(outcome, self._held([read.claim for read in work.reads]))

    def _held(self, claims: Sequence[Claim]) -> list[Claim]:
        """Return the claims whose leases are held; the others have no outcome."""
        held = [claim for claim in claims if self._holds(claim)]
        if len(held) < len(claims):
            metrics.STALE_WRITES.inc(len(claims) - len(held))
            log.warning("leases_lost", items=len(claims) - len(held))
        return held

    def _release(self) -> Iterator[Outcome]:
        """Released claims that are not on the device, without waiting for a running fetch: S3 may hang."""
        claims = [claim for siblings in self._fetching.values() for claim in siblings]
        claims += [claim for _, siblings in self._fetched for claim in siblings]
        works = [work for of_image in self._decoding.values() for work in of_image]
        self._abandon()
        yield from map(Released, claims)
        for work in works:
            yield from self._end(work, Released)

    def _abandon(self) -> None:
        """Forget what is not on the device; bytes are freed when their fetch ends."""
        for future in self._fetching:
            if not future.cancel():
                future.add_done_callback(_free)
        for image, _ in self._fetched:
            image.release()
        for decoding in self._decoding:
            decoding.add_done_callback(lambda _: self._preparer.pass_on(1))
        self._fetching, self._fetched, self._decoding = {}, [], {}


def _free(fetching: "Future[FetchedImage]") -> None:
    if not fetching.cancelled() and fetching.exception() is None:
        fetching.result().release()
