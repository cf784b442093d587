"""Bodies of requests and responses: requests refuse unknown fields, responses list theirs.

Text from outside is bounded, and free of characters that Postgres cannot store: NUL and halves of surrogate pairs.
"""

from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasGenerator,
    AliasPath,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
)

from dpiqa.addresses import BUCKET_PATTERN
from dpiqa.requirement import NAME_OR_ID_PATTERN
from dpiqa.storage.pages import MAX_LIMIT
from dpiqa.types import ItemState, Reason, Route, Stage

MAX_KEYS = 1000  #: keys in one request
MAX_PROFILES = 16  #: of one job
MAX_KEY_BYTES = 1024  #: of an object key, by S3


def _fits(text: str) -> str:
    if len(text.encode()) > MAX_KEY_BYTES:
        raise ValueError(f"must have at most {MAX_KEY_BYTES} bytes in UTF-8")
    return text


def _storable(text: str) -> str:
    if "\x00" in text or any("\ud800" <= ch <= "\udfff" for ch in text):
        raise ValueError("must be Unicode text without NUL characters")
    return text


def _date_time(value: Any) -> Any:
    # Pydantic reads numbers as seconds or milliseconds since 1970; the described format is RFC 3339 alone.
    if not isinstance(value, str) or value[4:5] != "-":
        raise ValueError("must be a time with its zone, e.g. 2026-05-17T12:00:00Z")
    return value


Time = Annotated[AwareDatetime, BeforeValidator(_date_time)]
Storable = AfterValidator(_storable)
FitsKey = AfterValidator(_fits)
Bucket = Annotated[str, Field(min_length=1, max_length=255, description="Bucket name.", examples=["photos"]), Storable]
#: Where objects are read; what is asked for may also be a folder.
S3Bucket = Annotated[
    str, Field(pattern=f"^{BUCKET_PATTERN}$", max_length=255, description="Bucket name.", examples=["photos"])
]
Key = Annotated[
    str, Field(min_length=1, max_length=1024, description="Object key, not URL-encoded."), Storable, FitsKey
]
Prefix = Annotated[
    str, Field(max_length=1024, description="Keys that begin with this; empty for all keys."), Storable, FitsKey
]
Source = Annotated[
    str, Field(max_length=1300, pattern=f"^s3://{BUCKET_PATTERN}(/.*)?$", examples=["s3://photos/2024/"]), Storable
]
Suffix = Annotated[
    str,
    Field(
        min_length=1, max_length=255, description="Keys that end in this; needs a bucket or a job.", examples=[".png"]
    ),
    Storable,
]
ProfileName = Annotated[
    str,
    Field(min_length=1, max_length=128, description="Profile, `default` or with its version `default@1`."),
    Storable,
]
ModelName = Annotated[str, Field(min_length=1, max_length=255), Storable]
RequirementId = Annotated[
    str,
    Field(pattern=NAME_OR_ID_PATTERN, description="`name@version`, or `name`: the newest."),
    Storable,
]
PROFILE = "Profile; unless given, the first of `job`, and without a job the service's own."
JOB_NAME = "A job is named by its id, by the first 6 or more digits of its id, or by `latest`."
JobName = Annotated[
    str,
    Field(
        pattern=r"^(latest|[0-9a-fA-F-]{6,36})$",
        description=JOB_NAME,
        examples=["0b9b6f3e-8a51-4b7e-9a57-0d1c3a0a5d5f", "0b9b6f3e", "latest"],
    ),
]
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT, description="Rows in one page.")]
Cursor = Annotated[
    str, Field(min_length=1, max_length=8192, description="`next_cursor` of the page before, with the same filter.")
]


class RequestBody(BaseModel):
    """A body from outside."""

    model_config = ConfigDict(extra="forbid")


class ResponseBody(BaseModel):
    """A body that the service makes of the attributes of a library object, and that a client reads by its names."""

    model_config = ConfigDict(from_attributes=True, validate_by_name=True, validate_by_alias=True)


def or_of(part: str) -> AliasGenerator:
    """Read the fields of a body from an object or, where it has no such attribute, from its attribute `part`."""
    return AliasGenerator(validation_alias=lambda name: AliasChoices(name, AliasPath(part, name)))


class ItemOut(ResponseBody):
    """One image in one job, under one profile."""

    id: int
    profile: str
    bucket: str
    key: str
    etag: str
    state: ItemState
    stage: Stage
    reason: Reason | None
    detail: str | None
    route: Route | None
    reused: bool = Field(description="Its scores were known before, so that nothing was computed.")
    errors: int
    crashes: int
    created_at: datetime
    finished_at: datetime | None


T = TypeVar("T")


class Page(ResponseBody, Generic[T]):
    """Some rows, and the cursor of the next ones."""

    items: list[T]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last page.")
    partial: bool = Field(
        default=False,
        description="The page ended early: after 5,000 rows, too few of which fit. `next_cursor` continues there.",
    )


class ItemPage(Page[ItemOut]):
    """Some images of a job."""


class EventsAccepted(BaseModel):
    """The effect of a body of events."""

    images: int = Field(description="Objects announced as created.")
    removals: int = Field(description="Objects announced as deleted.")
    queued: int = Field(description="Items that now wait for a worker.")
    unwatched: int = Field(description="Objects announced that no watch covers.")
    passed_over: int = Field(description="Objects announced as created that are by name no image.")
    n_ignored: int = Field(description="Other records, which were not used.")
    ignored: list[str] = Field(description="Reasons why they were not used: of the first 20.", max_length=20)
    warning: str | None = Field(None, description="Set where the work is recorded but will start later.")


class FieldProblem(BaseModel):
    """A field that does not fit."""

    field: str = Field(description="Where it is, e.g. `body.bucket` or `query.limit`.", examples=["query.limit"])
    problem: str = Field(examples=["must be at most 1000"])


class Problem(BaseModel):
    """Any error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str = Field(description="Stable name of the error.")
    hint: str = Field(description="The next step.")
    errors: list[FieldProblem] | None = Field(None, description="With 422 `invalid_request`: the fields, up to 20.")


class Alive(BaseModel):
    """This process answers."""

    status: str = "ok"


class Check(BaseModel):
    """One part this service needs."""

    part: str
    ok: bool
    detail: str = ""
    hint: str = ""


class Ready(BaseModel):
    """Every part this service needs answers."""

    status: str = "ready"
    checks: list[Check]
