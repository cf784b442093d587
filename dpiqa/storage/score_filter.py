"""Conditions on results, and which of them an index serves.

An *index condition* narrows or orders the walk through an index. The others, *residual* conditions, are checked on each
row that the walk reads: a page then reads a bounded number of rows (`dpiqa.storage.scores`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Text, and_, exists, false, literal, literal_column, or_, select

from dpiqa.access import Grants
from dpiqa.errors import InvalidRequest
from dpiqa.percentiles import ScoreRange
from dpiqa.storage.columns import constant
from dpiqa.storage.tables import items, results
from dpiqa.types import ResultStatus, Route

Condition = ColumnElement[bool]
Columns = Any  #: an object with the columns of `results` as attributes
#: The order of the index by bucket and key. Raw: SQLAlchemy has no order by an operator.
KEY_ORDER: ColumnElement[str] = literal_column("results.key USING ~<~", results.c.key.type)
#: Behind a prefix it sorts after all keys that begin with the prefix: they have at most 1,024 bytes.
_LAST = "\U0010ffff" * 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreFilter:
    """Conditions on results. `None` means any. Give a profile: Postgres has to sort pages without one."""

    bucket: str | None = None
    prefix: str | None = None
    suffix: str | None = None  #: end of the key, e.g. `.png`
    min: float | None = None  #: on the scorer's scale, inclusive
    max: float | None = None  #: on the scorer's scale, inclusive
    since: datetime | None = None  #: changed at this time or later
    until: datetime | None = None  #: changed before this time
    profile: str | None = None  #: id, e.g. `default@1`
    job: UUID | None = None  #: images of this job, whichever job scored them
    model: str | None = None  #: a scorer's id, or the name of its model
    status: ResultStatus | None = None
    route: Route | None = None
    within: tuple[ScoreRange, ...] | None = None  #: any of these, see `dpiqa.storage.references.ranges_of`
    include_old: bool = False  #: replaced and deleted versions too

    def under(self, profile: str | None) -> "ScoreFilter":
        """Return the same conditions on the scores of another profile."""
        return replace(self, profile=profile)

    def narrowed(self, grants: Grants) -> "ScoreFilter":
        """Return the same conditions within the grants. Those of a job's images alone are: the job is.

        Raises as `Grants.narrow`.
        """
        if self.job is not None and self.bucket is None:
            return self
        bucket, prefix = grants.narrow(self.bucket, self.prefix)
        return replace(self, bucket=bucket, prefix=prefix)

    def check(self, field: str = "`{}`", *, of_job: bool = False) -> None:
        """Raise `InvalidRequest` for conditions that contradict each other, or that no index serves.

        `field`: how the caller's users write the name of a field, e.g. `--{}`. `of_job`: a job will be added.
        """
        low, high = field.format("min"), field.format("max")
        if any(bound is not None and not math.isfinite(bound) for bound in (self.min, self.max)):
            raise InvalidRequest(f"{low} and {high} must be finite numbers", hint="scores are nominally 0 to 1")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise InvalidRequest(f"{low} is above {high}", hint="swap them")
        if any(bound is not None and bound.tzinfo is None for bound in (self.since, self.until)):
            raise InvalidRequest(
                f"{field.format('since')} and {field.format('until')} need a time zone", hint="write 2026-05-17T00:00Z"
            )
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise InvalidRequest(
                f"{field.format('since')} is not before {field.format('until')}", hint="`until` itself is left out"
            )
        for name, value in (("prefix", self.prefix), ("suffix", self.suffix)):
            if value and self.bucket is None and self.job is None and not of_job:
                raise InvalidRequest(
                    f"{field.format(name)} needs a bucket: keys are indexed by bucket",
                    hint=f"add {field.format('bucket')}",
                )


def begins_with(r: Columns, prefix: str) -> Condition:
    """Build the condition that a key begins with a text, so that an index on keys serves it."""
    begins: Condition = r.key.startswith(prefix, autoescape=True)
    return begins


def begins_with_unestimated(r: Columns, prefix: str) -> Condition:
    """Build the same condition as bounds whose values Postgres does not know when it plans, for a query in a loop.

    Its statistics of keys are coarse: it takes the keys of a folder for one row, and would read them all again in each
    turn of the loop, by the index on keys. Of bounds that it does not know, it expects half a percent of all rows.
    """
    first, last = (select(literal(end, Text)).scalar_subquery() for end in (prefix, prefix + _LAST))
    return and_(r.key.op("~>=~", is_comparison=True)(first), r.key.op("~<=~", is_comparison=True)(last))


def score_bounds(r: Columns, fields: ScoreFilter) -> list[Condition]:
    """Build the conditions on the score that an index serves: `min`, `max`, and the ends of all ranges."""
    ranges = fields.within or ()
    lows = [bounds.low for bounds in ranges if bounds.low is not None]
    highs = [bounds.high for bounds in ranges if bounds.high is not None]
    least = [fields.min, min(lows) if ranges and len(lows) == len(ranges) else None]
    most = [fields.max, max(highs) if ranges and len(highs) == len(ranges) else None]
    return [
        *(r.score >= literal(bound, r.score.type) for bound in least if bound is not None),
        *(r.score <= literal(bound, r.score.type) for bound in most if bound is not None),
    ]


def time_bounds(r: Columns, fields: ScoreFilter) -> list[Condition]:
    """Build the conditions on the time of the last change."""
    at = r.updated_at
    return [
        *([] if fields.since is None else [at >= literal(fields.since, at.type)]),
        *([] if fields.until is None else [at < literal(fields.until, at.type)]),
    ]


def equalities(r: Columns, fields: ScoreFilter) -> list[Condition]:
    """Build the conditions that all indexes of pages begin with: current, profile and bucket."""
    return [
        *([] if fields.include_old else [r.current]),
        *([] if fields.profile is None else [r.profile == fields.profile]),
        *([] if fields.bucket is None else [r.bucket == fields.bucket]),
    ]


def others(r: Columns, fields: ScoreFilter, scorer_ids: Sequence[str] | Select[Any] | None) -> list[Condition]:
    """Build the conditions that no index serves in general. `scorer_ids`: of `fields.model`; None: any."""
    conditions: list[Condition] = []
    if scorer_ids is not None:
        conditions.append(r.scorer_id.in_(scorer_ids))
    if fields.suffix:
        conditions.append(r.key.endswith(fields.suffix, autoescape=True))
    if fields.status is not None:
        conditions.append(r.status == constant(fields.status))
    if fields.route is not None:
        conditions.append(r.route == fields.route)
    if fields.within is not None:
        conditions.append(or_(false(), *(_in_range(r, bounds) for bounds in fields.within)))
    return conditions


def in_job(r: Columns, job: UUID) -> Condition:
    """Build the condition that the image of a result is one of a job's images."""
    return exists().where(items.c.job_id == job, items.c.image_id == r.image_id)


def _in_range(r: Columns, bounds: ScoreRange) -> Condition:
    score, type_ = r.score, r.score.type
    conditions = [r.scorer_id == bounds.scorer_id]
    if bounds.low is not None:
        low = literal(bounds.low, type_)
        conditions.append(score >= low if bounds.low_included else score > low)
    if bounds.high is not None:
        high = literal(bounds.high, type_)
        conditions.append(score < high if bounds.low_included else score <= high)
    return and_(*conditions)
