"""Claims of items, and what a worker may report about an item that it holds."""

from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

from dpiqa.types import ImageRef, Reason, Stage


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


@dataclass(frozen=True, slots=True)
class Scored:
    """The model has spoken. A score that is not finite is recorded as rejected (`non_finite_score`)."""

    claim: Claim
    score: float  #: MOS/100
    etag: str  #: of the bytes that were read; another than the claim's counts as `Changed`
    version_id: str | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """This image cannot be scored, and trying again will not help."""

    claim: Claim
    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Gone:
    """The store says that the object is not there."""

    claim: Claim


@dataclass(frozen=True, slots=True)
class Changed:
    """The object has other bytes by now: `new` enters the same job in place of the claim's image."""

    claim: Claim
    new: ImageRef


@dataclass(frozen=True, slots=True)
class Postponed:
    """The world's fault (S3 down): again after a delay, without limit."""

    claim: Claim
    delay_seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """Nobody's known fault: again after a delay, dead after `max_errors`."""

    claim: Claim
    detail: str
    delay_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Release:
    """Given back untouched, at once (shutdown)."""

    claim: Claim


Outcome: TypeAlias = Scored | Rejected | Gone | Changed | Postponed | Failed | Release
