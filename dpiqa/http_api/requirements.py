"""Bodies of requirements. See `schemas` for the rules."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from dpiqa.addresses import BUCKET_PATTERN
from dpiqa.http_api.common import ModelName, Page, RequestBody, ResponseBody, Storable
from dpiqa.requirement import MAX_PAIRS, MIN_PAIRS, NAME_PATTERN, Pair, RequirementRequest
from dpiqa.types import Direction, RequirementState

_DIRECTION = "Which end of the pairs' scores, and so of all scores by this requirement, is better."

RequirementName = Annotated[
    str, Field(pattern=NAME_PATTERN, examples=["portraits"], description="Versions are numbered from 1.")
]
ObjectUrl = Annotated[
    str,
    Field(max_length=1300, pattern=rf"^s3://{BUCKET_PATTERN}/.+$", examples=["s3://photos/isp/1.jpg"]),
    Storable,
]
Score = Annotated[float, Field(ge=0, le=1, description="The score that the image deserves, 0 to 1.")]


class PairIn(RequestBody):
    """One image-score pair."""

    path: ObjectUrl
    score: Score


class NewRequirement(RequestBody):
    """Image-score pairs that tell a PromptIQA model what quality means."""

    name: RequirementName
    model: ModelName
    direction: Direction = Field(Direction.HIGHER, description=_DIRECTION)
    force: bool = Field(False, description="Accept pairs that contradict each other.")  # noqa: FBT003 - a default
    pairs: Annotated[list[PairIn], Field(min_length=MIN_PAIRS, max_length=MAX_PAIRS)]

    def request(self) -> RequirementRequest:
        """Return the request. Raises `InvalidRequest` for scores that lie too close together."""
        request = RequirementRequest(
            name=self.name,
            pairs=tuple(Pair(pair.path, pair.score) for pair in self.pairs),
            direction=self.direction,
            model=self.model,
            force=self.force,
        )
        request.check()
        return request


class CheckOut(ResponseBody):
    """The check of the pairs with one checkpoint."""

    scorer_id: str = Field(description="The checkpoint: name, weights, preprocessing and precision.")
    leave_one_out_srcc: float | None = Field(
        description="Rank correlation of the given scores with those predicted from the other pairs; null: undefined."
    )
    leave_one_out_mae: float = Field(description="Mean absolute difference of the same, 0-1.")
    contradictions: list[str] = Field(description="Reasons why the pairs cannot all be right; accepted by `force`.")
    made_at: datetime


class RequirementOut(ResponseBody):
    """One version of a requirement."""

    id: str = Field(description="`name@version`, as jobs and profiles name it.")
    name: str
    version: int
    state: RequirementState
    direction: Direction = Field(description=_DIRECTION)
    model: str = Field(description="The model that it was, or is to be, checked with.")
    force: bool
    error: str | None = Field(description="The reason of a refusal.")
    created_at: datetime
    finished_at: datetime | None
    n_pairs: int
    checks: list[CheckOut] = Field(description="By checkpoint, the newest first; empty until it is ready.")


class RequirementPage(Page[RequirementOut]):
    """Some requirements."""


class RequirementAccepted(RequirementOut):
    """A requirement as it was submitted."""

    warning: str | None = Field(None, description="Set where it is recorded but will be checked later.")


class PairOut(ResponseBody):
    """One image-score pair."""

    path: str
    score: float
    leave_one_out: float | None = Field(description="The score predicted from the other pairs, in the newest check.")
    sha256: str | None = Field(description="Of the bytes that were read.")


class RequirementDetail(RequirementOut):
    """One version of a requirement, with its pairs."""

    pairs: list[PairOut]
