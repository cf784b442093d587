"""Bodies of explanations: which regions of an image move its score."""

from datetime import datetime
from typing import Self

from pydantic import Field

from dpiqa.http_api.common import Bucket, Key, ProfileName, RequestBody, ResponseBody
from dpiqa.storage.explanations import Explanation
from dpiqa.types import ExplanationState

STUDENT_OF = "The profile whose student is explained; unless given, the service's own."
_CELLS = 8  #: of a row, and rows


class NewExplanation(RequestBody):
    """An image, and the profile whose student is to be explained."""

    bucket: Bucket
    key: Key
    profile: ProfileName | None = Field(None, description=STUDENT_OF)


class ExplanationOut(ResponseBody):
    """The effect of the regions of an image on its score by the student."""

    bucket: str
    key: str
    profile: str
    state: ExplanationState
    scorer_id: str | None = Field(description="The student; null until it is ready.")
    score: float | None = Field(description="Of the whole image by the student; null until it is ready.")
    effect: list[list[float]] | None = Field(
        description="Effects of 8 x 8 cells on the score, rows from the top: below 0 where a cell pulls the score "
        "down. Null until it is ready."
    )
    error: str | None = Field(description="The reason why it cannot be made.")
    created_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, explanation: Explanation, bucket: str, key: str) -> Self:
        """Return the body of an explanation of an object."""
        names = ("profile", "state", "scorer_id", "score", "error", "created_at", "finished_at")
        cells = explanation.effect
        rows = None if cells is None else [cells[at : at + _CELLS] for at in range(0, len(cells), _CELLS)]
        return cls(bucket=bucket, key=key, effect=rows, **{name: getattr(explanation, name) for name in names})


class ExplanationAccepted(ExplanationOut):
    """An explanation that was asked for."""

    warning: str | None = Field(description="Set where the broker could not be told; a worker finds it all the same.")
