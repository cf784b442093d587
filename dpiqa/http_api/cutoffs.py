"""Bodies of labels, samples, cut-offs and comparisons. See `common` for the rules."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from dpiqa.http_api.common import Bucket, Key, Page, Prefix, ProfileName, RequestBody, ResponseBody, Storable
from dpiqa.http_api.scores import ScoreOut
from dpiqa.requirement import NAME_PATTERN
from dpiqa.score_comparison import Correlation
from dpiqa.storage.comparisons import ComparedImage
from dpiqa.storage.cutoffs import LabelFigures
from dpiqa.storage.distributions import HistogramBin
from dpiqa.storage.labels import Draw, NewLabel
from dpiqa.types import Direction, Verdict

MAX_LABELS = 1000  #: in one request
BETTER = "Which end of the scores is better."

LabelSet = Annotated[
    str, Field(pattern=NAME_PATTERN, description="Name of a set of labels.", examples=["default"], max_length=63)
]
FiniteScore = Annotated[float, Field(allow_inf_nan=False)]


class DrawIn(RequestBody):
    """The images from which those of the labels were drawn at random: the parameters of `GET /v1/scores/sample`."""

    profile: ProfileName = Field(description="With its version, as the sample says.")
    bucket: Bucket | None = None
    prefix: Prefix | None = None
    job: Annotated[str, Field(max_length=36, description="The full id.")] | None = None
    min: FiniteScore | None = None
    max: FiniteScore | None = None


class LabelIn(RequestBody):
    """A verdict about an image."""

    bucket: Bucket
    key: Key
    etag: Annotated[str, Field(max_length=1024, description="Of the version that was looked at."), Storable] | None = (
        Field(None, description="Null: the current version.")
    )
    verdict: Verdict | None = Field(description="Null removes the label.")


class NewLabels(RequestBody):
    """Labels of images."""

    label_set: LabelSet = "default"
    labels: Annotated[list[LabelIn], Field(min_length=1, max_length=MAX_LABELS)]
    draw: DrawIn | None = Field(None, description="Null: the images were chosen, not drawn at random.")

    def requested(self) -> tuple[list[NewLabel], Draw | None]:
        """Return the labels and the draw."""
        draw = None if self.draw is None else Draw(**self.draw.model_dump() | {"prefix": self.draw.prefix or None})
        return [NewLabel(**label.model_dump()) for label in self.labels], draw


class LabelsSaved(ResponseBody):
    """The effect of a request."""

    label_set: str
    saved: int
    removed: int = Field(description="Labels whose removal was asked for.")


class DrawOut(ResponseBody):
    """The images from which one was drawn at random. Null: not limited by this."""

    profile: str
    bucket: str | None
    prefix: str | None
    job: str | None
    min: float | None
    max: float | None


class LabelOut(ResponseBody):
    """The label of a version of an image."""

    bucket: str
    key: str
    etag: str
    current: bool = Field(description="The store, as far as is known, still holds these bytes.")
    verdict: Verdict
    draw: DrawOut | None = Field(description="What it was drawn from at random; null: it was chosen.")
    labelled_by: str = Field(description="Name of the key, `bootstrap`, `local` or `cli`.")
    labelled_at: datetime


class LabelPage(Page[LabelOut]):
    """Some labels of a set, in the order of their images."""


class SampleOut(ResponseBody):
    """Scores drawn at random."""

    items: list[ScoreOut]
    population: int = Field(description="Scores that they were drawn from.")
    draw: DrawOut = Field(description="Send it with the labels of these images.")


class ThresholdOut(ResponseBody):
    """A cut-off among some scores."""

    profile: str
    direction: Direction = Field(description=BETTER)
    n: int = Field(description="Scores that the parameters choose.")
    cutoff: float
    n_rejected: int = Field(description="Of those, the scores on its worse side; right to 0.001 of the scale.")
    share_rejected: float = Field(description="The same as a share, 0-1.")
    histogram: list[HistogramBin]
    labels: LabelFigures = Field(
        description="Precision and recall of rejection by labels, with 95 % intervals (Wilson); null below 30 labels."
    )


class ComparisonOut(ResponseBody):
    """The second profile against the first, or the teacher against the student, on a random sample of images."""

    profile: str = Field(description="The first profile.")
    first: str = Field(description="The first profile; with `teacher`, the student's model.")
    second: str = Field(description="The second profile; with `teacher`, the teacher's model.")
    first_direction: Direction = Field(description=BETTER)
    second_direction: Direction = Field(description=BETTER)
    population: int = Field(description="Images with a score under the first profile, or of its teacher.")
    n_sampled: int = Field(description="Of those, the images that were drawn at random.")
    n: int = Field(description="Of those, the images with both scores: what is compared.")
    correlation: Correlation | None = Field(description="Spearman's, with a 95 % interval; null: not defined.")
    first_cutoff: float | None
    second_cutoff: float | None
    n_both: int = Field(description="Images that both cut-offs reject.")
    n_first_alone: int
    n_second_alone: int
    n_neither: int
    points: list[tuple[float, float]] = Field(description="Both scores of at most 1,000 images.")
    rose: list[ComparedImage] = Field(description="Images that the second ranks higher, those that moved most first.")
    fell: list[ComparedImage]
    first_alone: list[ComparedImage] = Field(description="Images that the first cut-off alone rejects.")
    second_alone: list[ComparedImage]


class NewProfile(RequestBody):
    """A profile with the models of another one, and a cut-off of its own."""

    name: Annotated[str, Field(pattern=NAME_PATTERN, examples=["portfolio"], description="Versions are numbered.")]
    base: ProfileName = Field(description="The profile whose models it takes.")
    cutoff: FiniteScore = Field(description="On the student's scale.")
    margin: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.05, description="Scores within it of the cut-off are borderline: a teacher, if there is one, is asked."
    )
    description: Annotated[str, Field(max_length=500), Storable] = ""


class SavedProfile(ResponseBody):
    """A profile as it is stored. Jobs name it by its id."""

    id: str
    definition: dict[str, Any]
