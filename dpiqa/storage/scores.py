"""Scores: filtered pages of the scores that count, and everything stored about one object."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import (
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
    text,
    tuple_,
)

from dpiqa.errors import InvalidRequest, NotFound
from dpiqa.percentiles import Reference, ScoreRange, read_reference
from dpiqa.storage.pages import Page, Position, decode, encode
from dpiqa.storage.references import model_of, read_references
from dpiqa.storage.tables import items, results, scorers
from dpiqa.types import Band, ResultStatus, Route, Stage

Sort = Literal["score", "-score", "updated", "-updated"]

MAX_LIMIT = 1000  #: rows in one page
_MEANING = ("percentile", "band")  #: of a row: worked out, not stored
_SCALE = (
    select(scorers.c.card["score_scale"].astext).where(scorers.c.id == results.c.scorer_id).scalar_subquery()
).label("scale")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreFilter:
    """Which results. `None` means any. Give a profile: pages without one sort what they find."""

    bucket: str | None = None
    prefix: str | None = None
    min: float | None = None  #: on the scorer's scale, included
    max: float | None = None  #: likewise
    profile: str | None = None  #: id, e.g. `default@1`
    job: UUID | None = None  #: images of this job, whichever job scored them
    model: str | None = None  #: a scorer's id, or the name of its model
    status: ResultStatus | None = None
    within: tuple[ScoreRange, ...] | None = None  #: any of these, see `dpiqa.storage.references.ranges_of`
    include_old: bool = False  #: replaced and deleted versions too


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """The score that counts for an image under a profile."""

    image_id: int
    profile: str
    score: float  #: on `scale`
    scorer_id: str
    scale: str  #: what the scorer's scores mean: range, and which end is better
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
    band: Band | None = None  #: the score in a plain word, by that population

    @property
    def model(self) -> str:
        """The scorer's id, under the name that reports use."""
        return self.scorer_id


def scores(
    c: Connection, chosen: ScoreFilter, *, sort: Sort = "score", limit: int = 100, cursor: str | None = None
) -> Page[ScoreRow]:
    """Return a page of results in the order of `sort` (`-` for descending) and after `cursor`.

    Raises `InvalidRequest` for a cursor of another question or a limit outside 1-1000.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"a page has 1 to {MAX_LIMIT} rows, not {limit}")
    columns = [results.c.updated_at if sort.endswith("updated") else results.c.score, results.c.image_id]
    if chosen.profile is None:
        columns.append(results.c.profile)
    descending = sort.startswith("-")
    query = select(results, _SCALE).where(*_conditions(chosen))
    query = query.order_by(*(column.desc() if descending else column for column in columns)).limit(limit + 1)
    if cursor is not None:
        query = _after(query, columns, _position(chosen, sort, cursor), descending=descending)
    found = to_score_rows(c, c.execute(query))
    more = len(found) > limit
    return Page(found[:limit], encode((chosen, sort), _place(found[limit - 1], chosen, sort)) if more else None)


def percentile(c: Connection, chosen: ScoreFilter, p: float, *, descending: bool = False) -> float | None:
    """Return the score at or below which the share `p` (0-1) of the chosen results lies; None if there are none.

    `descending`: at or above which.
    """
    order = results.c.score.desc() if descending else results.c.score
    threshold = func.percentile_disc(p).within_group(order)
    found = c.execute(select(threshold).where(*_conditions(chosen))).scalar_one()
    return None if found is None else float(found)


def count(c: Connection, chosen: ScoreFilter) -> int:
    """Return how many results are chosen. Reads them all: not for every page."""
    return c.execute(select(func.count()).select_from(results).where(*_conditions(chosen))).scalar_one()


def to_score_rows(c: Connection, rows: Iterable[Row[Any]]) -> list[ScoreRow]:
    """Read rows of `results` with their scorers' scale, and say what the scores mean by the scorers' references."""
    found = [row._mapping for row in rows]
    references = read_references(c, {row["scorer_id"] for row in found})
    return [_to_score_row(row, references.get(row["scorer_id"])) for row in found]


def _to_score_row(fields: Any, reference: Reference | None) -> ScoreRow:
    values = {name: fields[name] for name in ScoreRow.__dataclass_fields__ if name not in _MEANING}
    values.update(stage=Stage(values["stage"]), status=ResultStatus(values["status"]), route=Route(values["route"]))
    if reference is not None:
        values.update(percentile=reference.percentile(fields["score"]), band=reference.band(fields["score"]))
    return ScoreRow(**values)


def _conditions(chosen: ScoreFilter) -> list[ColumnElement[bool]]:
    r = results.c
    wanted: list[tuple[object, ColumnElement[bool]]] = [
        (chosen.bucket, r.bucket == chosen.bucket),
        (chosen.prefix or None, r.key.startswith(chosen.prefix or "", autoescape=True)),
        (chosen.min, r.score >= literal(chosen.min, r.score.type)),
        (chosen.max, r.score <= literal(chosen.max, r.score.type)),
        (chosen.profile, r.profile == chosen.profile),
        (chosen.job, exists().where(items.c.job_id == chosen.job, items.c.image_id == r.image_id)),
        (chosen.model, or_(r.scorer_id == chosen.model, model_of(r.scorer_id) == chosen.model)),
        (chosen.status, r.status == chosen.status),
        (chosen.within, _within(chosen.within or ())),
        (None if chosen.include_old else True, r.current),
    ]
    return [condition for value, condition in wanted if value is not None]


def _within(ranges: Sequence[ScoreRange]) -> ColumnElement[bool]:
    """Any of the ranges; and, for the indices, all of them from end to end."""
    score, type_ = results.c.score, results.c.score.type
    lows = [one.low for one in ranges if one.low is not None]
    highs = [one.high for one in ranges if one.high is not None]
    wanted = [or_(false(), *map(_in_range, ranges))]
    if ranges and len(lows) == len(ranges):
        wanted.append(score >= literal(min(lows), type_))
    if ranges and len(highs) == len(ranges):
        wanted.append(score <= literal(max(highs), type_))
    return and_(*wanted)


def _in_range(one: ScoreRange) -> ColumnElement[bool]:
    score, type_ = results.c.score, results.c.score.type
    wanted = [results.c.scorer_id == one.scorer_id]
    if one.low is not None:
        low = literal(one.low, type_)
        wanted.append(score >= low if one.low_included else score > low)
    if one.high is not None:
        high = literal(one.high, type_)
        wanted.append(score < high if one.low_included else score <= high)
    return and_(*wanted)


def _after(query: Select[Any], columns: list[Any], position: list[Any], *, descending: bool) -> Select[Any]:
    """Compare whole rows: Postgres walks the index to the place, as it does not for the same thing spelt with OR."""
    here = tuple_(*columns)
    there = tuple_(*(literal(value, column.type) for value, column in zip(position, columns, strict=True)))
    return query.where(here < there if descending else here > there)


def _place(row: ScoreRow, chosen: ScoreFilter, sort: Sort) -> Position:
    first: str | float = row.updated_at.isoformat() if sort.endswith("updated") else row.score
    return [first, row.image_id] if chosen.profile is not None else [first, row.image_id, row.profile]


def _position(chosen: ScoreFilter, sort: Sort, cursor: str) -> list[Any]:
    by_time = sort.endswith("updated")
    kinds: list[type] = [str if by_time else float, int]
    kinds += [] if chosen.profile is not None else [str]
    position: list[Any] = decode((chosen, sort), cursor, kinds)
    if by_time:
        try:
            position[0] = datetime.fromisoformat(position[0])
        except ValueError:
            raise InvalidRequest("the cursor is not one of ours") from None
    return position


_IMAGES = text(
    "SELECT * FROM images WHERE bucket = :bucket AND key = :key ORDER BY current DESC, news_at DESC, id DESC"
)
_SCORES = text(
    """
    SELECT i.etag, i.current, i.last_modified, s.score, s.scorer_id, s.version_id, s.scored_at, s.attempt, s.job_id,
        w.card
    FROM images i JOIN scores s ON s.image_id = i.id JOIN scorers w ON w.id = s.scorer_id
    WHERE i.bucket = :bucket AND i.key = :key ORDER BY i.current DESC, s.scored_at DESC, s.scorer_id
    """
)
_RESULTS = text(
    """
    SELECT r.*, w.card ->> 'score_scale' AS scale FROM results r JOIN scorers w ON w.id = r.scorer_id
    WHERE r.bucket = :bucket AND r.key = :key ORDER BY r.current DESC, r.updated_at DESC, r.profile
    """
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredScore:
    """One model's number for one version of the object, and where it comes from."""

    score: float  #: on `scale`
    scorer_id: str
    etag: str  #: of the bytes that were scored
    version_id: str | None
    current: bool  #: whether these bytes are, as far as is known, what the store holds
    last_modified: datetime | None
    scored_at: datetime
    attempt: int  #: the fence under which it was recorded
    job_id: UUID
    card: dict[str, Any]  #: the model card as it was when the scorer first spoke; with its latest references

    @property
    def scale(self) -> str:
        """What the scorer's scores mean: range, and which end is better."""
        return str(self.card["score_scale"])

    @property
    def percentile(self) -> float | None:
        """Share (0-100) of the scorer's reference population that is no better; None where it has none."""
        return None if (reference := self._reference) is None else reference.percentile(self.score)

    @property
    def band(self) -> Band | None:
        """The score in a plain word, by that population."""
        return None if (reference := self._reference) is None else reference.band(self.score)

    @property
    def _reference(self) -> Reference | None:
        return read_reference(self.card.get("references"), self.scorer_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """Everything known about one object, the current version first."""

    bucket: str
    key: str
    deleted: bool  #: no version is current
    scores: list[StoredScore]
    results: list[ScoreRow]  #: what counts, by profile


def lookup(c: Connection, bucket: str, key: str) -> Lookup:
    """Return every score of one object with its provenance. Raises `NotFound` for an object never heard of."""
    where = {"bucket": bucket, "key": key}
    versions = c.execute(_IMAGES, where).all()
    if not versions:
        raise NotFound(f"s3://{bucket}/{key} is not known", hint="submit it, or check the spelling of the key")
    return Lookup(
        bucket=bucket,
        key=key,
        deleted=not versions[0].current,
        scores=[StoredScore(**row._mapping) for row in c.execute(_SCORES, where)],
        results=to_score_rows(c, c.execute(_RESULTS, where)),
    )
