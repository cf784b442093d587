"""Scores: filtered pages of the scores that count, and everything stored about one object."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    exists,
    false,
    func,
    literal,
    or_,
    select,
    tuple_,
)

from dpiqa.errors import InvalidRequest, NotFound
from dpiqa.percentiles import Reference, ScoreRange, read_reference
from dpiqa.storage.pages import Page, check_limit, decode, encode, malformed_cursor
from dpiqa.storage.references import model_of, read_references
from dpiqa.storage.tables import images, items, results, scorers
from dpiqa.storage.tables import scores as stored_scores
from dpiqa.types import Band, ResultStatus, Route, ScoreOrder, Stage

_SCALE = (
    select(scorers.c.card["score_scale"].astext).where(scorers.c.id == results.c.scorer_id).scalar_subquery()
).label("scale")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreFilter:
    """Conditions on results. `None` means any. Give a profile: Postgres has to sort pages without one."""

    bucket: str | None = None
    prefix: str | None = None
    min: float | None = None  #: on the scorer's scale, inclusive
    max: float | None = None  #: on the scorer's scale, inclusive
    profile: str | None = None  #: id, e.g. `default@1`
    job: UUID | None = None  #: images of this job, whichever job scored them
    model: str | None = None  #: a scorer's id, or the name of its model
    status: ResultStatus | None = None
    within: tuple[ScoreRange, ...] | None = None  #: any of these, see `dpiqa.storage.references.ranges_of`
    include_old: bool = False  #: replaced and deleted versions too

    def check_range(self, field: str = "`{}`") -> None:
        """Raise `InvalidRequest` for bounds that are not finite or that exclude every score.

        `field`: how the caller's users write the name of a field, e.g. `--{}`.
        """
        low, high = field.format("min"), field.format("max")
        if any(bound is not None and not math.isfinite(bound) for bound in (self.min, self.max)):
            raise InvalidRequest(f"{low} and {high} must be finite numbers", hint="scores are nominally 0 to 1")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise InvalidRequest(f"{low} is above {high}", hint="swap them")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """The score that counts for an image under a profile."""

    image_id: int
    profile: str
    score: float  #: on `scale`
    scorer_id: str
    scale: str  #: the meaning of the scorer's scores: range, and which end is better
    stage: Stage
    status: ResultStatus
    route: Route
    student_score: float | None
    teacher_score: float | None
    bucket: str
    key: str
    etag: str
    current: bool
    job_id: UUID
    updated_at: datetime
    percentile: float | None = None  #: share (0-100) of the scorer's reference population that is no better
    band: Band | None = None  #: the word for the score by that population

    @classmethod
    def from_row(cls, row: Row[Any], reference: Reference | None) -> "ScoreRow":
        """Read a row of `results` with the scale of its scorer. `reference`: the scorer's, if it has one."""
        return cls(
            image_id=row.image_id,
            profile=row.profile,
            score=row.score,
            scorer_id=row.scorer_id,
            scale=row.scale,
            stage=row.stage,
            status=row.status,
            route=row.route,
            student_score=row.student_score,
            teacher_score=row.teacher_score,
            bucket=row.bucket,
            key=row.key,
            etag=row.etag,
            current=row.current,
            job_id=row.job_id,
            updated_at=row.updated_at,
            percentile=None if reference is None else reference.percentile(row.score),
            band=None if reference is None else reference.band(row.score),
        )

    @property
    def model(self) -> str:
        """The scorer's id, under the name that reports use."""
        return self.scorer_id


def list_scores(
    c: Connection,
    conditions: ScoreFilter,
    *,
    order: ScoreOrder = ScoreOrder.LOWEST_FIRST,
    limit: int = 100,
    cursor: str | None = None,
) -> Page[ScoreRow]:
    """Return a page of results in an order, after `cursor`.

    Raises `InvalidRequest` for a cursor of another query or a limit outside 1-1000.
    """
    after = None if cursor is None else _read_cursor(conditions, order, cursor)
    query = page_of_results(conditions, order, [results, _SCALE], after=after, limit=check_limit(limit) + 1)

    def cursor_of(row: ScoreRow) -> str:
        value: str | float = row.updated_at.isoformat() if order.by_time else row.score
        position = [value, row.image_id] if conditions.profile is not None else [value, row.image_id, row.profile]
        return encode((conditions, order.value), position)

    return Page.cut(read_score_rows(c, c.execute(query)), limit, cursor_of)


def page_of_results(
    conditions: ScoreFilter, order: ScoreOrder, columns: Sequence[Any], *, after: Sequence[Any] | None, limit: int
) -> Select[Any]:
    """Return the query for `columns` of a page of results. `after`: the last row's values of `sort_columns`."""
    sorted_by = sort_columns(conditions, order)
    query = (
        select(*columns)
        .select_from(results)
        .where(*_conditions(conditions))
        .order_by(*(column.desc() if order.descending else column for column in sorted_by))
        .limit(limit)
    )
    if after is None:
        return query
    # Whole rows are compared: Postgres then walks the index to the position, which it does not with OR.
    last = tuple_(*(literal(value, column.type) for value, column in zip(after, sorted_by, strict=True)))
    return query.where(tuple_(*sorted_by) < last if order.descending else tuple_(*sorted_by) > last)


def sort_columns(conditions: ScoreFilter, order: ScoreOrder) -> list[Column[Any]]:
    """Return the columns that results are ordered by: no two results are alike in all of them."""
    columns: list[Column[Any]] = [results.c.updated_at if order.by_time else results.c.score, results.c.image_id]
    return columns if conditions.profile is not None else [*columns, results.c.profile]


def percentile(c: Connection, conditions: ScoreFilter, share: float, *, descending: bool = False) -> float | None:
    """Return the score at or below which `share` (0-1) of the results lies; None if there are none.

    `descending`: at or above which.
    """
    column = results.c.score.desc() if descending else results.c.score
    threshold = func.percentile_disc(share).within_group(column)
    score = c.execute(select(threshold).where(*_conditions(conditions))).scalar_one()
    return None if score is None else float(score)


def read_score_rows(c: Connection, rows: Iterable[Row[Any]]) -> list[ScoreRow]:
    """Read rows of `results` with their scorers' scale; percentiles and bands come from the scorers' references."""
    rows = list(rows)
    references = read_references(c, {row.scorer_id for row in rows})
    return [ScoreRow.from_row(row, references.get(row.scorer_id)) for row in rows]


def _conditions(fields: ScoreFilter) -> list[ColumnElement[bool]]:
    r = results.c
    conditions: list[tuple[object, ColumnElement[bool]]] = [
        (fields.bucket, r.bucket == fields.bucket),
        (fields.prefix or None, r.key.startswith(fields.prefix or "", autoescape=True)),
        (fields.min, r.score >= literal(fields.min, r.score.type)),
        (fields.max, r.score <= literal(fields.max, r.score.type)),
        (fields.profile, r.profile == fields.profile),
        (fields.job, exists().where(items.c.job_id == fields.job, items.c.image_id == r.image_id)),
        (fields.model, or_(r.scorer_id == fields.model, model_of(r.scorer_id) == fields.model)),
        (fields.status, r.status == fields.status),
        (fields.within, _within(fields.within or ())),
        (None if fields.include_old else True, r.current),
    ]
    return [condition for value, condition in conditions if value is not None]


def _within(ranges: Sequence[ScoreRange]) -> ColumnElement[bool]:
    """Build "in any of the ranges" and, for the indices, "between the ends of all ranges"."""
    score, type_ = results.c.score, results.c.score.type
    lows = [bounds.low for bounds in ranges if bounds.low is not None]
    highs = [bounds.high for bounds in ranges if bounds.high is not None]
    conditions = [or_(false(), *map(_in_range, ranges))]
    if ranges and len(lows) == len(ranges):
        conditions.append(score >= literal(min(lows), type_))
    if ranges and len(highs) == len(ranges):
        conditions.append(score <= literal(max(highs), type_))
    return and_(*conditions)


def _in_range(bounds: ScoreRange) -> ColumnElement[bool]:
    score, type_ = results.c.score, results.c.score.type
    conditions = [results.c.scorer_id == bounds.scorer_id]
    if bounds.low is not None:
        low = literal(bounds.low, type_)
        conditions.append(score >= low if bounds.low_included else score > low)
    if bounds.high is not None:
        high = literal(bounds.high, type_)
        conditions.append(score < high if bounds.low_included else score <= high)
    return and_(*conditions)


def _read_cursor(conditions: ScoreFilter, order: ScoreOrder, cursor: str) -> list[Any]:
    """Return the values of the sort columns in the last row."""
    types: list[type] = [str if order.by_time else float, int]
    types += [] if conditions.profile is not None else [str]
    position: list[Any] = decode((conditions, order.value), cursor, types)
    if order.by_time:
        try:
            position[0] = datetime.fromisoformat(position[0])
        except ValueError:
            raise malformed_cursor() from None
    return position


@dataclass(frozen=True, kw_only=True)
class StoredScore:
    """The score of one model for one version of the object, with its origin."""

    score: float  #: on `scale`
    scorer_id: str
    etag: str  #: of the bytes that were scored
    version_id: str | None
    current: bool  #: whether the store, as far as is known, still holds these bytes
    last_modified: datetime | None
    scored_at: datetime
    attempt: int  #: the fence under which it was recorded
    job_id: UUID
    card: dict[str, Any]  #: the model card at the scorer's first score, with its latest references

    @property
    def scale(self) -> str:
        """The meaning of the scorer's scores: range, and which end is better."""
        return str(self.card["score_scale"])

    @property
    def percentile(self) -> float | None:
        """Share (0-100) of the scorer's reference population that is no better; None where it has none."""
        return None if (reference := self._reference) is None else reference.percentile(self.score)

    @property
    def band(self) -> Band | None:
        """The word for the score by that population; None where there is none."""
        return None if (reference := self._reference) is None else reference.band(self.score)

    @cached_property
    def _reference(self) -> Reference | None:
        return read_reference(self.card.get("references"), self.scorer_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """All scores and results of one object, the current version first."""

    bucket: str
    key: str
    deleted: bool  #: no version is current
    scores: list[StoredScore]
    results: list[ScoreRow]  #: the scores that count, by profile


def lookup(c: Connection, bucket: str, key: str) -> Lookup:
    """Return every score of one object with its provenance. Raises `NotFound` for an unknown object."""
    current = c.execute(
        select(func.bool_or(images.c.current)).where(images.c.bucket == bucket, images.c.key == key)
    ).scalar_one()
    if current is None:
        raise NotFound(f"s3://{bucket}/{key} is not known", hint="submit it, or check the spelling of the key")
    by_scorer = (
        select(
            images.c.etag,
            images.c.current,
            images.c.last_modified,
            *(stored_scores.c[name] for name in ("score", "scorer_id", "version_id", "scored_at", "attempt", "job_id")),
            scorers.c.card,
        )
        .join(stored_scores, stored_scores.c.image_id == images.c.id)
        .join(scorers, scorers.c.id == stored_scores.c.scorer_id)
        .where(images.c.bucket == bucket, images.c.key == key)
        .order_by(images.c.current.desc(), stored_scores.c.scored_at.desc(), stored_scores.c.scorer_id)
    )
    by_profile = (
        select(results, _SCALE)
        .where(results.c.bucket == bucket, results.c.key == key)
        .order_by(results.c.current.desc(), results.c.updated_at.desc(), results.c.profile)
    )
    return Lookup(
        bucket=bucket,
        key=key,
        deleted=not current,
        scores=[StoredScore(**row._mapping) for row in c.execute(by_scorer)],
        results=read_score_rows(c, c.execute(by_profile)),
    )
