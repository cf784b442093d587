"""Scoring of objects in this process, without queue or database: `dpiqa score`.

Fetch, decoding, batches, the device and the routing are those of the workers, so both give the same scores.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Self

from dpiqa.errors import (
    DecoderKilled,
    DpiqaError,
    ImageRejected,
    InvalidRequest,
    ObjectChanged,
    ObjectGone,
    StoreUnavailable,
    Unavailable,
)
from dpiqa.imaging.decode import Limits
from dpiqa.imaging.measured import Measures
from dpiqa.imaging.pool import DecodePool
from dpiqa.models.base import ModelCard, Scorer
from dpiqa.models.choice import ModelChoice
from dpiqa.percentiles import Reference
from dpiqa.pipeline.device import Device, batched
from dpiqa.pipeline.preparer import PreparedImage, Preparer, Reader
from dpiqa.pipeline.scorers import LoadedScorer, batch_size, check_directions, for_short_run, load_for_settings
from dpiqa.profiles import Profile
from dpiqa.routing import ITEMS_PER_DECISION, decide
from dpiqa.settings import Settings
from dpiqa.text import first_line
from dpiqa.types import Band, ImageRef, ItemState, Reason, Route, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredObject:
    """The result of one object."""

    ref: ImageRef  #: with the ETag of the bytes that were read, if they were
    state: ItemState  #: a terminal state
    score: float | None = None  #: on the scorer's `scale`; None unless `state` is `scored`
    reason: Reason | None = None  #: why there is no score
    detail: str = ""
    model: str | None = None  #: name of the model whose score it is
    scorer_id: str | None = None
    scale: str | None = None  #: meaning of the score, in words: its range and which end is better
    lower_is_better: bool = False
    reference: Reference | None = None  #: scores that this one is compared with, where its scorer has them
    stage: Stage | None = None  #: stage of the model whose score it is, under a profile
    route: Route | None = None  #: why the teacher was, or was not, asked, under a profile
    measures: Measures | None = None  #: of the decoded picture, where details were asked for

    @property
    def percentile(self) -> float | None:
        """Share (0-100) of the reference population that is not better."""
        return None if self.reference is None or self.score is None else self.reference.percentile(self.score)

    @property
    def band(self) -> Band | None:
        """The score in a plain word, by the reference population."""
        return None if self.reference is None or self.score is None else self.reference.band(self.score)


def score_objects(
    store: Reader,
    refs: Iterable[ImageRef],
    *,
    profile: Profile | None = None,
    choice: ModelChoice | None = None,
    settings: Settings,
    details: bool = False,
) -> Iterator[ScoredObject]:
    """Score the objects by one model, or by a profile's student and, where it is unsure, its teacher.

    Args:
        store: where the objects are read.
        refs: the objects; an ETag of "" takes whatever bytes are there.
        profile: student, teacher and routing policy; or
        choice: the one model that scores everything.
        settings: device, threads and limits, and the database for a model that scores by a requirement.
        details: whether rows have the measures of the pictures.

    Yields:
        One row per ref, in their order, up to 64 at a time.

    Raises:
        InvalidRequest: unless exactly one of `profile` and `choice` is given.
        StoreUnavailable: when the store stops answering.
        DpiqaError: as `dpiqa.pipeline.scorers.load_for_settings`.
    """
    scored_by = [by for by in (profile, choice) if by is not None]
    if len(scored_by) != 1:
        raise InvalidRequest("give either a model or a profile")
    for (row,) in score_by_each(store, refs, scored_by, settings=settings, details=details):
        yield row


@dataclass(frozen=True, slots=True)
class Observer:
    """Functions that are told how far a run is; `scored` is called by other threads, too."""

    loading: Callable[[ModelChoice], object] = lambda _: None  #: a model is being loaded
    loaded: Callable[[], object] = lambda: None  #: all models that score every image, or a teacher, are in memory
    scored: Callable[[], object] = lambda: None  #: the first model has scored one more image, or it cannot be scored


def score_by_each(
    store: Reader,
    refs: Iterable[ImageRef],
    scored_by: Sequence[Profile | ModelChoice],
    *,
    settings: Settings,
    scorers: Mapping[ModelChoice, Scorer] = MappingProxyType({}),
    observer: Observer | None = None,
    details: bool = False,
) -> Iterator[list[ScoredObject]]:
    """Score the objects by each of several models or profiles; read each once, and decode it once per preprocessing.

    Those that share a scorer share its scores. An object that a teacher is asked about is read once more if the
    teacher's preprocessing is another one. `scorers`: those that are in memory already. `details`: see `score_objects`.

    Yields a list per ref, in their order: a row for each of `scored_by`; a model's as soon as it is known, those of a
    profile 64 at a time. Raises as `score_objects`.
    """
    with LocalRun(store, settings, scorers, observer) as run:
        yield from run.score(refs, scored_by, details=details)


class LocalRun:
    """The threads, decode processes and loaded scorers of one run; a context manager."""

    def __init__(
        self,
        store: Reader,
        settings: Settings,
        scorers: Mapping[ModelChoice, Scorer] = MappingProxyType({}),
        observer: Observer | None = None,
    ) -> None:
        self.settings, self.observer = for_short_run(settings), observer or Observer()
        self._scorers = {
            choice: LoadedScorer(scorer, batch_size(scorer, settings)) for choice, scorer in scorers.items()
        }
        with ExitStack() as stack:
            decoder = stack.enter_context(DecodePool(settings.decode_processes, Limits.from_settings(settings)))
            self.preparer = Preparer(store, decoder, settings)
            stack.callback(self.preparer.close)
            self.device = Device()
            stack.callback(self.device.close)
            self._resources = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads and decode processes. Idempotent."""
        self._resources.close()

    def score(
        self, refs: Iterable[ImageRef], scored_by: Sequence[Profile | ModelChoice], *, details: bool = False
    ) -> Iterator[list[ScoredObject]]:
        """Score objects as `score_by_each`. May be called again; what was loaded stays."""
        columns = [_Column(self, by) for by in scored_by]
        self.observer.loaded()
        for batch in self.batches(refs, [column.scorer for column in columns], details=details):
            yield from map(list, zip(*(column.rows(batch) for column in columns), strict=True))

    def load(self, choice: ModelChoice) -> LoadedScorer:
        """Return the scorer, loaded once. Raises as `load_for_settings`."""
        if choice not in self._scorers:
            self.observer.loading(choice)
            scorer = load_for_settings(choice, self.settings)
            same = [loaded for loaded in self._scorers.values() if loaded.card.scorer_id == scorer.card.scorer_id]
            new = LoadedScorer(scorer, batch_size(scorer, self.settings))
            self._scorers[choice] = same[0] if same else new
        return self._scorers[choice]

    def batches(
        self, refs: Iterable[ImageRef], scorers: Sequence[LoadedScorer], *, details: bool = False
    ) -> Iterator["_Batch"]:
        """Yield batch after batch, while the next one is fetched and decoded."""
        following: _Batch | None = None
        for some in batched(refs, ITEMS_PER_DECISION):
            current, following = following, _Batch(self, some, scorers, details=details)
            if current is not None:
                yield current
        if following is not None:
            yield following


class _Batch:
    """Some objects, being fetched and decoded for some scorers; their scores."""

    def __init__(
        self, run: LocalRun, refs: Sequence[ImageRef], scorers: Sequence[LoadedScorer], *, details: bool
    ) -> None:
        self._run, self._refs, self._scorers = run, refs, scorers
        preprocessings = list(dict.fromkeys(loaded.card.preprocessing for loaded in scorers))
        self._preparing = [run.preparer.submit(ref, preprocessings, is_measured=details) for ref in refs]
        self._scoring: dict[LoadedScorer, list[Future[float] | BaseException]] = {}

    def rows(self, loaded: LoadedScorer) -> Iterator[ScoredObject]:
        """Yield one row per object, by one of the batch's scorers. Raises `Unavailable`."""
        if not self._scoring:  # all scorers begin before the first one is waited for
            for number, scorer in enumerate(dict.fromkeys(self._scorers)):
                results = self._scoring[scorer] = []
                for preparing in self._preparing:
                    results.append(self._begin(preparing, scorer))
                    if number == 0:
                        self._observe(results[-1])
        return (self._row(index, result, loaded) for index, result in enumerate(self._scoring[loaded]))

    def _observe(self, result: "Future[float] | BaseException") -> None:
        scored = self._run.observer.scored
        if isinstance(result, Future):
            result.add_done_callback(lambda _: scored())
        else:
            scored()

    def teacher_rows(self, indexes: Sequence[int], loaded: LoadedScorer) -> list[ScoredObject]:
        """Return rows of some objects that were read, by any scorer. Raises `Unavailable`."""
        preprocessing = loaded.card.preprocessing
        for index in indexes:
            if preprocessing not in self._preparing[index].result().pixels:
                self._preparing[index] = self._run.preparer.submit(self._read_ref(index), [preprocessing])
        scoring = [(index, self._begin(self._preparing[index], loaded)) for index in indexes]
        return [self._row(index, result, loaded) for index, result in scoring]

    def _begin(self, preparing: "Future[PreparedImage]", loaded: LoadedScorer) -> "Future[float] | BaseException":
        if (error := preparing.exception()) is not None:
            return error
        pixels = preparing.result().pixels[loaded.card.preprocessing]
        return pixels.exception() or self._run.device.submit(loaded, pixels.result())

    def _row(self, index: int, result: "Future[float] | BaseException", loaded: LoadedScorer) -> ScoredObject:
        preparing = self._preparing[index]
        if preparing.exception() is not None:
            return _to_row(self._refs[index], result, loaded.card)
        image = preparing.result().image
        row = _to_row(self._read_ref(index), result, loaded.card.rendered(image.rendition))
        return replace(row, measures=image.measures)

    def _read_ref(self, index: int) -> ImageRef:
        """Return the object with the identity of the bytes that were read, if they were."""
        ref, preparing = self._refs[index], self._preparing[index]
        if preparing.exception() is not None:
            return ref
        image = preparing.result().image
        return replace(ref, etag=image.etag, version_id=image.version_id)


class _Column:
    """The scores of one model, or of one profile with its routing."""

    def __init__(self, run: LocalRun, scored_by: Profile | ModelChoice) -> None:
        self._run = run
        self._profile = scored_by if isinstance(scored_by, Profile) else None
        self.scorer = run.load(scored_by.student if isinstance(scored_by, Profile) else scored_by)
        self._scored = self._escalated = 0

    def rows(self, batch: _Batch) -> Iterable[ScoredObject]:
        """Return one row per object of the batch. Raises `Unavailable`."""
        profile = self._profile
        if profile is None:
            return batch.rows(self.scorer)
        rows = list(batch.rows(self.scorer))
        indexes = [index for index, row in enumerate(rows) if row.score is not None]
        scores = [row.score for row in rows if row.score is not None]
        routes = decide(scores, profile, scored_before=self._scored, escalated_before=self._escalated)
        for index, route in zip(indexes, routes, strict=True):
            rows[index] = replace(rows[index], stage=Stage.STUDENT, route=route)
        borderline = [index for index, route in zip(indexes, routes, strict=True) if route is Route.BORDERLINE]
        self._scored, self._escalated = self._scored + len(scores), self._escalated + len(borderline)
        if borderline and profile.teacher is not None:
            teacher_rows = batch.teacher_rows(borderline, self._teacher(profile, profile.teacher))
            for index, row in zip(borderline, teacher_rows, strict=True):
                measures = rows[index].measures  # the teacher's own input is decoded without them
                rows[index] = replace(row, stage=Stage.TEACHER, route=Route.BORDERLINE, measures=measures)
        return rows

    def _teacher(self, profile: Profile, choice: ModelChoice) -> LoadedScorer:
        """Return the profile's teacher. Raises `ConfigurationError` for one whose scores run against the student's."""
        teacher = self._run.load(choice)
        self._run.observer.loaded()
        cards = {Stage.STUDENT: self.scorer.card, Stage.TEACHER: teacher.card}
        check_directions(profile, self._run.settings, cards)
        return teacher


def _to_row(ref: ImageRef, result: "Future[float] | BaseException", card: ModelCard) -> ScoredObject:
    """Return the row of an object that was scored, by the card's model, or failed.

    Raises `Unavailable`, which no object is to blame for.
    """
    error = result.exception() if isinstance(result, Future) else result
    match error:
        case None:
            assert isinstance(result, Future)  # noqa: S101 - for the type checker: only a future has no error
            return ScoredObject(
                ref=ref,
                state=ItemState.SCORED,
                score=result.result(),
                model=card.name,
                scorer_id=card.scorer_id,
                scale=card.score_scale,
                lower_is_better=card.lower_is_better,
                reference=card.reference,
            )
        case ImageRejected():
            state, reason = ItemState.REJECTED, error.reason
        case ObjectGone():
            state, reason = ItemState.DELETED, Reason.OBJECT_DELETED
        case ObjectChanged():
            state, reason = ItemState.SUPERSEDED, Reason.NEWER_VERSION
        case StoreUnavailable(is_object=True):
            state, reason = ItemState.REJECTED, Reason.UNAVAILABLE
        case Unavailable() if not isinstance(error, DecoderKilled):
            raise error
        case _:
            state, reason = ItemState.DEAD, Reason.REPEATED_ERRORS
    detail = error.message if isinstance(error, DpiqaError) else first_line(error)
    return ScoredObject(ref=ref, state=state, reason=reason, detail=detail)
