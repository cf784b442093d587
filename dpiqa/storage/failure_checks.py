"""Auto-pause: a job whose first items fail as if it had been submitted by mistake is paused, once.

Only failures of the objects themselves count: a prefix of documents, a bucket that may not be read, an old manifest
whose objects are gone. Failures of workers and models, and objects that changed, say nothing about the submission.
"""

from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, bindparam, delete, select, update
from sqlalchemy.dialects.postgresql import insert

from dpiqa.errors import InvalidRequest
from dpiqa.storage.columns import constants
from dpiqa.storage.counts import Count, read_counts
from dpiqa.storage.report_tables import failure_checks
from dpiqa.storage.steering import pause_job
from dpiqa.storage.tables import OPEN_JOB_STATES, jobs
from dpiqa.types import ENDED_JOB_STATES, TERMINAL_STATES, JobState, Reason

FIRST_ITEMS = 1000  #: items that decide
#: Reasons that suggest a wrong bucket, prefix or filter.
COUNTED_REASONS = frozenset(
    {
        Reason.NOT_FOUND,
        Reason.OBJECT_DELETED,
        Reason.EMPTY,
        Reason.NOT_AN_IMAGE,
        Reason.UNSUPPORTED_FORMAT,
        Reason.UNSUPPORTED_COLOUR,
        Reason.DECODER_MISSING,
        Reason.UNSUPPORTED_ENCODING,
        Reason.TRUNCATED,
        Reason.CORRUPT,
        Reason.TOO_MANY_BYTES,
        Reason.TOO_MANY_PIXELS,
        Reason.ACCESS_DENIED,
        Reason.ARCHIVED,
    }
)

CHECKS = (
    select(failure_checks.c.job_id, failure_checks.c.share, jobs.c.state)
    .join(jobs, jobs.c.id == failure_checks.c.job_id)
    .where(jobs.c.state.in_(constants((*OPEN_JOB_STATES, *sorted(ENDED_JOB_STATES)))))
    .order_by(failure_checks.c.job_id)
    .with_for_update(of=failure_checks, skip_locked=True)
)
END_CHECK = delete(failure_checks).where(failure_checks.c.job_id == bindparam("of_job"))
SET_PAUSE_REASON = (
    update(jobs)
    .where(jobs.c.id == bindparam("of_job"), jobs.c.state == JobState.PAUSED)
    .values(pause_reason=bindparam("why"))
)


class Verdict(NamedTuple):
    """The result of a look at the counts of a job."""

    decided: bool  #: enough items ended
    pause_reason: str | None  #: None: go on


def add_failure_check(c: Connection, job_id: UUID, share: float) -> None:
    """Let a new job be paused when more than a share (0 to 1) of its first items fails. 1: never."""
    if share < 1:
        c.execute(insert(failure_checks).on_conflict_do_nothing(), {"job_id": job_id, "share": share})


def check_failures(c: Connection) -> list[UUID]:
    """Check the jobs that wait for it; pause those whose first items failed. Returns the ids of the paused ones."""
    paused: list[UUID] = []
    for check in c.execute(CHECKS).all():
        verdict = Verdict(decided=True, pause_reason=None)
        if check.state not in ENDED_JOB_STATES:
            verdict = judge(read_counts(c, check.job_id), check.share)
        if verdict.pause_reason is not None:
            pause_job(c, check.job_id)
            c.execute(SET_PAUSE_REASON, {"of_job": check.job_id, "why": verdict.pause_reason})
            paused.append(check.job_id)
        if verdict.decided:
            c.execute(END_CHECK, {"of_job": check.job_id})
    return paused


def parse_auto_pause(text: str) -> float:
    """Read the share of failures that pauses a job, `50%`, as a number from 0 to 1; `off` is 1: it never does.

    Raises `InvalidRequest`.
    """
    if text.strip().lower() == "off":
        return 1.0
    try:
        share = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise InvalidRequest(f"{text!r} is not a share of failures", hint="write for example 50%, or off")
    return share


def judge(counts: list[Count], share: float) -> Verdict:
    """Decide by the counts of a job. Pure.

    More failures than the share of 1,000 decide at once; otherwise the share of those that ended when 1,000 have.
    """
    n_ended = sum(count.n for count in counts if count.state in TERMINAL_STATES)
    failed = {count.reason: count.n for count in counts if count.reason in COUNTED_REASONS}
    n_failed = sum(failed.values())
    if n_failed <= share * max(FIRST_ITEMS, n_ended):
        return Verdict(decided=n_ended >= FIRST_ITEMS, pause_reason=None)
    most = max(failed, key=lambda reason: failed[reason])
    why = f"{n_failed} of the first {n_ended} images cannot be scored, {failed[most]} of them {most}: a wrong address?"
    return Verdict(decided=True, pause_reason=why)
