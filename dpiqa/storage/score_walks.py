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
    ColumnElement,
    Connection,
    Select,
    any_,
    func,
    literal,
    literal_column,
    select,
    true,
    tuple_,
)

from dpiqa.storage.columns import constant
from dpiqa.storage.counts import read_counts
from dpiqa.storage.references import is_model
from dpiqa.storage.result_tables import SCORE_BIN, score_bin
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

#: The columns of `results` in the subqueries `read` and `in_bin`. Written down once: deriving them from each
#: subquery takes a third of the time of a page.
READ, _IN_BIN = (
    [literal_column(f"{name}.{column.name}", column.type) for column in results.c] for name in ("read", "in_bin")
)
READ_COLUMNS = SimpleNamespace(**{column.name: read for column, read in zip(results.c, READ, strict=True)})

#: A job, a prefix or a span of time with at most this many rows is read whole and sorted.
FEW = 5_000


@dataclass(frozen=True)
class Walk:
    """A way through the results."""

    rows: Callable[[Sequence[Condition]], Select[Any]]  #: the rows within further bounds, in order
    residual: Callable[[Columns], list[Condition]]  #: conditions left to check on each row
    checks_rows: bool  #: whether any are left, and the rows are many
    names: tuple[str, ...]  #: the columns it is ordered by
    descending: bool

    def beyond(self, position: Sequence[Any]) -> Condition:
        """Build "after this position", for a row of `results`."""
        return _beyond([results.c[name] for name in self.names], position, descending=self.descending)

    def positions(self, bounds: Sequence[Condition]) -> Select[Any]:
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
        return _along_bins(columns, chosen, conditions.prefix or "", sort, descending=order.descending).limit(limit)
    return select(*columns).select_from(results).where(*chosen).order_by(*sort).limit(limit)


def _has_bins(fields: ScoreFilter, order: ScoreOrder) -> bool:
    """Return whether the index by bins of the score serves a page."""
    return bool(fields.prefix and fields.bucket and fields.profile) and not order.by_time and not fields.include_old


def sort_columns(conditions: ScoreFilter, order: ScoreOrder) -> list[Column[Any]]:
    """Return the columns that results are ordered by: no two results are alike in all of them."""
    columns: list[Column[Any]] = [results.c.updated_at if order.by_time else results.c.score, results.c.image_id]
    return columns if conditions.profile is not None else [*columns, results.c.profile]


def _beyond(columns: Sequence[Column[Any]], position: Sequence[Any], *, descending: bool) -> Condition:
    """Build "after this position". Whole rows are compared: Postgres walks to it, which it does not with OR."""
    last = tuple_(*(literal(value, column.type) for value, column in zip(position, columns, strict=True)))
    return tuple_(*columns) < last if descending else tuple_(*columns) > last


def choose_walk(c: Connection, fields: ScoreFilter, order: ScoreOrder, scorer_ids: Sequence[str] | None) -> Walk:
    """Choose a way for a page. `scorer_ids`: of `fields.model`; None: any."""
    few = None if fields.include_old else _few(c, fields, order)
    by_bins = _has_bins(fields, order)
    columns = sort_columns(fields, order)
    names = tuple(column.name for column in columns)
    sort = [column.desc() if order.descending else column for column in columns]

    def residual(r: Columns) -> list[Condition]:
        conditions = others(r, fields, scorer_ids)
        conditions += score_bounds(r, fields) if order.by_time else time_bounds(r, fields)
        if fields.prefix and not by_bins:
            conditions.append(begins_with(r, fields.prefix))
        if fields.job is not None and few is None:
            conditions.append(in_job(r, fields.job))
        return conditions

    conditions = [*equalities(results.c, fields), *(time_bounds if order.by_time else score_bounds)(results.c, fields)]
    if fields.status is ResultStatus.PROVISIONAL and not order.by_time:
        conditions.append(results.c.status == constant(ResultStatus.PROVISIONAL))  # has an index

    def along_index(bounds: Sequence[Condition]) -> Select[Any]:
        return select(results).where(*conditions, *bounds).order_by(*sort)

    def sorted_few(bounds: Sequence[Condition]) -> Select[Any]:
        # Materialized: else Postgres may walk an index in the order of the page, in the hope of finding the few early.
        rows = select(results).where(*conditions, *(few or ()), *bounds).cte("few").prefix_with("MATERIALIZED")
        return select(rows).order_by(*(rows.c[name].desc() if order.descending else rows.c[name] for name in names))

    def along_bins(bounds: Sequence[Condition]) -> Select[Any]:
        chosen = [*conditions, *bounds]
        return _along_bins([results], chosen, fields.prefix or "", sort, descending=order.descending)

    rows = along_index if few is None and not by_bins else sorted_few if few is not None else along_bins
    checks = few is None and not fields.include_old and bool(residual(results.c))
    return Walk(rows, residual, checks, names, order.descending)


def _along_bins(
    columns: Sequence[Any],
    conditions: Sequence[Condition],
    prefix: str,
    sort: Sequence[ColumnElement[Any]],
    *,
    descending: bool,
) -> Select[Any]:
    """Return the query for columns of a prefix's rows in the order of their scores: bin by bin, each read by its keys.

    No index has both the keys of any prefix together and the scores in order. The bins are narrow (1/1000): a prefix
    has few rows in each, which are sorted. The nested loop keeps the order of the bins.
    """
    ends = [
        select(score_bin(end(results.c.score))).where(*conditions).scalar_subquery() for end in (func.min, func.max)
    ]
    first, last = reversed(ends) if descending else ends
    bins = func.generate_series(first, last, -1 if descending else 1).table_valued("bin", name="bins").render_derived()
    in_bin = (
        select(*columns)
        .select_from(results)
        .where(*conditions, begins_with(results.c, prefix), bins.c.bin == SCORE_BIN)
        .order_by(*sort)
    )
    rows = in_bin.lateral("in_bin")
    whole = columns[0] is results
    found = [read.label(own.name) for own, read in zip(results.c, _IN_BIN, strict=True)] if whole else [rows]
    return select(*found).select_from(bins).join(rows, true())


def _few(c: Connection, fields: ScoreFilter, order: ScoreOrder) -> list[Condition] | None:
    """Return conditions that few rows fit, by an index of their own; None where there are none."""
    if fields.job is not None and sum(count.n for count in read_counts(c, fields.job)) <= FEW:
        of_job = select(items.c.image_id).where(items.c.job_id == fields.job).scalar_subquery()
        return [results.c.image_id == any_(func.array(of_job))]
    candidates: list[list[Condition]] = []
    if order.by_time and fields.prefix and fields.bucket:
        candidates.append([results.c.bucket == fields.bucket, begins_with(results.c, fields.prefix)])
    if not order.by_time and fields.profile and (fields.since or fields.until):
        candidates.append([*equalities(results.c, fields), *time_bounds(results.c, fields)])
    for conditions in candidates:
        rows = select(literal(1)).select_from(results).where(*conditions).limit(FEW + 1).subquery()
        if c.execute(select(func.count()).select_from(rows)).scalar_one() <= FEW:
            return conditions
    return None
