"""Scores objects in this process, without queue or database: `dpiqa score`.

Fetch, decoding, batches, the device and the routing are those of the workers, so both give the same scores.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from dpiqa.errors import ImageRejected, InvalidRequest, ObjectChanged, ObjectGone, Unavailable
from dpiqa.imaging.limits import Limits
from dpiqa.imaging.pool import DecodePool
from dpiqa.models.choice import ModelChoice
from dpiqa.percentiles import Reference
from dpiqa.pipeline.batches import RECORD_ITEMS, in_parts
from dpiqa.pipeline.device import Device, Model
from dpiqa.pipeline.preparer import Prepared, Preparer, Reader
from dpiqa.pipeline.scorer_loading import batch_size, database_of, load_chosen
from dpiqa.profiles import Profile
from dpiqa.routing import decide
from dpiqa.settings import Settings
from dpiqa.text import first_line
from dpiqa.types import Band, ImageRef, ItemState, Reason, Route, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredObject:
    """What became of one object."""

    ref: ImageRef  #: with the ETag of the bytes that were read, where they were
    state: ItemState  #: a terminal one
    score: float | None = None  #: on the scorer's `scale`; None unless `state` is `scored`
    reason: Reason | None = None  #: why there is no score
    detail: str = ""
    model: str | None = None  #: name of the model whose score it is
    scorer_id: str | None = None
    scale: str | None = None  #: what the score means, in words: its range and which end is better
    lower_is_better: bool = False
    reference: Reference | None = None  #: what the score is compared with, where its scorer has one
    stage: Stage | None = None  #: whose score it is, under a profile
    route: Route | None = None  #: why the teacher was (not) asked, under a profile

    @property
    def percentile(self) -> float | None:
        """Share (0-100) of the reference population that is no better."""
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

    Yields one row per ref, in their order, up to 64 at a time. Raises `InvalidRequest` unless exactly one of `profile`
    and `choice` is given, what `load_chosen` raises (a requirement is read from the
    settings' database), and `StoreUnavailable` when the store goes away.
    """
    if (profile is None) == (choice is None):
        raise InvalidRequest("give either a model or a profile")
    with _Bench.open(store, settings) as bench:
        if profile is not None:
            yield from _by_profile(bench, refs, profile)
        elif choice is not None:
            loaded = bench.load(choice)
            for rows in bench.score_parts(refs, loaded):
                yield from rows


def _by_profile(bench: "_Bench", refs: Iterable[ImageRef], profile: Profile) -> Iterator[ScoredObject]:
    student = bench.load(profile.student)
    scored = escalated = 0
    for rows in bench.score_parts(refs, student):
        places = [place for place, row in enumerate(rows) if row.score is not None]
        scores = [row.score for row in rows if row.score is not None]
        routes = decide(scores, profile, scored_before=scored, escalated_before=escalated)
        for place, route in zip(places, routes, strict=True):
            rows[place] = replace(rows[place], stage=Stage.STUDENT, route=route)
        chosen = [place for place, route in zip(places, routes, strict=True) if route is Route.BORDERLINE]
        scored, escalated = scored + len(scores), escalated + len(chosen)
        if chosen and profile.teacher is not None:
            teacher = bench.load(profile.teacher)
            for place, row in zip(chosen, bench.score([rows[place].ref for place in chosen], teacher), strict=True):
                rows[place] = replace(row, stage=Stage.TEACHER, route=Route.BORDERLINE)
        yield from rows


#: An object on its way to pixels.
_Preparing = tuple[ImageRef, "Future[Prepared]"]


class _Bench:
    """The workers' machinery, for one run."""

    def __init__(self, settings: Settings, preparer: Preparer, device: Device) -> None:
        self.settings, self._preparer, self._device = settings, preparer, device
        self._models: dict[ModelChoice, Model] = {}

    @classmethod
    @contextmanager
    def open(cls, store: Reader, settings: Settings) -> "Iterator[_Bench]":
        """Start threads and decode processes; end them afterwards."""
        with ExitStack() as stack:
            decoder = stack.enter_context(DecodePool(settings.decode_processes, Limits.from_settings(settings)))
            preparer = Preparer(
                store,
                decoder,
                fetch_threads=settings.fetch_threads,
                decode_processes=settings.decode_processes,
                max_bytes=settings.max_image_bytes,
            )
            stack.callback(preparer.close)
            device = Device()
            stack.callback(device.close)
            yield cls(settings, preparer, device)

    def load(self, choice: ModelChoice) -> Model:
        """Return the model, loaded once. Raises what `load_chosen` raises."""
        if choice not in self._models:
            scorer = load_chosen(choice, self.settings, lambda: database_of(self.settings))
            self._models[choice] = Model(scorer, batch_size(scorer.card, self.settings))
        return self._models[choice]

    def score(self, refs: Sequence[ImageRef], model: Model) -> list[ScoredObject]:
        """Return one row per ref. Raises `Unavailable`."""
        return self._finish(self._prepare(refs, model), model)

    def score_parts(self, refs: Iterable[ImageRef], model: Model) -> Iterator[list[ScoredObject]]:
        """Yield the rows of part after part, while the next part is fetched and decoded. Raises `Unavailable`."""
        ahead: list[_Preparing] | None = None
        for part in in_parts(refs, RECORD_ITEMS):
            current, ahead = ahead, self._prepare(part, model)
            if current is not None:
                yield self._finish(current, model)
        if ahead is not None:
            yield self._finish(ahead, model)

    def _prepare(self, refs: Iterable[ImageRef], model: Model) -> "list[_Preparing]":
        preprocessing = model.scorer.card.preprocessing
        return [(ref, self._preparer.submit(ref, preprocessing)) for ref in refs]

    def _finish(self, preparing: "Sequence[_Preparing]", model: Model) -> list[ScoredObject]:
        scoring: list[tuple[ImageRef, Future[float] | BaseException]] = []
        for ref, future in preparing:
            error = future.exception()
            if error is not None:
                scoring.append((ref, error))
            else:
                prepared = future.result()
                ref = replace(ref, etag=prepared.etag, version_id=prepared.version_id)  # noqa: PLW2901
                scoring.append((ref, self._device.submit(model, prepared.pixels)))
        return [_row(ref, outcome, model) for ref, outcome in scoring]


def _row(ref: ImageRef, outcome: "Future[float] | BaseException", model: Model) -> ScoredObject:
    error = outcome.exception() if isinstance(outcome, Future) else outcome
    if error is not None:
        return _unscored(ref, error)
    assert isinstance(outcome, Future)  # noqa: S101 - for the type checker: the other kind returned above
    return ScoredObject(
        ref=ref,
        state=ItemState.SCORED,
        score=outcome.result(),
        model=model.scorer.card.name,
        scorer_id=model.scorer_id,
        scale=model.scorer.card.score_scale,
        lower_is_better=model.scorer.card.lower_is_better,
        reference=model.scorer.card.reference,
    )


def _unscored(ref: ImageRef, error: BaseException) -> ScoredObject:
    """Make the row of an object that got no score. Raises `Unavailable`: the store's absence is no object's fault."""
    match error:
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
