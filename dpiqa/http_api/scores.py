"""Bodies of scores."""

import math
from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BeforeValidator, Field

from dpiqa.http_api.common import Page, ResponseBody
from dpiqa.types import Band, ItemState, Reason, ResultStatus, Route, Stage

PERCENTILE = (
    "Share (0-100) of the scorer's reference population that is no better; 100 is best on every scale. Null where the "
    "scorer has no reference."
)
BAND = (
    "A word for the score, by shares of that population: worst 10 % bad, next 20 % poor, middle 40 % fair, next 20 % "
    "good, best 10 % excellent."
)
#: NaN, a measure that a picture is too small for, is null.
Measure = Annotated[
    float | None, BeforeValidator(lambda value: None if isinstance(value, float) and math.isnan(value) else value)
]
SCALE = "The meaning of the score: its range, and which end is better."


class MeasuresOut(ResponseBody):
    """Simple measures of a picture that say why its score may be low (`docs/measures.md`). No model uses them.

    A measure that the picture is too small for is null.
    """

    width: int = Field(description="Of the decoded picture, in pixels.")
    height: int = Field(description="Of the decoded picture, in pixels.")
    sharpness: Measure = Field(description="0 (blurred or flat) to 1.")
    contrast: Measure = Field(description="0 to 1: between the darkest and the brightest parts.")
    clipped_dark: Measure = Field(description="Share of the pixels that are black, 0 to 1.")
    clipped_bright: Measure = Field(description="Share of the pixels that are white, 0 to 1.")
    noise: Measure = Field(description="Grain, in luma steps of 255.")
    blockiness: Measure = Field(description="0 or more: steps on JPEG's grid of 8 pixels.")
    colour_cast: Measure = Field(description="0 to about 0.6: distance of the mean colour from grey.")


class ScoreOut(ResponseBody):
    """The score that counts for an image under a profile."""

    bucket: str
    key: str
    etag: str
    current: bool = Field(description="The store, as far as is known, still holds these bytes.")
    score: float = Field(description="On `scale`; MOS/100 unless a requirement was named. Not clamped.")
    scale: str = Field(description=SCALE)
    percentile: float | None = Field(description=PERCENTILE)
    band: Band | None = Field(description=BAND)
    profile: str
    model: str = Field(description="Scorer of this score: name, weights, preprocessing, precision, requirement.")
    stage: Stage
    status: ResultStatus = Field(description="`provisional`: the student's, and the teacher has been asked.")
    route: Route = Field(description="The reason why the image was, or was not, sent to the teacher.")
    student_score: float | None
    teacher_score: float | None
    job_id: UUID | None
    updated_at: datetime
    measures: MeasuresOut | None = Field(
        None, description="Measures of the picture; null unless a job of the image asked for `details`."
    )


class ScorePage(Page[ScoreOut]):
    """Some scores."""

    threshold: float | None = Field(None, description="With `worst` or `best`: the score at that share.")


class StoredScoreOut(ResponseBody):
    """The score of one model for one version of an image, with its origin."""

    score: float = Field(description="On `scale`; MOS/100 unless a requirement was named. Not clamped.")
    scale: str = Field(description=SCALE)
    percentile: float | None = Field(description=PERCENTILE)
    band: Band | None = Field(description=BAND)
    model: str = Field(
        description="Scorer: name, weights, preprocessing, precision, requirement. `GET /v1/models/{model}`: its card.",
        validation_alias="scorer_id",
    )
    etag: str = Field(description="Of the bytes that were scored.")
    version_id: str | None
    content_hash: str | None = Field(description="SHA-256 of those bytes, in hex; null where it was not computed.")
    copied_from: str | None = Field(
        description="The object of the same bytes that the score was computed for; null: this one."
    )
    current: bool = Field(description="The store, as far as is known, still holds these bytes.")
    last_modified: datetime | None
    scored_at: datetime
    attempt: int = Field(description="Fence of its claim: each claim of the item, and each reopening, adds 1.")
    job_id: UUID


class LookupItemOut(ResponseBody):
    """An image in one job, under one of its profiles."""

    job_id: UUID
    profile: str
    etag: str
    state: ItemState
    stage: Stage
    reason: Reason | None = Field(description="The reason why it was not scored, where it ended so.")
    detail: str | None = Field(description="The last error in words.")
    created_at: datetime
    finished_at: datetime | None


class ImageScores(ResponseBody):
    """Every score of one image, the current version first, and how it ended in each job."""

    bucket: str
    key: str
    deleted: bool = Field(description="No version of it is in the store any more.")
    scores: list[StoredScoreOut]
    results: list[ScoreOut] = Field(description="The score that counts, by profile: its stage, status and route.")
    items: list[LookupItemOut] = Field(description="Its newest 20 items: state and, where it was not scored, why.")
