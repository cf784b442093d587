"""Ways through the results in the order of a page: along an index, by bins of the score, or a few rows that are sorted.

Each condition is either part of a walk, so that only rows that fit it are read, or *residual*: checked on each row that
is read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Select,
    and_,
    any_,
    func,
    literal,
    literal_column,
    select,
    tuple_,
)

from dpiqa.storage.columns import constant
from dpiqa.storage.counts import read_counts
from dpiqa.storage.references import is_model
from dpiqa.storage.score_bins import along_prefix, along_spans, fitting_spans
from dpiqa.storage.score_filter import (
    Columns,
    Condition,
    ScoreFilter,
    begins_with,
    equalities,
    in_job,
    others,
    score_bounds,
    time_bounds,
)
from dpiqa.storage.tables import items, results, scorers
from dpiqa.types import ResultStatus, ScoreOrder

#: The columns of `results` in the subquery `read`. Written down once: deriving them from each subquery takes a third of
#: the time of a page.
READ = [literal_column(f"read.{column.name}", column.type) for column in results.c]
READ_COLUMNS = SimpleNamespace(**{column.name: read for column, read in zip(results.c, READ, strict=True)})

#: A job, a prefix or a span of time with at most this many rows is read whole and sorted.
FEW = 5_000
#: The same for a prefix in the order of scores: with more rows, the first page is in fewer bins than these are rows.
FEW_OF_PREFIX = 500


#: A condition on the rows of `results`, whichever query they come from.
Bound = Callable[[Columns], Condition]


@dataclass(frozen=True)
class Walk:
    """A way through the results."""

    rows: Callable[[Sequence[Bound]], Select[Any]]  #: the rows within further bounds, in order
    residual: Callable[[Columns], list[Condition]]  #: conditions left to check on each row
    checks_rows: bool  #: whether any are left, and the rows are many
    names: tuple[str, ...]  #: the columns it is ordered by
    descending: bool

    def beyond(self, position: Sequence[Any]) -> Bound:
        """Build "after this position"."""
        return lambda r: _beyond([getattr(r, name) for name in self.names], position, descending=self.descending)

    def upto(self, position: Sequence[Any]) -> Bound:
        """Build "not after this position"."""

        def bound(r: Columns) -> Condition:
            columns = [getattr(r, name) for name in self.names]
            return _beyond(columns, position, descending=not self.descending, or_at=True)

        return bound

    def positions(self, bounds: Sequence[Bound]) -> Select[Any]:
        """Return the query for the positions of the rows."""
        rows = self.rows(bounds).subquery("read")
        return select(*(rows.c[name] for name in self.names))


def page_of_results(
    conditions: ScoreFilter, order: ScoreOrder, columns: Sequence[Any], *, after: Sequence[Any] | None, limit: int
) -> Select[Any]:
    """Return the query for `columns` of a page of results that reads as many rows as it takes: for exports.

    `after`: the last row's values of `sort_columns`.
    """
    r = results.c
    of_model = None if conditions.model is None else select(scorers.c.id).where(is_model(conditions.model))
    checked = [
        *others(r, conditions, of_model),
        *time_bounds(r, conditions),
        *([begins_with(r, conditions.prefix)] if conditions.prefix else []),
        *([] if conditions.job is None else [in_job(r, conditions.job)]),
    ]
    sorted_by = sort_columns(conditions, order)
    if after is not None:
        checked.append(_beyond(sorted_by, after, descending=order.descending))
    chosen = [*equalities(r, conditions), *score_bounds(r, conditions), *checked]
    sort = [column.desc() if order.descending else column for column in sorted_by]
    if _has_bins(conditions, order):
        return along_prefix(columns, chosen, conditions.prefix or "", sort, descending=order.descending).limit(limit)
    return select(*columns).select_from(results).where(*chosen).order_by(*sort).limit(limit)


def _has_bins(fields: ScoreFilter, order: ScoreOrder) -> bool:
    """Return whether the index by bins of the score serves a page."""
    return bool(fields.prefix and fields.bucket and fields.profile) and not order.by_time and not fields.include_old


def sort_columns(conditions: ScoreFilter, order: ScoreOrder) -> list[Column[Any]]:
    """Return the columns that results are ordered by: no two results are alike in all of them."""
    columns: list[Column[Any]] = [results.c.updated_at if order.by_time else results.c.score, results.c.image_id]
    return columns if conditions.profile is not None else [*columns, results.c.profile]


def _beyond(
    columns: Sequence[Column[Any]], position: Sequence[Any], *, descending: bool, or_at: bool = False
) -> Condition:
    """Build "after this position", or at it. Whole rows are compared: Postgres walks to it, which it does not with OR.

    The first column is also compared by itself. Beside another bound on it, Postgres 18 walks on beyond a row.
    """
    values = [literal(value, column.type) for value, column in zip(position, columns, strict=True)]
    row, last = tuple_(*columns), tuple_(*values)
    if descending:
        return and_(columns[0] <= values[0], row <= last if or_at else row < last)
    return and_(columns[0] >= values[0], row >= last if or_at else row > last)


def choose_walk(
    c: Connection,
    fields: ScoreFilter,
    order: ScoreOrder,
    scorer_ids: Sequence[str] | None,
    position: Sequence[Any] | None = None,
) -> Walk:
    """Choose a way for a page after a position. `scorer_ids`: of `fields.model`; None: any."""
    few = None if fields.include_old else _few(c, fields, order)
    by_keys = few is None and _has_bins(fields, order)
    spans = None if order.by_time or few is not None else fitting_spans(c, fields, scorer_ids)
    if spans is not None and position is not None:
        at = position[0]
        spans = [(low, high) for low, high in spans if (low <= at if order.descending else high >= at)]
    columns = sort_columns(fields, order)
    names = tuple(column.name for column in columns)
    sort = [column.desc() if order.descending else column for column in columns]

    def residual(r: Columns) -> list[Condition]:
        conditions = others(r, fields, scorer_ids)
        conditions += score_bounds(r, fields) if order.by_time else time_bounds(r, fields)
        if fields.prefix and not by_keys:
            conditions.append(begins_with(r, fields.prefix))
        if fields.job is not None and few is None:
            conditions.append(in_job(r, fields.job))
        return conditions

    def within(r: Columns, bounds: Sequence[Bound]) -> list[Condition]:
        return [*_served(r, fields, order), *(bound(r) for bound in bounds)]

    def along_index(bounds: Sequence[Bound]) -> Select[Any]:
        return select(results).where(*within(results.c, bounds)).order_by(*sort)

    def sorted_few(bounds: Sequence[Bound]) -> Select[Any]:
        # Materialized, and with no other condition inside: else Postgres may walk an index in the order of the page, in
        # the hope of finding the few early, or read half of another index to leave out some of the few.
        rows = select(results).where(*(few or ())).cte("few").prefix_with("MATERIALIZED")
        ordered = (rows.c[name].desc() if order.descending else rows.c[name] for name in names)
        return select(rows).where(*within(rows.c, bounds)).order_by(*ordered)

    def along_keys(bounds: Sequence[Bound]) -> Select[Any]:
        chosen, prefix = within(results.c, bounds), fields.prefix or ""
        return along_prefix([results], chosen, prefix, sort, descending=order.descending, spans=spans)

    def in_spans(bounds: Sequence[Bound]) -> Select[Any]:
        return along_spans(within(results.c, bounds), sort, spans or [], descending=order.descending)

    rows = sorted_few if few is not None else along_keys if by_keys else along_index if spans is None else in_spans
    checks = few is None and not fields.include_old and bool(residual(results.c))
    return Walk(rows, residual, checks, names, order.descending)


def _served(r: Columns, fields: ScoreFilter, order: ScoreOrder) -> list[Condition]:
    """Build the conditions that the indexes of pages in this order serve."""
    conditions = [*equalities(r, fields), *(time_bounds if order.by_time else score_bounds)(r, fields)]
    if fields.status is ResultStatus.PROVISIONAL and not order.by_time:
        conditions.append(r.status == constant(ResultStatus.PROVISIONAL))
    return conditions


def _few(c: Connection, fields: ScoreFilter, order: ScoreOrder) -> list[Condition] | None:
    """Return conditions that few rows fit, by an index of their own; None where there are none."""
    if fields.job is not None and sum(count.n for count in read_counts(c, fields.job)) <= FEW:
        of_job = select(items.c.image_id).where(items.c.job_id == fields.job).scalar_subquery()
        return [results.c.image_id == any_(func.array(of_job))]
    candidates: list[tuple[list[Condition], int]] = []
    if fields.prefix and fields.bucket:
        of_prefix = [results.c.bucket == fields.bucket, begins_with(results.c, fields.prefix)]
        candidates.append((of_prefix, FEW if order.by_time else FEW_OF_PREFIX))
    if not order.by_time and fields.profile and (fields.since or fields.until):
        candidates.append(([*equalities(results.c, fields), *time_bounds(results.c, fields)], FEW))
    for conditions, most in candidates:
        rows = select(literal(1)).select_from(results).where(*conditions).limit(most + 1).subquery()
        if c.execute(select(func.count()).select_from(rows)).scalar_one() <= most:
            return conditions
    return None
