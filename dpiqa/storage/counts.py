"""Counts of a job's items, kept by triggers (migration 0002) and folded together by the sweeper."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text

from dpiqa.types import ItemState, Reason, Stage

#: Changes younger than this stay apart: the rate is read from them. Seconds.
RATE_WINDOW = 60.0

_READ = text(
    """
    SELECT stage, state, reason, CAST(sum(n) AS bigint) AS n FROM (
        SELECT stage, state, reason, n FROM job_counts WHERE job_id = :id
        UNION ALL SELECT stage, state, reason, n FROM count_changes WHERE job_id = :id) AS changes
    GROUP BY stage, state, reason HAVING sum(n) <> 0 ORDER BY stage, state, reason
    """
)
_TOTALS = text(
    """
    SELECT stage, state, reason, CAST(sum(n) AS bigint) AS n FROM (
        SELECT stage, state, reason, n FROM job_counts
        UNION ALL SELECT stage, state, reason, n FROM count_changes) AS changes
    GROUP BY stage, state, reason HAVING sum(n) <> 0 ORDER BY stage, state, reason
    """
)
_JOBS = text("SELECT state, count(*) AS n FROM jobs GROUP BY state")
_FINISHED = text(
    """
    SELECT CAST(coalesce(sum(n), 0) AS bigint) AS n,
        extract(epoch FROM clock_timestamp() - min(at)) AS age
    FROM count_changes WHERE job_id = :id AND state NOT IN ('queued', 'leased')
    AND at > clock_timestamp() - make_interval(secs => :window)
    """
)
_FOLD = text(
    """
    WITH old AS (
        DELETE FROM count_changes WHERE at < clock_timestamp() - make_interval(secs => :window)
        RETURNING job_id, stage, state, reason, n)
    INSERT INTO job_counts (job_id, stage, state, reason, n)
    SELECT job_id, stage, state, reason, sum(n) FROM old GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
    ON CONFLICT (job_id, stage, state, reason) DO UPDATE SET n = job_counts.n + excluded.n
    """
)


@dataclass(frozen=True, slots=True)
class Count:
    """How many items of a job are alike."""

    stage: Stage
    state: ItemState
    reason: Reason | None
    n: int


def read_counts(c: Connection, job_id: UUID) -> list[Count]:
    """Return the counts of a job, exact at any moment."""
    rows = c.execute(_READ, {"id": job_id})
    return [
        Count(Stage(row.stage), ItemState(row.state), Reason(row.reason) if row.reason else None, row.n) for row in rows
    ]


def read_rate(c: Connection, job_id: UUID) -> float:
    """Return the items ended per second over the last minute, or since the first of them if that is less long ago."""
    row = c.execute(_FINISHED, {"id": job_id, "window": RATE_WINDOW}).one()
    return row.n / max(float(row.age), 1.0) if row.n > 0 else 0.0


def fold_counts(c: Connection, older_than: float = RATE_WINDOW) -> None:
    """Fold changes into `job_counts`. One at a time: the caller holds the feeder's lock."""
    c.execute(_FOLD, {"window": older_than})


def totals(c: Connection) -> dict[tuple[str, str, str], int]:
    """Return the items of all jobs: (stage, state, reason or "") -> number."""
    return {(row.stage, row.state, row.reason): row.n for row in c.execute(_TOTALS)}


def jobs_by_state(c: Connection) -> dict[str, int]:
    """Return how many jobs are in each state."""
    return {row.state: row.n for row in c.execute(_JOBS)}
