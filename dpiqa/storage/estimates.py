"""Estimates of the work that objects will be, from what recent jobs of the same profile were."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, bindparam, func, literal, select

from dpiqa.profiles import Profile
from dpiqa.storage.columns import NOW, constant
from dpiqa.storage.tables import jobs
from dpiqa.types import JobKind, JobState

RECENT = timedelta(days=30)
_MIN_IMAGES = 20  #: of a job whose rate counts: a smaller one mostly waits
_ACTIVE = jobs.c.active_seconds + func.coalesce(
    func.extract("epoch", jobs.c.finished_at - jobs.c.active_since), literal(0)
)
RECENT_JOBS = (
    select(jobs.c.scored_by_student, jobs.c.escalated, _ACTIVE.label("seconds"))
    .where(jobs.c.state == constant(JobState.COMPLETE), jobs.c.kind != constant(JobKind.WATCH))
    .where(jobs.c.profile == bindparam("under"), jobs.c.scored_by_student >= _MIN_IMAGES)
    .where(jobs.c.finished_at > NOW - literal(RECENT))
    .order_by(jobs.c.finished_at.desc())
    .limit(20)
)


@dataclass(frozen=True, slots=True)
class Estimate:
    """The work that some objects will be."""

    rate: float | None  #: images per second; None: no recent job shows it
    seconds: float | None  #: at this rate
    escalated_share: float  #: of the images, which the teacher scores, too
    n_jobs: int  #: whose rate and share these are; 0: the share is the budget of the profile


def estimate(c: Connection, profile: Profile, n_objects: int) -> Estimate:
    """Estimate the work of objects under a profile, by the rate and the escalated share of its recent jobs."""
    rows = [row for row in c.execute(RECENT_JOBS, {"under": profile.id}) if row.seconds > 0]
    scored, seconds = sum(row.scored_by_student for row in rows), float(sum(row.seconds for row in rows))
    rate = scored / seconds if rows else None
    share = sum(row.escalated for row in rows) / scored if rows else profile.max_escalated_share
    return Estimate(
        rate=rate,
        seconds=n_objects / rate if rate else None,
        escalated_share=share if profile.teacher is not None else 0.0,
        n_jobs=len(rows),
    )
