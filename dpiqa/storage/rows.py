"""What the ledger hands out: frozen rows, free of SQLAlchemy."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from dpiqa.messages import Queue
from dpiqa.types import ImageRef, JobKind, JobState, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What somebody submitted. `listing_attempt` is the fence of whoever lists it."""

    id: UUID
    kind: JobKind
    bucket: str
    prefix: str
    profile: str  #: id, e.g. `default@1`
    state: JobState
    queue: Queue  #: of its student items: live or bulk
    created_at: datetime
    listed_at: datetime | None
    finished_at: datetime | None
    cursor: str | None  #: the last key listed; listing resumes after it
    listing_lease_until: datetime | None
    listing_attempt: int
    idempotency_key: str | None
    request_hash: str | None
    scored_by_student: int  #: of its images
    escalated: int  #: of those
    error: str | None  #: why it failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """An item in a worker's hands until its lease ends. Only who shows the fence may record it."""

    item_id: int
    job_id: UUID
    image_id: int
    stage: Stage
    ref: ImageRef
    fence: int
    profile_id: str
    crashes: int  #: workers that died while they held it
    known_score: float | None  #: by the claiming scorer, for these bytes: nothing to compute
    student_score: float | None  #: under the profile, where the student has spoken


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of a batch of outcomes."""

    n_recorded: int
    n_stale: int  #: refused: somebody else holds or ended the item
    teacher_items: list[int]  #: now wait for the teacher; ring after the commit


def to_job(row: Row[Any]) -> Job:
    """Read a row of `jobs`."""
    fields = {name: row._mapping[name] for name in Job.__dataclass_fields__}
    fields.update(kind=JobKind(row.kind), state=JobState(row.state), queue=Queue(row.queue))
    return Job(**fields)
