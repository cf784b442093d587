"""What goes in and out, and nothing else: requests refuse unknown fields, responses list theirs.

Text from outside is bounded and free of what Postgres cannot hold: NUL and halves of surrogate pairs.
"""

from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from dpiqa.storage.pages import MAX_LIMIT
from dpiqa.types import Band, ItemState, JobKind, JobState, Reason, ResultStatus, Route, Stage

MAX_KEYS = 1000  #: keys in one request
MAX_KEY_BYTES = 1024  #: of an object key, by S3
PERCENTILE = (
    "Share (0-100) of the scorer's reference population that is no better; 100 is best on every scale. Null where the "
    "scorer has no reference."
)
BAND = (
    "The score in a word, by shares of that population: worst 10 % bad, next 20 % poor, middle 40 % fair, next 20 % "
    "good, best 10 % excellent."
)


def _fits(text: str) -> str:
    if len(text.encode()) > MAX_KEY_BYTES:
        raise ValueError(f"must have at most {MAX_KEY_BYTES} bytes in UTF-8")
    return text


def _storable(text: str) -> str:
    if "\x00" in text or any("\ud800" <= ch <= "\udfff" for ch in text):
        raise ValueError("must be Unicode text without NUL characters")
    return text


Storable = AfterValidator(_storable)
FitsKey = AfterValidator(_fits)
Bucket = Annotated[str, Field(min_length=1, max_length=255, description="Bucket name.", examples=["photos"]), Storable]
Key = Annotated[
    str, Field(min_length=1, max_length=1024, description="Object key, not URL-encoded."), Storable, FitsKey
]
Prefix = Annotated[
    str, Field(max_length=1024, description="Keys that begin with this; empty: all keys."), Storable, FitsKey
]
Source = Annotated[
    str, Field(max_length=1300, pattern=r"^s3://[^/?#]+(/.*)?$", examples=["s3://photos/2024/"]), Storable
]
ProfileName = Annotated[
    str,
    Field(min_length=1, max_length=128, description="Profile, `default` or with its version `default@1`."),
    Storable,
]
ModelName = Annotated[str, Field(min_length=1, max_length=255), Storable]
RequirementId = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9][a-z0-9._-]{0,62}(@[1-9][0-9]{0,8})?$", description="`name@version`, or `name`: the newest."
    ),
    Storable,
]
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT, description="Rows in one page.")]
Cursor = Annotated[
    str, Field(min_length=1, max_length=8192, description="`next_cursor` of the page before, with the same filter.")
]


class RequestBody(BaseModel):
    """A body from outside."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False)


class JobOut(BaseModel):
    """A job."""

    id: UUID
    kind: JobKind
    state: JobState
    bucket: str
    prefix: str
    profile: str = Field(description="Profile with its version.")
    created_at: datetime
    listed_at: datetime | None = Field(description="When all its objects were known.")
    finished_at: datetime | None
    scored_by_student: int = Field(description="Images the student has scored in this job.")
    escalated: int = Field(description="Of these, how many were sent to the teacher.")
    error: str | None = Field(description="Why its objects could not be listed.")


class JobAccepted(JobOut):
    """A job as it was submitted."""

    warning: str | None = Field(None, description="Set where the job is safe but will start later.")


class JobStatus(JobOut):
    """A job and how far it is."""

    total: int = Field(description="Items known so far; final once the job is listed.")
    done: int = Field(description="Items that have ended, scored or not.")
    counts: dict[ItemState, int] = Field(description="Items by state.")
    open_by_stage: dict[Stage, int] = Field(description="Items that have not ended, by the model they wait for.")
    failures: dict[Reason, int] = Field(description="Items that ended unscored, by reason, most frequent first.")
    rate_per_second: float = Field(description="Items ended per second, over the last minute.")
    eta_seconds: float | None = Field(description="Seconds left at this rate; null when nobody can say.")
    waiting_for: str | None = Field(description="What holds the job up, if anything does.")


class ItemOut(BaseModel):
    """One image in one job."""

    id: int
    bucket: str
    key: str
    etag: str
    state: ItemState
    stage: Stage
    reason: Reason | None
    detail: str | None
    route: Route | None
    errors: int
    crashes: int
    created_at: datetime
    finished_at: datetime | None


class ScoreOut(BaseModel):
    """The score that counts for an image under a profile."""

    bucket: str
    key: str
    etag: str
    current: bool = Field(description="Whether the store, as far as is known, still holds these bytes.")
    score: float = Field(description="On `scale`; MOS/100 unless a requirement was named. Not clamped.")
    scale: str = Field(description="What the score means: its range, and which end is better.")
    percentile: float | None = Field(description=PERCENTILE)
    band: Band | None = Field(description=BAND)
    profile: str
    model: str = Field(description="Scorer whose score this is: name, weights, preprocessing, precision, requirement.")
    stage: Stage
    status: ResultStatus = Field(description="`provisional`: the student's, and the teacher has been asked.")
    route: Route = Field(description="Why the image was, or was not, sent to the teacher.")
    student_score: float | None
    teacher_score: float | None
    job_id: UUID | None
    updated_at: datetime


Row = TypeVar("Row")


class Page(BaseModel, Generic[Row]):
    """Some rows, and where the next ones are."""

    items: list[Row]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null: this is the last.")


class ScorePage(Page[ScoreOut]):
    """Some scores."""

    threshold: float | None = Field(None, description="With `worst` or `best`: the score at that share.")


class StoredScoreOut(BaseModel):
    """One model's number for one version of an image, and where it comes from."""

    score: float = Field(description="On `scale`; MOS/100 unless a requirement was named. Not clamped.")
    scale: str = Field(description="What the score means: its range, and which end is better.")
    percentile: float | None = Field(description=PERCENTILE)
    band: Band | None = Field(description=BAND)
    model: str = Field(
        description="Scorer: name, weights, preprocessing, precision, requirement.", validation_alias="scorer_id"
    )
    etag: str = Field(description="Of the bytes that were scored.")
    version_id: str | None
    current: bool = Field(description="Whether the store, as far as is known, still holds these bytes.")
    last_modified: datetime | None
    scored_at: datetime
    attempt: int = Field(description="How many times a worker had taken the image up, this time included.")
    job_id: UUID
    card: dict[str, Any] = Field(
        description="Model card as it was when this scorer first spoke, with its latest references."
    )


class ImageScores(BaseModel):
    """Every score of one image; the current version first."""

    bucket: str
    key: str
    deleted: bool = Field(description="No version of it is in the store any more.")
    scores: list[StoredScoreOut]
    results: list[ScoreOut] = Field(description="The score that counts, by profile: its stage, status and route.")


class EventsAccepted(BaseModel):
    """What became of a body of events."""

    images: int = Field(description="Objects announced.")
    removals: int = Field(description="Objects announced as gone.")
    queued: int = Field(description="Items that now wait for a worker.")
    unwatched: int = Field(description="Objects announced that no watch owns.")
    ignored: list[str] = Field(description="Why the other records were not used.")
    warning: str | None = Field(None, description="Set where the work is safe but will start later.")


class Problem(BaseModel):
    """Any error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str = Field(description="Stable name of the error.")
    hint: str = Field(description="What to do about it.")
