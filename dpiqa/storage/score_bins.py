"""Walks through results bin by bin of the score: the rows of a prefix, and only bins that hold what is asked for."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Double, Integer, Select, func, literal, literal_column, select, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.selectable import FromClause

from dpiqa.storage.result_tables import BIN_WIDTH, HIGHEST_BIN, LOWEST_BIN, SCORE_BIN, score_bin
from dpiqa.storage.rollups import Scope, occupied_bins
from dpiqa.storage.score_filter import Condition, ScoreFilter, begins_with_unestimated
from dpiqa.storage.tables import results
from dpiqa.types import ResultStatus

#: The columns of `results` in the subquery `in_bin`: see `READ` in `dpiqa.storage.score_walks`.
_IN_BIN = [literal_column(f"in_bin.{column.name}", column.type) for column in results.c]
_SLACK = 0.001  #: of a bin: `number * BIN_WIDTH` may differ from the edge that Postgres rounds to


Span = tuple[float, float]  #: scores from the first to the second


def fitting_spans(c: Connection, fields: ScoreFilter, scorer_ids: Sequence[str] | None) -> list[Span] | None:
    """Return the spans, lowest first, with results of the scorer, ranges, route and status that are asked for.

    Other conditions are not regarded: a span may hold no row that fits them too. None: those four are not asked for, or
    the roll-ups do not count such results.
    """
    asked = (scorer_ids, fields.within, fields.route) != (None, None, None) or fields.status is ResultStatus.FINAL
    if not asked or fields.profile is None or fields.include_old:
        return None
    ids = None if scorer_ids is None else tuple(scorer_ids)
    scope = Scope(
        profile=fields.profile, bucket=fields.bucket, scorer_ids=ids, route=fields.route, status=fields.status
    )
    by_scorer = occupied_bins(c, scope)
    if by_scorer is None:
        return None
    spans: list[Span] = []
    for scorer_id, bins in by_scorer.items():
        runs = _runs(bins)
        for bounds in [None] if fields.within is None else [b for b in fields.within if b.scorer_id == scorer_id]:
            low = -math.inf if bounds is None or bounds.low is None else bounds.low
            high = math.inf if bounds is None or bounds.high is None else bounds.high
            spans += [(max(low, first), min(high, last)) for first, last in runs if first <= high and low <= last]
    return _union(spans)


def _runs(bins: Iterable[int]) -> list[Span]:
    """Return the scores of bins; neighbours together."""
    edges = [
        (
            -math.inf if number == LOWEST_BIN else (number - _SLACK) * BIN_WIDTH,
            math.inf if number == HIGHEST_BIN else (number + 1 + _SLACK) * BIN_WIDTH,
        )
        for number in bins
    ]
    return _union(edges)


def _union(spans: Iterable[Span]) -> list[Span]:
    union: list[Span] = []
    for low, high in sorted(spans):
        if union and low <= union[-1][1]:
            union[-1] = (union[-1][0], max(union[-1][1], high))
        else:
            union.append((low, high))
    return union


def along_prefix(
    columns: Sequence[Any],
    conditions: Sequence[Condition],
    prefix: str,
    sort: Sequence[ColumnElement[Any]],
    *,
    descending: bool,
    spans: Sequence[Span] | None = None,
) -> Select[Any]:
    """Return the query for columns of a prefix's rows in the order of their scores: bin by bin, each read by its keys.

    No index has both the keys of any prefix together and the scores in order. The bins are narrow (1/1000): a prefix
    has few rows in each, which are sorted. The nested loop keeps the order of the bins. `spans`: of the scores to read,
    lowest first; None: all.
    """
    if spans is None:
        ends = [
            select(score_bin(end(results.c.score))).where(*conditions).scalar_subquery() for end in (func.min, func.max)
        ]
        first, last = reversed(ends) if descending else ends
        numbers = func.generate_series(first, last, -1 if descending else 1)
    else:
        bins = sorted({number for span in spans for number in range(*_bins_of(span))}, reverse=descending)
        numbers = func.unnest(literal(bins, ARRAY(Integer)))
    table = numbers.table_valued("bin", name="bins").render_derived()
    in_bin = (
        select(*columns)
        .select_from(results)
        .where(*conditions, begins_with_unestimated(results.c, prefix), table.c.bin == SCORE_BIN)
        .order_by(*sort)
    )
    return _in_order(columns, table, in_bin)


def _bins_of(span: Span) -> tuple[int, int]:
    """Return the first bin of a span, and the one after its last."""
    first, last = (min(HIGHEST_BIN, max(LOWEST_BIN, end / BIN_WIDTH)) for end in span)
    return math.floor(first), math.floor(last) + 1


def along_spans(
    conditions: Sequence[Condition], sort: Sequence[ColumnElement[Any]], spans: Sequence[Span], *, descending: bool
) -> Select[Any]:
    """Return the query for the rows in some spans, given lowest first, in the order of their scores."""
    least, most = ([span[end] for span in (reversed(spans) if descending else spans)] for end in (0, 1))
    edges = func.unnest(*(literal(side, ARRAY(Double)) for side in (least, most)))
    table = edges.table_valued("least", "most", name="spans").render_derived()
    score = results.c.score
    in_span = select(results).where(*conditions, score >= table.c.least, score <= table.c.most).order_by(*sort)
    return _in_order([results], table, in_span)


def _in_order(columns: Sequence[Any], bins: FromClause, in_bin: Select[Any]) -> Select[Any]:
    rows = in_bin.lateral("in_bin")
    whole = columns[0] is results
    found = [read.label(own.name) for own, read in zip(results.c, _IN_BIN, strict=True)] if whole else [rows]
    return select(*found).select_from(bins).join(rows, true())
