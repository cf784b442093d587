"""Claims of items, and the outcomes that a worker may report of them."""

from dataclasses import dataclass
from typing import Any, Self, TypeAlias
from uuid import UUID

from sqlalchemy import Row

from dpiqa.types import ImageRef, Reason, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """An item that a worker holds until its lease ends. Only the holder of the fence may record it."""

    item_id: int
    job_id: UUID
    image_id: int
    stage: Stage
    ref: ImageRef
    fence: int
    profile_id: str
    crashes: int  #: workers that died while they held it
    known_score: float | None  #: by the claiming scorer, for these bytes: nothing to compute
    student_score: float | None  #: under the profile, where the student has scored

    @classmethod
    def from_row(cls, row: Row[Any], stage: Stage, ref: ImageRef) -> Self:
        """Read a row of `claims.CLAIM_ITEMS`."""
        return cls(
            item_id=row.item_id,
            job_id=row.job_id,
            image_id=row.image_id,
            stage=stage,
            ref=ref,
            fence=row.attempt,
            profile_id=row.profile,
            crashes=row.crashes,
            known_score=row.known_score,
            student_score=row.student_score,
        )


@dataclass(frozen=True, slots=True)
class Recorded:
    """The effect of recording a batch of outcomes."""

    n_recorded: int
    n_stale: int  #: refused: another worker holds or ended the item
    teacher_items: list[int]  #: now wait for the teacher; ring after the commit


@dataclass(frozen=True, slots=True)
class Scored:
    """The model returned a score. One that is not finite is recorded as rejected (`non_finite_score`)."""

    claim: Claim
    score: float  #: MOS/100
    etag: str  #: of the bytes that were read; if it is not the claim's, the outcome counts as `Changed`
    version_id: str | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """This image cannot be scored, and trying again will not help."""

    claim: Claim
    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Gone:
    """The store does not have the object."""

    claim: Claim


@dataclass(frozen=True, slots=True)
class Changed:
    """The object was overwritten: `new` enters the same job in place of the claim's image."""

    claim: Claim
    new: ImageRef


@dataclass(frozen=True, slots=True)
class Postponed:
    """Something outside is unavailable (S3 down): tried again after a delay, without limit."""

    claim: Claim
    delay_seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """An unexpected error: tried again after a delay, dead after `max_errors`."""

    claim: Claim
    detail: str
    delay_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Release:
    """Given back untouched, at once (shutdown)."""

    claim: Claim


Outcome: TypeAlias = Scored | Rejected | Gone | Changed | Postponed | Failed | Release
