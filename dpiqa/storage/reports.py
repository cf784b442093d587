"""How far a job is, and what it waits for."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection

from dpiqa.storage.counts import Count, read_counts, read_rate
from dpiqa.storage.jobs import read_job
from dpiqa.storage.presence import Worker, workers
from dpiqa.storage.rows import Job
from dpiqa.types import TERMINAL_STATES, ItemState, JobState, Reason, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class JobReport:
    """A job and how far it is, counted in the database."""

    job: Job
    by_state: dict[ItemState, int]  #: items; states without items are left out
    open_by_stage: dict[Stage, int]  #: items that have not ended, by the model they wait for
    failures: dict[Reason, int]  #: items that ended unscored, most frequent reason first; `dpiqa.types` has its state
    total: int  #: items known so far; final once the job is listed
    done: int  #: items that have ended, scored or not
    rate: float  #: items ended per second, over the last minute
    eta_seconds: float | None  #: at this rate; None when nobody can say
    waiting_for: str | None  #: what holds the job up, if anything does


def get_job(c: Connection, job_id: UUID | str) -> JobReport:
    """Report on a job. Raises `NotFound`."""
    job = read_job(c, job_id)
    return report(job, read_counts(c, job.id), read_rate(c, job.id), workers(c))


def report(job: Job, counts: Sequence[Count], rate: float, alive: Sequence[Worker]) -> JobReport:
    """Put together what is known. Pure."""
    by_state: Counter[ItemState] = Counter()
    open_by_stage: Counter[Stage] = Counter()
    failures: Counter[Reason] = Counter()
    for count in counts:
        by_state[count.state] += count.n
        if count.state not in TERMINAL_STATES:
            open_by_stage[count.stage] += count.n
        if count.reason is not None:
            failures[count.reason] += count.n
    total, left = by_state.total(), open_by_stage.total()
    known = job.state not in (JobState.LISTING, JobState.WATCHING)
    return JobReport(
        job=job,
        by_state=dict(by_state),
        open_by_stage=dict(open_by_stage),
        failures=dict(failures.most_common()),
        total=total,
        done=total - left,
        rate=rate,
        eta_seconds=_eta(left, rate) if known else None,
        waiting_for=_waiting_for(job, open_by_stage, {worker.stage for worker in alive}),
    )


def _eta(left: int, rate: float) -> float | None:
    if left == 0:
        return 0.0
    return left / rate if rate > 0 else None


def _waiting_for(job: Job, open_by_stage: Counter[Stage], alive: set[Stage]) -> str | None:
    waits = [
        f"a {stage} worker: {n} item{'s' if n > 1 else ''}"
        for stage, n in sorted(open_by_stage.items())
        if n and stage not in alive
    ]
    if job.state is JobState.LISTING and not alive:
        waits.insert(0, "a worker to list its objects")
    return ", ".join(waits) or None
