"""Shares, counts, quantiles and histograms of results: from the roll-ups, or from few rows."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time
from typing import Any

from sqlalchemy import Connection, and_, any_, func, literal, select, true
from sqlalchemy.sql.elements import ColumnElement

from dpiqa.errors import InvalidRequest
from dpiqa.percentiles import Reference
from dpiqa.storage.counts import Count, read_counts
from dpiqa.storage.distributions import Distribution, HistogramBin, Quantiles, between, clip, rank_of
from dpiqa.storage.references import read_references, scorers_of_model
from dpiqa.storage.result_tables import SCORE_BIN, score_bin
from dpiqa.storage.rollups import (
    BinCounts,
    Scope,
    counted_depth,
    counted_share,
    counts_shared,
    read_bin_counts,
    read_bins,
)
from dpiqa.storage.score_filter import (
    KEY_ORDER,
    ScoreFilter,
    begins_with,
    equalities,
    others,
    score_bounds,
    time_bounds,
)
from dpiqa.storage.tables import items, jobs, results
from dpiqa.types import Band, GroupBy, ItemState

#: Results that are read row by row where the roll-ups do not count them together.
MAX_ROWS = 20_000
#: Share of a job's scored images that its roll-up must count, to stand for all of them, where the job is older than
#: migration 0020: it may have shared images with other jobs that are not counted.
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
    scope = scope_of(c, conditions, scorer_ids) if counted_share(c) == 1 else "the roll-ups are being built"
    if isinstance(scope, str):
        return _threshold_of_rows(c, _few_rows(c, conditions, scorer_ids, scope), share, descending=descending)
    bounds = (conditions.min, conditions.max, conditions.within)
    distribution = Distribution(count for counts in read_bins(c, scope) for count in clip(counts, *bounds))
    if not distribution.counts:
        return None
    rows = rows_of(c, conditions, scorer_ids) if distribution.total <= MAX_ROWS else None
    if rows is not None:
        return _threshold_of_rows(c, rows, share, descending=descending)
    rank = rank_of(share, distribution.total, descending=descending)
    number, n, below = distribution.find(rank)
    whole = scope == Scope(profile=scope.profile, bucket=scope.bucket)
    if whole and bounds == (None, None, None) and n <= MAX_ROWS:
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


@dataclass(frozen=True, slots=True)
class Rows:
    """Results to read row by row: at most `MAX_ROWS`."""

    read: Any  #: subquery of columns of `results`
    fits: ColumnElement[bool]  #: the condition that they must fit


def _threshold_of_rows(c: Connection, rows: Rows, share: float, *, descending: bool) -> float | None:
    score = rows.read.c.score.desc() if descending else rows.read.c.score
    at_share = func.percentile_disc(share).within_group(score).filter(rows.fits)
    value = c.execute(select(at_share).select_from(rows.read)).scalar_one()
    return None if value is None else float(value)


def _few_rows(c: Connection, fields: ScoreFilter, scorer_ids: tuple[str, ...] | None, reason: str) -> Rows:
    """Return the rows to read. Raises `InvalidRequest` with the reason why they are read where they are too many."""
    rows = rows_of(c, fields, scorer_ids)
    if rows is None:
        raise InvalidRequest(
            f"more than {MAX_ROWS:,} results would have to be read one by one: {reason}",
            hint="narrow it, or ask by bucket, folder, day or job alone",
        )
    return rows


def rows_of(c: Connection, fields: ScoreFilter, scorer_ids: tuple[str, ...] | None) -> Rows | None:
    """Return rows that hold all those that are asked for, by the first index that has few enough; None: none has."""
    r = results.c
    same = equalities(r, fields)
    candidates: list[tuple[list[ColumnElement[bool]], Any]] = []  #: conditions, and the order of their index
    if fields.job is not None:
        if _items_of(c, fields) > MAX_ROWS:
            return None
        images = select(items.c.image_id).where(items.c.job_id == fields.job).limit(MAX_ROWS).scalar_subquery()
        candidates.append(([r.image_id == any_(func.array(images))], r.image_id))
    elif fields.bucket is not None and (fields.prefix or fields.profile is None):
        keys = [begins_with(r, fields.prefix)] if fields.prefix else []
        candidates.append(([r.bucket == fields.bucket, *keys], KEY_ORDER))
    if fields.profile is not None and fields.job is None:
        if times := time_bounds(r, fields):
            candidates.append(([*same, *times], r.updated_at))
        candidates.append(([*same, *score_bounds(r, fields)], r.score))
    for conditions, order in candidates or [([], r.image_id)]:
        # In the order of the index: otherwise Postgres may read the whole table, in the hope of finding many early.
        found = select(literal(1)).select_from(results).where(*conditions).order_by(order).limit(MAX_ROWS + 1)
        n_found = select(func.count()).select_from(found.subquery())
        if fields.job is not None or c.execute(n_found).scalar_one() <= MAX_ROWS:
            read = select(results).where(*conditions).order_by(order).limit(MAX_ROWS).subquery("read")
            fits = [*equalities(read.c, fields), *score_bounds(read.c, fields), *time_bounds(read.c, fields)]
            keys = [begins_with(read.c, fields.prefix)] if fields.prefix else []
            return Rows(read, and_(true(), *fits, *keys, *others(read.c, fields, scorer_ids)))
    return None


def scope_of(c: Connection, fields: ScoreFilter, scorer_ids: tuple[str, ...] | None) -> Scope | str:
    """Return the roll-ups that count what the conditions choose, or the reason why none do."""
    days, prefix = _days(fields), fields.prefix or ""
    narrow = [name for name, given in (("prefix", fields.prefix), ("job", fields.job), ("days", days)) if given]
    depth = counted_depth(c, fields.profile, fields.bucket or "") if fields.prefix else 0
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
    if fields.job is not None and not counts_shared(c, fields.job):
        own = sum(count.n for count in read_bins(c, replace(scope, scorer_ids=None)))
        scored = sum(count.n for count in _counts_under(c, fields) if count.state is ItemState.SCORED)
        if own < OWN_SHARE * scored:
            return "other jobs scored images of this job before an upgrade (`dpiqa db rollups --rebuild` counts them)"
    return scope


def _items_of(c: Connection, fields: ScoreFilter) -> int:
    return 0 if fields.job is None else sum(count.n for count in read_counts(c, fields.job))


def _counts_under(c: Connection, fields: ScoreFilter) -> list[Count]:
    """Return the counts of the job's items under the profile."""
    if fields.job is None:
        return []
    own = c.execute(select(jobs.c.profile).where(jobs.c.id == fields.job)).scalar_one_or_none()
    counts = read_counts(c, fields.job)
    return [count for count in counts if fields.profile in (None, count.profile or own)]


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
    if group_by in (GroupBy.STATE, GroupBy.REASON):
        groups = _item_groups(c, conditions, group_by)
        return replace(read_stats(c, conditions, step=step), groups=groups)
    scorer_ids = None if conditions.model is None else tuple(scorers_of_model(c, conditions.model))
    if group_by is GroupBy.PREFIX:  # what lies directly under the prefix is in no group, and counts all the same
        return replace(read_stats(c, conditions, step=step), groups=read_folders(c, conditions))
    if group_by is GroupBy.PROFILE:
        conditions = replace(conditions, profile=None)
    read = _counts(c, conditions, scorer_ids, group_by)
    by_group: dict[str, list[tuple[int, float]]] = defaultdict(list)
    by_scorer: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for part in read:
        by_scorer[part.scorer_id] += part.counts
        if group_by not in (None, GroupBy.BAND, GroupBy.MODEL):
            by_group[part.group] += part.counts
    by_band = _by_band(read_references(c, by_scorer), by_scorer)
    bands = {band: sum(n for _, n in counts) for band, counts in by_band.items()}
    if group_by is GroupBy.MODEL:
        by_group = by_scorer
    elif group_by is GroupBy.BAND:
        by_group = {band.value: counts for band, counts in by_band.items()}
    whole = Distribution(count for counts in by_scorer.values() for count in counts)
    return ScoreStats(
        n=whole.n,
        mean=whole.mean if whole.mean is None else round(whole.mean, 4),
        quantiles=whole.quantiles(),
        histogram=whole.histogram(step),
        bands={band: round(n) for band, n in bands.items()},
        groups=_groups(by_group, group_by),
        computed_at=datetime.now(UTC),
    )


def read_folders(c: Connection, conditions: ScoreFilter) -> list[GroupStats]:
    """Return the scores of the folders directly below the prefix, the largest first. Raises as `read_stats`."""
    scorer_ids = None if conditions.model is None else tuple(scorers_of_model(c, conditions.model))
    of_folder: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for part in _folders(c, conditions, scope_of(c, conditions, scorer_ids)):
        of_folder[part.group] += part.counts
    return _groups(of_folder, GroupBy.PREFIX)


def _counts(
    c: Connection, conditions: ScoreFilter, scorer_ids: tuple[str, ...] | None, group_by: GroupBy | None
) -> list[BinCounts]:
    column = {GroupBy.DAY: "name", GroupBy.MODEL: None, GroupBy.BAND: None}.get(
        group_by or GroupBy.MODEL, None if group_by is None else group_by.value
    )
    scope = scope_of(c, conditions, scorer_ids)
    if not isinstance(scope, str) and group_by is GroupBy.DAY:
        scope = replace(scope, days=scope.days or (None, None))
    if not isinstance(scope, str):
        kinds = {GroupBy.ROUTE: "bucket", GroupBy.STATUS: "bucket", GroupBy.DAY: "day"}
        if group_by in kinds and scope.kind != kinds[group_by]:
            scope = f"no roll-up has groups by {group_by} of a {scope.kind}"
    if not isinstance(scope, str):
        return _within(read_bins(c, scope, column, coarse=group_by is GroupBy.DAY), conditions)
    rows = _few_rows(c, conditions, scorer_ids, scope)
    names: dict[str | None, Any] = {
        None: literal(""),
        "name": func.to_char(func.timezone("UTC", rows.read.c.updated_at), "YYYY-MM-DD"),
    }
    group = names[column] if column in names else rows.read.c[column]
    number = score_bin(rows.read.c.score).label("bin")
    of_row = select(group.label("group"), rows.read.c.scorer_id, number).where(rows.fits).subquery("of_row")
    keys = (of_row.c.group, of_row.c.scorer_id, of_row.c.bin)
    sums = select(*keys, func.count().label("n")).group_by(*keys).subquery("sums")
    return read_bin_counts(c, sums)


def _folders(c: Connection, conditions: ScoreFilter, scope: Scope | str) -> list[BinCounts]:
    """Return the counts of the folders directly below the prefix."""
    if conditions.bucket is None:
        raise InvalidRequest("groups by prefix need a bucket", hint="name the bucket")
    depth = (conditions.prefix or "").count("/") + 1
    deepest = counted_depth(c, conditions.profile, conditions.bucket)
    if isinstance(scope, str) or scope.kind not in ("bucket", "folder") or scope.route or scope.status:
        reason = scope if isinstance(scope, str) else "they do not combine with other filters"
        raise InvalidRequest(f"no groups by prefix: {reason}", hint="ask by bucket and folder alone")
    if depth > deepest:
        raise InvalidRequest(
            f"folders below {conditions.prefix} are not counted: this bucket's are to a depth of {deepest}",
            hint="ask for the folder itself, without groups",
        )
    return _within(read_bins(c, scope, "name", depth=depth, coarse=True), conditions)


def _within(read: list[BinCounts], fields: ScoreFilter) -> list[BinCounts]:
    """Return the counts of the scores that the conditions choose."""
    return [replace(part, counts=clip(part, fields.min, fields.max, fields.within)) for part in read]


def _item_groups(c: Connection, conditions: ScoreFilter, group_by: GroupBy) -> list[GroupStats]:
    """Return the numbers of a job's items under the profile by state, or of those that ended unscored by reason."""
    if conditions.job is None or conditions != ScoreFilter(job=conditions.job, profile=conditions.profile):
        raise InvalidRequest(
            f"groups by {group_by} are of the items of a job", hint="name a job, without other filters"
        )
    numbers: dict[str, int] = defaultdict(int)
    for count in _counts_under(c, conditions):
        name = count.state if group_by is GroupBy.STATE else count.reason
        if name is not None:
            numbers[name.value] += count.n
    groups = [GroupStats(name=name, n=n, mean=None, p5=None, p50=None, p95=None) for name, n in numbers.items() if n]
    return sorted(groups, key=lambda group: (-group.n, group.name))


def _by_band(
    references: Mapping[str, Reference], by_scorer: Mapping[str, Sequence[tuple[int, float]]]
) -> dict[Band, list[tuple[int, float]]]:
    """Return the counts by band, of scorers with a reference."""
    by_band: dict[Band, list[tuple[int, float]]] = {band: [] for band in Band if references}
    for scorer_id, reference in references.items():
        counts = Distribution(by_scorer[scorer_id]).counts
        for band, found in by_band.items():
            bounds = reference.range_of(band, scorer_id)
            found.extend(between(counts, bounds.low, bounds.high))
    return by_band


def _groups(by_group: Mapping[str, list[tuple[int, float]]], group_by: GroupBy | None) -> list[GroupStats]:
    groups = []
    for name, counts in by_group.items():
        distribution = Distribution(counts)
        if not distribution.counts:
            continue
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
