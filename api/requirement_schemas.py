"""Requirements as they go in and out. See `schemas` for the rules."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from dpiqa.requirement import MAX_PAIRS, MIN_PAIRS, NAME_PATTERN, Pair, RequirementRequest
from dpiqa.storage.requirement_queries import CheckRow, PairRow, RequirementRow
from dpiqa.types import Direction, RequirementState

from .schemas import ModelName, Storable

#: Fields of the stored requirement that are shown as they are.
_SHARED = ("id", "name", "version", "state", "direction", "model", "force", "error", "created_at", "finished_at")
_SCALE = "How the scores of the pairs, and so all scores by this requirement, are to be read."

Name = Annotated[str, Field(pattern=NAME_PATTERN, examples=["portraits"], description="Versions are numbered from 1.")]
ObjectUrl = Annotated[
    str,
    Field(max_length=1300, pattern=r"^s3://[A-Za-z0-9][A-Za-z0-9._-]{1,254}/.+$", examples=["s3://photos/isp/1.jpg"]),
    Storable,
]
Score = Annotated[float, Field(ge=0, le=1, description="What the image deserves, 0 to 1.")]


class PairIn(BaseModel):
    """One image-score pair."""

    model_config = ConfigDict(extra="forbid")

    path: ObjectUrl
    score: Score


class NewRequirement(BaseModel):
    """Image-score pairs that tell a PromptIQA model what quality means."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    model: ModelName
    direction: Direction = Field(Direction.HIGHER, description=_SCALE)
    force: bool = Field(False, description="Accept pairs that contradict each other.")  # noqa: FBT003 - a default
    pairs: Annotated[list[PairIn], Field(min_length=MIN_PAIRS, max_length=MAX_PAIRS)]

    def request(self) -> RequirementRequest:
        """Return the request. Raises `InvalidRequest` for scores that lie too close together."""
        pairs = tuple(Pair(pair.path, pair.score) for pair in self.pairs)
        wanted = RequirementRequest(
            name=self.name, pairs=pairs, direction=self.direction, model=self.model, force=self.force
        )
        wanted.check()
        return wanted


class CheckOut(BaseModel):
    """What one checkpoint made of the pairs."""

    scorer_id: str = Field(description="The checkpoint: name, weights, preprocessing and precision.")
    leave_one_out_srcc: float | None = Field(
        description="Rank correlation of the given scores with those by the other pairs; null: undefined."
    )
    leave_one_out_mae: float = Field(description="Mean absolute difference of the same, 0-1.")
    contradictions: list[str] = Field(description="Why the pairs cannot all be right; accepted by `force`.")
    made_at: datetime

    @classmethod
    def of(cls, check: CheckRow) -> "CheckOut":
        """Read a stored check."""
        return cls(
            scorer_id=check.scorer_id,
            leave_one_out_srcc=check.stability.srcc,
            leave_one_out_mae=check.stability.mae,
            contradictions=list(check.contradictions),
            made_at=check.made_at,
        )


class RequirementOut(BaseModel):
    """One version of a requirement."""

    id: str = Field(description="`name@version`: what jobs and profiles name.")
    name: str
    version: int
    state: RequirementState
    direction: Direction = Field(description=_SCALE)
    model: str = Field(description="The model that it was, or is to be, checked with.")
    force: bool
    error: str | None = Field(description="Why it was refused.")
    created_at: datetime
    finished_at: datetime | None
    n_pairs: int
    checks: list[CheckOut] = Field(description="By checkpoint, the newest first; empty until it is ready.")

    @classmethod
    def of(cls, row: RequirementRow) -> "RequirementOut":
        """Read a stored requirement."""
        shared = {name: getattr(row.requirement, name) for name in _SHARED}
        return cls(**shared, n_pairs=row.n_pairs, checks=[CheckOut.of(check) for check in row.checks])


class RequirementAccepted(RequirementOut):
    """A requirement as it was submitted."""

    warning: str | None = Field(None, description="Set where it is safe but will be checked later.")


class PairOut(BaseModel):
    """One image-score pair."""

    path: str
    score: float
    leave_one_out: float | None = Field(description="What the other pairs say of it, in the newest check.")
    sha256: str | None = Field(description="Of the bytes that were read.")


class RequirementDetail(RequirementOut):
    """One version of a requirement, with its pairs."""

    pairs: list[PairOut]

    @classmethod
    def with_pairs(cls, row: RequirementRow, pairs: list[PairRow]) -> "RequirementDetail":
        """Read a stored requirement and its pairs."""
        said = row.checks[0].stability.scores if row.checks else [None] * len(pairs)
        shown = [
            PairOut(path=pair.path, score=pair.score, leave_one_out=score, sha256=pair.sha256)
            for pair, score in zip(pairs, said, strict=True)
        ]
        return cls(**RequirementOut.of(row).model_dump(), pairs=shown)
