"""Scoring of objects in this process, without queue or database: `dpiqa score`.

Fetch, decoding, batches, the device and the routing are those of the workers, so both give the same scores.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Self

from dpiqa.errors import ImageRejected, InvalidRequest, ObjectChanged, ObjectGone, Unavailable
from dpiqa.imaging.decode import Limits
from dpiqa.imaging.pool import DecodePool
from dpiqa.models.choice import ModelChoice
from dpiqa.percentiles import Reference
from dpiqa.pipeline.device import Device, batched
from dpiqa.pipeline.preparer import PreparedImage, Preparer, Reader
from dpiqa.pipeline.scorers import LoadedScorer, batch_size, load_for_settings
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
) -> Iterator[ScoredObject]:
    """Score the objects by one model, or by a profile's student and, where it is unsure, its teacher.

    Args:
        store: where the objects are read.
        refs: the objects; an ETag of "" takes whatever bytes are there.
        profile: student, teacher and routing policy; or
        choice: the one model that scores everything.
        settings: device, threads and limits, and the database for a model that scores by a requirement.

    Yields:
        One row per ref, in their order, up to 64 at a time.

    Raises:
        InvalidRequest: unless exactly one of `profile` and `choice` is given.
        StoreUnavailable: when the store stops answering.
        DpiqaError: as `dpiqa.pipeline.scorers.load_for_settings`.
    """
    if (profile is None) == (choice is None):
        raise InvalidRequest("give either a model or a profile")
    with _LocalRun(store, settings) as run:
        if profile is not None:
            batches = _score_by_profile(run, refs, profile)
        elif choice is not None:
            batches = run.score_batches(refs, run.load(choice))
        for rows in batches:
            yield from rows


def _score_by_profile(run: "_LocalRun", refs: Iterable[ImageRef], profile: Profile) -> Iterator[list[ScoredObject]]:
    student = run.load(profile.student)
    scored = escalated = 0
    for rows in run.score_batches(refs, student):
        indexes = [index for index, row in enumerate(rows) if row.score is not None]
        scores = [row.score for row in rows if row.score is not None]
        routes = decide(scores, profile, scored_before=scored, escalated_before=escalated)
        for index, route in zip(indexes, routes, strict=True):
            rows[index] = replace(rows[index], stage=Stage.STUDENT, route=route)
        borderline = [index for index, route in zip(indexes, routes, strict=True) if route is Route.BORDERLINE]
        scored, escalated = scored + len(scores), escalated + len(borderline)
        if borderline and profile.teacher is not None:
            teacher_rows = run.score([rows[index].ref for index in borderline], run.load(profile.teacher))
            for index, row in zip(borderline, teacher_rows, strict=True):
                rows[index] = replace(row, stage=Stage.TEACHER, route=Route.BORDERLINE)
        yield rows


#: Objects that are being fetched and decoded.
_Preparing = list[tuple[ImageRef, "Future[PreparedImage]"]]


class _LocalRun:
    """The threads, decode processes and loaded scorers of one run; a context manager."""

    def __init__(self, store: Reader, settings: Settings) -> None:
        self._settings = settings
        self._scorers: dict[ModelChoice, LoadedScorer] = {}
        with ExitStack() as stack:
            decoder = stack.enter_context(DecodePool(settings.decode_processes, Limits.from_settings(settings)))
            self._preparer = Preparer(store, decoder, settings)
            stack.callback(self._preparer.close)
            self._device = Device()
            stack.callback(self._device.close)
            self._resources = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def load(self, choice: ModelChoice) -> LoadedScorer:
        """Return the scorer, loaded once. Raises as `load_for_settings`."""
        if choice not in self._scorers:
            scorer = load_for_settings(choice, self._settings)
            self._scorers[choice] = LoadedScorer(scorer, batch_size(scorer.card, self._settings))
        return self._scorers[choice]

    def score(self, refs: Iterable[ImageRef], loaded: LoadedScorer) -> list[ScoredObject]:
        """Return one row per ref. Raises `Unavailable`."""
        return self._finish(self._prepare(refs, loaded), loaded)

    def score_batches(self, refs: Iterable[ImageRef], loaded: LoadedScorer) -> Iterator[list[ScoredObject]]:
        """Yield the rows of batch after batch, while the next batch is fetched and decoded. Raises `Unavailable`."""
        following: _Preparing | None = None
        for batch in batched(refs, ITEMS_PER_DECISION):
            current, following = following, self._prepare(batch, loaded)
            if current is not None:
                yield self._finish(current, loaded)
        if following is not None:
            yield self._finish(following, loaded)

    def _prepare(self, refs: Iterable[ImageRef], loaded: LoadedScorer) -> _Preparing:
        preprocessing = loaded.card.preprocessing
        return [(ref, self._preparer.submit(ref, preprocessing)) for ref in refs]

    def _finish(self, preparing: _Preparing, loaded: LoadedScorer) -> list[ScoredObject]:
        scoring: list[tuple[ImageRef, Future[float] | BaseException]] = []
        for ref, future in preparing:
            error = future.exception()
            if error is not None:
                scoring.append((ref, error))
            else:
                image = future.result()
                read_ref = replace(ref, etag=image.etag, version_id=image.version_id)
                scoring.append((read_ref, self._device.submit(loaded, image.pixels)))
        return [_to_row(ref, result, loaded) for ref, result in scoring]


def _to_row(ref: ImageRef, result: "Future[float] | BaseException", loaded: LoadedScorer) -> ScoredObject:
    """Return the row of an object that was scored or failed. Raises `Unavailable`, which no object is to blame for."""
    error = result.exception() if isinstance(result, Future) else result
    match error:
        case None:
            assert isinstance(result, Future)  # noqa: S101 - for the type checker: only a future has no error
            card = loaded.card
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
            return ScoredObject(ref=ref, state=ItemState.REJECTED, reason=error.reason, detail=error.message)
        case ObjectGone():
            return ScoredObject(ref=ref, state=ItemState.DELETED, reason=Reason.OBJECT_DELETED, detail=error.message)
        case ObjectChanged():
            return ScoredObject(ref=ref, state=ItemState.SUPERSEDED, reason=Reason.NEWER_VERSION, detail=error.message)
        case Unavailable():
            raise error
        case _:
            return ScoredObject(ref=ref, state=ItemState.DEAD, reason=Reason.REPEATED_ERRORS, detail=first_line(error))
