"""Pages of the scores that count, filtered and in an order, at a cost that does not grow with the archive.

A page that checks conditions which its index does not serve reads at most `MAX_READ` rows. It may end early then, with
a cursor that continues where it stopped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, Select, select

from dpiqa.imaging.measured import Measures
from dpiqa.storage.measures import read_measures
from dpiqa.storage.pages import MAX_READ, Page, check_limit, decode, encode, malformed_cursor
from dpiqa.storage.references import CARD_VERSION, Meaning, read_meanings, scorers_of_model
from dpiqa.storage.score_filter import ScoreFilter
from dpiqa.storage.score_walks import READ, READ_COLUMNS, Bound, Walk, choose_walk
from dpiqa.storage.tables import results, scorers
from dpiqa.types import Band, ResultStatus, Route, ScoreOrder, Stage


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
    measures: Measures | None = None  #: of the picture, where a job asked for details

    @classmethod
    def from_row(cls, row: Row[Any], meaning: Meaning, measures: Measures | None) -> "ScoreRow":
        """Read a row of `results`. `meaning`: of its scorer."""
        reference = meaning.reference
        return cls(
            image_id=row.image_id,
            profile=row.profile,
            score=row.score,
            scorer_id=row.scorer_id,
            scale=meaning.scale,
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
            measures=measures,
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
    check_limit(limit)
    position = None if cursor is None else _read_cursor(conditions, order, cursor)
    scorer_ids = None if conditions.model is None else scorers_of_model(c, conditions.model)
    walk = None if scorer_ids == [] else choose_walk(c, conditions, order, scorer_ids, position)
    if walk is None:
        return Page([], None)
    bounds: list[Bound] = [] if position is None else [walk.beyond(position)]

    def cursor_at(values: Sequence[Any]) -> str:
        first = values[0].isoformat() if order.by_time else values[0]
        return encode((conditions, order.value), [first, *values[1:]])

    def cursor_of(row: ScoreRow) -> str:
        return cursor_at([getattr(row, name) for name in walk.names])

    max_read = MAX_READ if walk.checks_rows else None
    rows = _read(c, walk, bounds, limit + 1, max_read)
    if max_read is None or len(rows) > limit:
        return Page.cut(rows, limit, cursor_of)
    # Too few of the rows that were read fit. They are read again up to a fixed position, so that rows that come or go
    # between the two statements are neither passed over nor returned twice.
    end = c.execute(walk.positions(bounds).offset(max_read - 1).limit(1)).one_or_none()
    if end is not None:
        bounds.append(walk.upto(end))
    page = Page.cut(_read(c, walk, bounds, limit + 1, None), limit, cursor_of)
    if end is None or page.next_cursor is not None:
        return page
    return Page(page.items, cursor_at(end), partial=True)


def _read(c: Connection, walk: Walk, bounds: Sequence[Bound], n: int, max_read: int | None) -> list[ScoreRow]:
    """Return the first `n` rows that fit, of the first `max_read` within the bounds; None: of all."""
    fits = walk.residual(READ_COLUMNS)
    read = walk.rows(bounds).limit(max_read if fits else n).subquery("read")
    return read_score_rows(c, select(*_LABELLED).select_from(read).where(*fits).limit(n), READ_COLUMNS.scorer_id)


_LABELLED = [read.label(column.name) for column, read in zip(results.c, READ, strict=True)]


def read_score_rows(c: Connection, query: Select[Any], scorer_id: ColumnElement[str]) -> list[ScoreRow]:
    """Read the rows of a query of the columns of `results`, with what their scores mean, and their measures.

    `scorer_id`: the column of the query.
    """
    version = select(CARD_VERSION).where(scorers.c.id == scorer_id).scalar_subquery().label("card_version")
    rows = c.execute(query.add_columns(version)).all()
    meanings = read_meanings(c, {(row.scorer_id, row.card_version) for row in rows})
    measures = read_measures(c, [row.image_id for row in rows])
    return [ScoreRow.from_row(row, meanings[row.scorer_id], measures.get(row.image_id)) for row in rows]


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
