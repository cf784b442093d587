"""Shares, counts, quantiles and histograms of results: from the roll-ups, or from few rows."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Connection, and_, any_, func, literal, select, true
from sqlalchemy.sql.elements import ColumnElement

from dpiqa.errors import InvalidRequest
from dpiqa.percentiles import Reference
from dpiqa.storage.counts import read_counts
from dpiqa.storage.distributions import Distribution, HistogramBin, Quantiles, clip, rank_of, share_of_bin
from dpiqa.storage.references import read_references, scorers_of_model
from dpiqa.storage.result_tables import SCORE_BIN, score_bin
from dpiqa.storage.rollups import BinCount, Scope, counted_depth, counted_share, read_bins
from dpiqa.storage.score_filter import ScoreFilter, begins_with, equalities, others, score_bounds, time_bounds
from dpiqa.storage.tables import items, jobs, results
from dpiqa.types import Band, GroupBy, ItemState

#: Results that are read row by row where the roll-ups do not count them together.
MAX_ROWS = 20_000
#: Share of a job's scored images that it must have recorded itself, for its roll-up to stand for all of them.
OWN_SHARE = 0.995
MAX_GROUPS = 1_000  #: groups of one answer, the largest ones


def threshold(c: Connection, conditions: ScoreFilter, share: float, *, descending: bool = False) -> float | None:
    """Return the score at or below which a share (0-1) of the results lies; None if there are none.

    `descending`: at or above which. Exact where at most `MAX_ROWS` results count, and for whole profiles and buckets;
    otherwise right to the width of a bin. Raises `InvalidRequest` where more count than can be read.
    """
    scorer_ids = None if conditions.model is None else tuple(scorers_of_model(c, conditions.model))
    if scorer_ids == ():
        return None
    scope = _scope(c, conditions, scorer_ids) if counted_share(c) == 1 else "the roll-ups are being built"
    if isinstance(scope, str):
        return _threshold_of_rows(c, conditions, scorer_ids, share, scope, descending=descending)
    counts = clip(read_bins(c, scope), conditions.min, conditions.max, conditions.within)
    distribution = Distribution((count.bin, n) for count, n in counts)
    if not distribution.counts:
        return None
    if distribution.total <= MAX_ROWS and _items_of(c, conditions) <= MAX_ROWS:
        return _threshold_of_rows(c, conditions, scorer_ids, share, "", descending=descending)
    rank = rank_of(share, distribution.total, descending=descending)
    number, n, below = distribution.find(rank)
    whole = scope == Scope(profile=scope.profile, bucket=scope.bucket)
    bounded = (conditions.min, conditions.max, conditions.within) != (None, None, None)
    if whole and not bounded and n <= MAX_ROWS:
        in_bin: ColumnElement[bool] = literal(number) == SCORE_BIN
        of_bin = select(results.c.score).where(*equalities(results.c, conditions), in_bin)
        # Between the bin's edges, so that the index on scores is read there and nowhere else.
        edges = results.c.score.between((number - 0.001) / 1000, (number + 1.001) / 1000)
        query = of_bin.where(edges).order_by(results.c.score).offset(max(0, rank - round(below) - 1)).limit(1)
        exact = c.execute(query).scalar_one_or_none()
        if exact is not None:
            return float(exact)
    position = (rank - below) / n
    return (number + min(1.0, max(0.0, position))) / 1000


def _threshold_of_rows(
    c: Connection,
    conditions: ScoreFilter,
    scorer_ids: tuple[str, ...] | None,
    share: float,
    reason: str,
    *,
    descending: bool,
) -> float | None:
    _check_read(_items_of(c, conditions), reason)
    rows, fits = _rows(conditions, scorer_ids)
    score = rows.c.score.desc() if descending else rows.c.score
    at_share = func.percentile_disc(share).within_group(score).filter(fits)
    n_read, value = c.execute(select(func.count(), at_share).select_from(rows)).one()
    _check_read(n_read, reason)
    return None if value is None else float(value)


def _rows(fields: ScoreFilter, scorer_ids: tuple[str, ...] | None) -> tuple[Any, ColumnElement[bool]]:
    """Return a subquery of the rows to read, `MAX_ROWS` and one at most, and the condition that they must fit."""
    r = results.c
    indexed = [*equalities(r, fields), *score_bounds(r, fields), *time_bounds(r, fields)]
    if fields.job is not None:
        images = select(items.c.image_id).where(items.c.job_id == fields.job).limit(MAX_ROWS + 1).scalar_subquery()
        indexed.append(r.image_id == any_(func.array(images)))
    if fields.prefix:
        indexed.append(begins_with(r, fields.prefix))
    rows = select(results).where(*indexed).limit(MAX_ROWS + 1).subquery("read")
    return rows, and_(true(), *others(rows.c, fields, scorer_ids))


def _check_read(n_read: int, reason: str) -> None:
    if n_read > MAX_ROWS:
        raise InvalidRequest(
            f"more than {MAX_ROWS:,} results would have to be read one by one: {reason or 'the filter is too wide'}",
            hint="narrow it, or ask by bucket, folder, day or job alone",
        )


def _scope(c: Connection, fields: ScoreFilter, scorer_ids: tuple[str, ...] | None) -> Scope | str:
    """Return the roll-ups that count what the conditions choose, or the reason why none do."""
    days, prefix = _days(fields), fields.prefix or ""
    narrow = [name for name, given in (("prefix", fields.prefix), ("job", fields.job), ("days", days)) if given]
    depth = counted_depth(c, fields.profile or "", fields.bucket or "") if fields.prefix else 0
    reasons = {
        "a suffix is in no roll-up": bool(fields.suffix),
        "roll-ups count whole days (UTC)": days == (),
        f"no roll-up combines {' and '.join(narrow)}": len(narrow) > 1,
        f"no roll-up combines a {narrow[0] if narrow else ''} with route or status": bool(narrow)
        and bool(fields.route or fields.status),
        f"in this bucket, folders to a depth of {depth} are counted (prefixes with a last slash)": bool(prefix)
        and (not prefix.endswith("/") or prefix.count("/") > depth),
    }
    reason = next((reason for reason, holds in reasons.items() if holds), None)
    if reason is not None:
        return reason
    scope = Scope(
        profile=fields.profile,
        bucket=fields.bucket,
        folder=fields.prefix or None,
        job=None if fields.job is None else str(fields.job),
        days=days,
        scorer_ids=scorer_ids,
        route=fields.route,
        status=fields.status,
    )
    if fields.job is not None:
        own = sum(count.n for count in read_bins(c, replace(scope, scorer_ids=None)))
        if own < OWN_SHARE * _scored_in(c, fields):
            return "other jobs scored images of this job"
    return scope


def _items_of(c: Connection, fields: ScoreFilter) -> int:
    return 0 if fields.job is None else sum(count.n for count in read_counts(c, fields.job))


def _scored_in(c: Connection, fields: ScoreFilter) -> int:
    """Return how many items of the job were scored under the profile."""
    if fields.job is None:
        return 0
    own = c.execute(select(jobs.c.profile).where(jobs.c.id == fields.job)).scalar_one_or_none()
    counts = [count for count in read_counts(c, fields.job) if count.state is ItemState.SCORED]
    return sum(count.n for count in counts if fields.profile in (None, count.profile or own))


def _days(fields: ScoreFilter) -> Any:
    """Return the first day and the day after the last; None: no time was given; (): not whole days."""
    if fields.since is None and fields.until is None:
        return None
    moments = [None if at is None else at.astimezone(UTC) for at in (fields.since, fields.until)]
    if any(at is not None and at.time() != time() for at in moments):
        return ()
    return tuple(None if at is None else at.date() for at in moments)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupStats:
    """The scores of one group."""

    name: str
    n: int
    mean: float | None
    p5: float | None
    p50: float | None
    p95: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreStats:
    """Counts and distribution of the scores that count: right to 0.001, with groups by day or folder to 0.01."""

    n: int
    mean: float | None
    quantiles: Quantiles | None
    histogram: list[HistogramBin]
    bands: dict[Band, int]  #: of scorers with a reference
    groups: list[GroupStats]  #: the largest first, days and bands in order
    computed_at: datetime


def read_stats(
    c: Connection, conditions: ScoreFilter, *, group_by: GroupBy | None = None, step: float = 0.05
) -> ScoreStats:
    """Return the distribution of the results that conditions choose, and of its groups.

    `step`: width of a bar of the histogram, a multiple of 0.001. Raises `InvalidRequest` where the roll-ups do not
    count such results together and there are more than `MAX_ROWS`, `Unavailable` while the roll-ups are being built.
    """
    scorer_ids = None if conditions.model is None else tuple(scorers_of_model(c, conditions.model))
    if group_by is GroupBy.PROFILE:
        conditions = replace(conditions, profile=None)
    counts = _counts(c, conditions, scorer_ids, group_by)
    clipped = clip(counts, conditions.min, conditions.max, conditions.within)
    references = read_references(c, {count.scorer_id for count in counts})
    shares = _shares_of_bands(references)
    by_group: dict[str, list[tuple[int, float]]] = defaultdict(list)
    bands: dict[Band, float] = defaultdict(float)
    for count, n in clipped:
        in_bands = {band: n * part for band, part in shares(count.scorer_id, count.bin).items()}
        for band, part in in_bands.items():
            bands[band] += part
        if group_by is GroupBy.BAND:
            for band, part in in_bands.items():
                by_group[band.value].append((count.bin, part))
        elif group_by is not None:
            by_group[count.scorer_id if group_by is GroupBy.MODEL else count.group].append((count.bin, n))
    whole = Distribution((count.bin, n) for count, n in clipped)
    return ScoreStats(
        n=whole.n,
        mean=whole.mean if whole.mean is None else round(whole.mean, 4),
        quantiles=whole.quantiles(),
        histogram=whole.histogram(step),
        bands={band: round(bands[band]) for band in Band if bands},
        groups=_groups(by_group, group_by),
        computed_at=datetime.now(UTC),
    )


def _counts(
    c: Connection, conditions: ScoreFilter, scorer_ids: tuple[str, ...] | None, group_by: GroupBy | None
) -> list[BinCount]:
    column = {GroupBy.PREFIX: "name", GroupBy.DAY: "name", GroupBy.MODEL: None, GroupBy.BAND: None}.get(
        group_by or GroupBy.MODEL, None if group_by is None else group_by.value
    )
    scope = _scope(c, conditions, scorer_ids)
    if group_by is GroupBy.PREFIX:
        return _folders(c, conditions, scope)
    if not isinstance(scope, str) and group_by is GroupBy.DAY:
        scope = replace(scope, days=scope.days or (None, None))
    if not isinstance(scope, str):
        kinds = {GroupBy.ROUTE: "bucket", GroupBy.STATUS: "bucket", GroupBy.DAY: "day"}
        if group_by in kinds and scope.kind != kinds[group_by]:
            scope = f"no roll-up has groups by {group_by} of a {scope.kind}"
    if not isinstance(scope, str):
        return read_bins(c, scope, column, coarse=group_by is GroupBy.DAY)
    _check_read(_items_of(c, conditions), scope)
    rows, fits = _rows(conditions, scorer_ids)
    names: dict[str | None, Any] = {
        None: literal(""),
        "name": func.to_char(func.timezone("UTC", rows.c.updated_at), "YYYY-MM-DD"),
    }
    group = names[column] if column in names else rows.c[column]
    keys = (group.label("group"), rows.c.scorer_id, score_bin(rows.c.score).label("bin"))
    of_row = select(*keys, fits.label("fits")).select_from(rows).subquery()
    n = func.count().filter(of_row.c.fits).cast(BigInteger)
    counted = c.execute(
        select(of_row.c.group, of_row.c.scorer_id, of_row.c.bin, n, func.count()).group_by(*list(of_row.c)[:3])
    ).all()
    _check_read(sum(row[4] for row in counted), scope)
    return [BinCount(*row[:4]) for row in counted if row[3]]


def _folders(c: Connection, conditions: ScoreFilter, scope: Scope | str) -> list[BinCount]:
    """Return the counts of the folders directly below the prefix."""
    if conditions.bucket is None:
        raise InvalidRequest("groups by prefix need a bucket", hint="name the bucket")
    depth = (conditions.prefix or "").count("/") + 1
    deepest = counted_depth(c, conditions.profile or "", conditions.bucket)
    if isinstance(scope, str) or scope.kind not in ("bucket", "folder") or scope.route or scope.status:
        reason = scope if isinstance(scope, str) else "they do not combine with other filters"
        raise InvalidRequest(f"no groups by prefix: {reason}", hint="ask by bucket and folder alone")
    if depth > deepest:
        raise InvalidRequest(
            f"folders below {conditions.prefix} are not counted: this bucket's are to a depth of {deepest}",
            hint="ask for the folder itself, without groups",
        )
    return read_bins(c, scope, "name", depth=depth, coarse=True)


def _shares_of_bands(references: Mapping[str, Reference]) -> Callable[[str, int], dict[Band, float]]:
    """Return a function that says how a scorer's scores in a bin are spread over the bands."""
    ranges = {
        scorer_id: {band: reference.range_of(band, scorer_id) for band in Band}
        for scorer_id, reference in references.items()
    }

    @cache
    def shares(scorer_id: str, number: int) -> dict[Band, float]:
        of_bands = {
            band: share_of_bin(number, bounds.low, bounds.high) for band, bounds in ranges.get(scorer_id, {}).items()
        }
        return {band: share for band, share in of_bands.items() if share > 0}

    return shares


def _groups(by_group: dict[str, list[tuple[int, float]]], group_by: GroupBy | None) -> list[GroupStats]:
    groups = []
    for name, counts in by_group.items():
        distribution = Distribution(counts)
        low, median, high = (distribution.quantile(share) for share in (0.05, 0.5, 0.95))
        groups.append(
            GroupStats(
                name=name,
                n=distribution.n,
                mean=_rounded(distribution.mean),
                p5=_rounded(low),
                p50=_rounded(median),
                p95=_rounded(high),
            )
        )
    if group_by is GroupBy.DAY:
        return sorted(groups, key=lambda group: group.name)[-MAX_GROUPS:]
    if group_by is GroupBy.BAND:
        return sorted(groups, key=lambda group: list(Band).index(Band(group.name)))
    return sorted(groups, key=lambda group: (-group.n, group.name))[:MAX_GROUPS]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
