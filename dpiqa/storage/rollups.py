"""Roll-ups of results: how many current ones lie in each bin of the score, by bucket, folder, day and job.

Triggers on `results` append changes (migration 0013), the sweeper folds them into counts, and readers add both: exact
at any moment, to the width of a bin. Folders are counted to a depth of 3, and to a smaller one in a bucket that has
more than `MAX_FOLDERS` of one depth: the counts stay few in an archive with a folder for each user or photograph.
"""

from dataclasses import dataclass, replace
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Connection,
    Engine,
    Select,
    TextClause,
    bindparam,
    func,
    literal,
    select,
    text,
    true,
    union_all,
    update,
)

from dpiqa.errors import Unavailable
from dpiqa.storage.engine import Lock, transaction, try_lock
from dpiqa.storage.result_tables import (
    result_changes,
    result_counts,
    result_depths,
    result_groups,
    result_rollup,
    shared_result_changes,
)
from dpiqa.storage.tables import jobs, results

FOLDER_DEPTH = 3  #: as in migration 0013
MAX_FOLDERS = 2_000  #: of one depth, profile and bucket
BATCH = 10_000  #: results that are counted in one transaction after an upgrade
COMPLETE = 2**63 - 1  #: value of `counted_upto` once all results are counted

# Adds changes to the groups that they belong to; returns the number of new groups. Raw: one statement, so that no
# change is taken and not counted; a group's id is a hash of what it is, so that none has to be looked up.
_ADD = """
WITH taken AS ({taken}),
facts AS (
    SELECT t.profile, g.bucket, g.kind, g.name, g.depth, t.scorer_id, g.route, g.status, t.bin, sum(t.n) AS n
    FROM taken t LEFT JOIN result_depths d ON d.profile = t.profile AND d.bucket = t.bucket
    CROSS JOIN LATERAL (VALUES {groups}) AS g (bucket, kind, name, depth, route, status)
    WHERE g.name IS NOT NULL AND g.depth <= coalesce(d.depth, {depth})
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9 HAVING sum(t.n) <> 0),
keyed AS (
    SELECT CAST(CAST('x' || substr(md5(concat_ws(chr(1), profile, bucket, kind, name, scorer_id, route, status)), 1, 16)
        AS bit(64)) AS bigint) AS id, facts.* FROM facts),
added AS (
    INSERT INTO result_groups (id, profile, bucket, kind, name, depth, scorer_id, route, status)
    SELECT DISTINCT ON (id) id, profile, bucket, kind, name, depth, scorer_id, route, status FROM keyed ORDER BY id
    ON CONFLICT DO NOTHING RETURNING id),
counted AS (
    INSERT INTO result_counts (group_id, bin, n) SELECT id, bin, n FROM keyed ORDER BY id, bin
    ON CONFLICT (group_id, bin) DO UPDATE SET n = result_counts.n + excluded.n)
SELECT count(*) FROM added
"""
_GROUP_OF_JOB = "(t.bucket, 'job', CAST(t.job_id AS text), 0, '', '')"
_GROUPS = f"""{_GROUP_OF_JOB},
        (t.bucket, 'bucket', '', 0, t.route, t.status),
        (t.bucket, 'day', CAST(t.day AS text), 0, '', ''),
        ('', 'day', CAST(t.day AS text), 0, '', ''),
        (t.bucket, 'folder', substring(t.folder from '^[^/]*/'), 1, '', ''),
        (t.bucket, 'folder', substring(t.folder from '^[^/]*/[^/]*/'), 2, '', ''),
        (t.bucket, 'folder', substring(t.folder from '^[^/]*/[^/]*/[^/]*/'), 3, '', '')"""


def _add(taken: str, groups: str) -> TextClause:
    score_bin = "CAST(least(greatest(floor(score * 1000), -1000), 2000) AS smallint)"
    return text(_ADD.format(taken=taken.format(bin=score_bin), groups=groups, depth=FOLDER_DEPTH))


FOLD_CHANGES = _add("DELETE FROM result_changes RETURNING *", _GROUPS)
FOLD_SHARED = _add("DELETE FROM shared_result_changes RETURNING *", _GROUP_OF_JOB)
# The results of images after one id up to another, as changes.
COUNT_RESULTS = _add(
    """SELECT profile, bucket, substring(key from '^(?:[^/]*/){{1,3}}') AS folder, scorer_id, route, status,
        CAST(updated_at AT TIME ZONE 'UTC' AS date) AS day, job_id, {bin} AS bin, count(*) AS n
    FROM results WHERE image_id > :after AND image_id <= :upto AND current GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9""",
    _GROUPS,
)
# Those of them that other jobs have scored items of.
COUNT_SHARED = _add(
    """SELECT r.profile, r.bucket, r.scorer_id, i.job_id, {bin} AS bin, count(*) AS n
    FROM items i JOIN jobs j ON j.id = i.job_id
    JOIN results r ON r.image_id = i.image_id AND r.profile = coalesce(nullif(i.profile, ''), j.profile)
    WHERE i.image_id > :after AND i.image_id <= :upto AND i.finished_at IS NOT NULL AND i.state = 'scored'
    AND r.current AND r.job_id <> i.job_id GROUP BY 1, 2, 3, 4, 5""",
    _GROUP_OF_JOB,
)
# Raw: the deeper folders of a bucket with too many are no longer counted, and their counts go.
LIMIT_DEPTHS = text(
    """
    INSERT INTO result_depths (profile, bucket, depth)
    SELECT profile, bucket, min(depth) - 1 FROM (
        SELECT profile, bucket, depth FROM result_groups WHERE kind = 'folder'
        GROUP BY 1, 2, 3 HAVING count(DISTINCT name) > :most) AS full_depths
    GROUP BY 1, 2
    ON CONFLICT (profile, bucket) DO UPDATE SET depth = least(result_depths.depth, excluded.depth)
    RETURNING profile
    """
)
DROP_DEEP_GROUPS = text(
    """
    WITH deep AS (
        DELETE FROM result_groups g USING result_depths d
        WHERE d.profile = g.profile AND d.bucket = g.bucket AND g.kind = 'folder' AND g.depth > d.depth RETURNING g.id)
    DELETE FROM result_counts c USING deep WHERE c.group_id = deep.id
    """
)
COUNTED_UPTO = select(result_rollup.c.counted_upto)
SET_COUNTED = update(result_rollup).values(counted_upto=bindparam("upto", type_=BigInteger))
_NEXT = select(results.c.image_id).where(results.c.image_id > bindparam("after", type_=BigInteger))
BATCH_END = _NEXT.order_by(results.c.image_id).offset(bindparam("n")).limit(1)
LAST_IMAGE = select(func.max(results.c.image_id))
LOCK_COUNTING = select(func.pg_advisory_xact_lock(int(Lock.ROLLUP), 0))


def fold_results(c: Connection) -> None:
    """Fold the changes of results into the counts, unless another process sweeps."""
    if not try_lock(c, Lock.FEEDER):
        return
    c.execute(FOLD_SHARED)
    if c.execute(FOLD_CHANGES).scalar_one() and c.execute(LIMIT_DEPTHS, {"most": MAX_FOLDERS}).all():
        c.execute(DROP_DEEP_GROUPS)


def counted_share(c: Connection) -> float:
    """Return the share (0-1) of the results that the roll-ups count; below 1 for a while after an upgrade."""
    upto = c.execute(COUNTED_UPTO).scalar_one()
    if upto == COMPLETE:
        return 1.0
    last = c.execute(LAST_IMAGE).scalar_one()
    return min(0.999, upto / last) if last else 1.0


def counts_shared(c: Connection, job: UUID) -> bool:
    """Return whether the roll-up of a job counts results that other jobs recorded."""
    shared_from = result_rollup.c.shared_from
    since = select(shared_from.is_(None) | (jobs.c.created_at >= shared_from)).select_from(result_rollup)
    return bool(c.execute(since.join(jobs, jobs.c.id == job)).scalar_one_or_none())


def check_counted(c: Connection) -> None:
    """Raise `Unavailable` while results of before an upgrade are still being counted."""
    share = counted_share(c)
    if share < 1:
        raise Unavailable(
            f"the roll-ups of results are being built ({share:.0%})",
            hint="a worker builds them within minutes; `dpiqa db rollups` does at once",
        )


def count_results(engine: Engine, batch: int = BATCH) -> bool:
    """Count the next batch of results that are not counted yet; return whether any are left.

    Resumable: each batch is a transaction. Transactions that write results wait for it, some tenths of a second.
    """
    with transaction(engine) as c:
        if c.execute(COUNTED_UPTO).scalar_one() == COMPLETE:
            return False
        if not try_lock(c, Lock.FEEDER):
            return True  # another process sweeps
        c.execute(LOCK_COUNTING)
        after = c.execute(COUNTED_UPTO).scalar_one()
        if after == COMPLETE:
            return False
        upto = c.execute(BATCH_END, {"after": after, "n": batch}).scalar_one_or_none() or COMPLETE
        n_new = c.execute(COUNT_RESULTS, {"after": after, "upto": upto}).scalar_one()
        c.execute(COUNT_SHARED, {"after": after, "upto": upto})
        if n_new and c.execute(LIMIT_DEPTHS, {"most": MAX_FOLDERS}).all():
            c.execute(DROP_DEEP_GROUPS)
        c.execute(SET_COUNTED, {"upto": upto})
        return bool(upto != COMPLETE)


def reset_rollups(engine: Engine) -> None:
    """Forget all counts; `count_results` makes them again. Waits for transactions that write results or items."""
    with transaction(engine) as c:
        c.execute(text("LOCK TABLE results, items IN SHARE MODE"))
        c.execute(text("TRUNCATE result_changes, shared_result_changes, result_groups, result_counts, result_depths"))
        c.execute(update(result_rollup).values(counted_upto=0, shared_from=None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Results that the roll-ups count together."""

    profile: str | None  #: None: of all profiles
    bucket: str | None = None
    folder: str | None = None  #: with its last slash, of a depth that is counted; needs a bucket
    job: str | None = None  #: results of the images that this job scored
    days: tuple[date | None, date | None] | None = None  #: first day, and the day after the last one (UTC)
    scorer_ids: tuple[str, ...] | None = None
    route: str | None = None
    status: str | None = None

    @property
    def kind(self) -> str:
        """The kind of groups that count it."""
        if self.folder is not None:
            return "folder"
        return "job" if self.job is not None else "day" if self.days is not None else "bucket"


@dataclass(frozen=True, slots=True)
class BinCounts:
    """Results of one scorer in one group."""

    group: str  #: by what the reader asked for
    scorer_id: str
    counts: list[tuple[int, float]]  #: bin and number of results

    @property
    def n(self) -> float:
        """The number of results."""
        return sum(n for _, n in self.counts)


def read_bins(
    c: Connection, scope: Scope, group_by: str | None = None, *, depth: int = 0, coarse: bool = False
) -> list[BinCounts]:
    """Return the counts of a scope by scorer, and by a column: profile, bucket, name, route, status.

    `depth`: of the folders that are counted by name, below the scope's folder. `coarse`: ten bins count as the middle
    one, for many groups.
    """
    check_counted(c)
    g, d = result_groups.c, result_changes.c
    counted, changed, name_of_change = _conditions(scope, group_by, depth)
    names = {"name": (g.name, name_of_change)}
    by = (literal(""), literal("")) if group_by is None else names.get(group_by) or (g[group_by], d[group_by])
    counts = result_counts.c
    number, n = (_middle(counts.bin), func.sum(counts.n)) if coarse else (counts.bin, counts.n)
    of_group = select(number.label("bin"), n.label("n")).where(counts.group_id == g.id)
    of_group = of_group.group_by(number) if coarse else of_group
    in_bin = of_group.lateral("in_bin")
    parts = union_all(
        select(by[0].label("group"), g.scorer_id, in_bin.c.bin, in_bin.c.n)
        .join_from(result_groups, in_bin, true())
        .where(*counted),
        select(by[1].label("group"), d.scorer_id, _middle(d.bin) if coarse else d.bin, d.n).where(*changed),
        *([_shared(scope, group_by)] if scope.kind == "job" else []),
    ).subquery("parts")
    sums = select(parts.c.group, parts.c.scorer_id, parts.c.bin, func.sum(parts.c.n).cast(BigInteger).label("n"))
    sums = sums.group_by(parts.c.group, parts.c.scorer_id, parts.c.bin)
    return read_bin_counts(c, sums.subquery("sums"))


def occupied_bins(c: Connection, scope: Scope) -> dict[str, list[int]] | None:
    """Return the bins that hold results of a scope, by scorer, unordered; None while the roll-ups are being built.

    Some of them may be empty since the last sweep.
    """
    if counted_share(c) < 1:
        return None
    counted, changed, _ = _conditions(scope)
    of_groups = (result_counts.c.group_id == result_groups.c.id) & (result_counts.c.n > 0)
    parts = union_all(
        select(result_groups.c.scorer_id, result_counts.c.bin).join_from(result_groups, result_counts, of_groups)
        .where(*counted),
        select(result_changes.c.scorer_id, result_changes.c.bin).where(*changed, result_changes.c.n > 0),
    ).subquery("parts")  # fmt: skip
    bins = func.array_agg(parts.c.bin.distinct())
    return {row[0]: row[1] for row in c.execute(select(parts.c.scorer_id, bins).group_by(parts.c.scorer_id))}


def _shared(scope: Scope, group_by: str | None) -> Select[Any]:
    """Return the query for the changes of a job's results that other jobs recorded, in the columns of `read_bins`."""
    d = shared_result_changes.c
    by = literal("") if group_by is None else d[group_by]
    of_job = replace(scope, route=None, status=None)  # roll-ups of jobs do not have them
    return select(by.label("group"), d.scorer_id, d.bin, d.n).where(*_same(of_job, d), d.job_id == scope.job)


def _conditions(scope: Scope, group_by: str | None = None, depth: int = 0) -> tuple[list[Any], list[Any], Any]:
    """Build the conditions on groups and on changes, and the name of the group that a change belongs to."""
    g, d = result_groups.c, result_changes.c
    counted = [g.kind == literal(scope.kind if not depth else "folder"), *_same(scope, g)]
    changed = [*_same(scope, d)]
    below = depth > 0
    name_of_change: Any = literal("")
    if scope.kind == "folder" or below:
        prefix = scope.folder or ""
        level = depth or prefix.count("/")
        counted += [g.depth == level, g.name.startswith(prefix, autoescape=True) if below else g.name == prefix]
        changed.append(d.folder.startswith(prefix, autoescape=True))
        name_of_change = func.substring(d.folder, "^" + "[^/]*/" * level)
        changed.append(name_of_change.is_not(None))
    elif scope.kind == "job":
        counted.append(g.name == str(scope.job))
        changed.append(d.job_id == scope.job)
    elif scope.kind == "day":
        first, end = scope.days or (None, None)
        name_of_change = func.to_char(d.day, "YYYY-MM-DD")
        # Days of all buckets together are counted under no bucket: a fraction of the counts of each.
        if scope.bucket is None:
            counted.append(g.bucket != "" if group_by == "bucket" else g.bucket == "")
        counted += [*([] if first is None else [g.name >= first.isoformat()])]
        counted += [*([] if end is None else [g.name < end.isoformat()])]
        changed += [*([] if first is None else [d.day >= first]), *([] if end is None else [d.day < end])]
    return counted, changed, name_of_change


def read_bin_counts(c: Connection, sums: Any) -> list[BinCounts]:
    """Read a subquery of group, scorer_id, bin and n: a row for each group and scorer, because rows cost more time."""
    numbers, ns = func.array_agg(sums.c.bin), func.array_agg(sums.c.n)
    query = select(sums.c.group, sums.c.scorer_id, numbers, ns).where(sums.c.n > 0)
    rows = c.execute(query.group_by(sums.c.group, sums.c.scorer_id))
    return [BinCounts(group, scorer, list(zip(bins, found, strict=True))) for group, scorer, bins, found in rows]


def _middle(number: Any) -> Any:
    """Return the middle one of the ten bins that a bin lies in."""
    return number - func.mod(number + 1000, 10) + 5


def _same(scope: Scope, columns: Any) -> list[Any]:
    """Build the conditions on the columns that groups and changes share."""
    values = {"profile": scope.profile, "bucket": scope.bucket, "route": scope.route, "status": scope.status}
    conditions = [columns[name] == value for name, value in values.items() if value is not None]
    if scope.scorer_ids is not None:
        conditions.append(columns.scorer_id.in_(scope.scorer_ids))
    return conditions


def counted_depth(c: Connection, profile: str | None, bucket: str) -> int:
    """Return to which depth the folders of a bucket are counted; without a profile, those of every profile."""
    of_bucket = select(func.min(result_depths.c.depth)).where(result_depths.c.bucket == bucket)
    if profile is not None:
        of_bucket = of_bucket.where(result_depths.c.profile == profile)
    depth = c.execute(of_bucket).scalar_one()
    return FOLDER_DEPTH if depth is None else int(depth)
