"""Bodies of requests and responses about jobs: their state, progress and steering. Those of a submission: `schemas`."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import ConfigDict, Field

from dpiqa.http_api.common import Page, RequestBody, ResponseBody, or_of
from dpiqa.sources.spec import SourceSpec, Tally
from dpiqa.storage.steering import RETRYABLE
from dpiqa.storage.tables import MAX_PRIORITY
from dpiqa.types import CallbackState, ItemState, JobKind, JobState, Reason, ReportState, Stage

RetryState = Literal["rejected", "dead", "cancelled"]  # those of `RETRYABLE`


class JobOut(ResponseBody):
    """A job."""

    id: UUID
    kind: JobKind
    state: JobState
    bucket: str = Field(description="Empty where a manifest or an inventory names the buckets; or `file:///folder`.")
    prefix: str
    profile: str = Field(description="Profile with its version; the first of `profiles`.")
    profiles: list[str] = Field(description="Profiles that score each image.")
    priority: int = Field(description="-10 to 10; each step up doubles its share of the workers.")
    created_at: datetime
    listed_at: datetime | None = Field(description="Time from which all its objects were known.")
    finished_at: datetime | None
    pruned_at: datetime | None = Field(description="When its old items were removed; its counts stay. Null: never.")
    scored_by_student: int = Field(description="Images the student has scored in this job.")
    escalated: int = Field(description="Of these, how many were sent to the teacher.")
    error: str | None = Field(description="The reason why its objects could not be listed.")
    pause_reason: str | None = Field(description="Why it was paused by itself: too many of its first images failed.")
    source: SourceSpec = Field(description="Its address where that is a manifest or an inventory, and its filters.")
    details: bool = Field(default=False, description="Its pictures are measured (`docs/measures.md`).")
    tally: Tally = Field(description="Objects taken and passed over, and malformed rows, as far as it is listed.")


class JobPage(Page[JobOut]):
    """Some jobs."""


class JobAccepted(JobOut):
    """A job as it was submitted."""

    warning: str | None = Field(None, description="Set where the job is recorded but will start later.")


class ReportOut(ResponseBody):
    """A report that a worker writes to S3 when the job has ended."""

    output: str = Field(description="s3:// address of the object.")
    failures: bool = Field(description="It holds only the images that ended unscored.")
    state: ReportState
    n_rows: int | None = Field(description="Rows of the object, once it is written.")
    error: str | None = Field(description="Why it cannot be written.")
    finished_at: datetime | None


class CallbackOut(ResponseBody):
    """A URL that is told when the job has ended (`docs/callbacks.md`)."""

    url: str = Field(description="Without its query.")
    state: CallbackState
    attempts: int = Field(description="How often it was tried.")
    status: int | None = Field(description="HTTP status of the last attempt; null: there was no answer.")
    error: str | None = Field(description="Why the last attempt failed.")
    next_attempt_at: datetime | None
    finished_at: datetime | None = Field(description="When it was delivered or given up.")


class JobStatus(JobOut):
    """A job and its progress."""

    model_config = ConfigDict(alias_generator=or_of("job"))

    total: int = Field(description="Items known so far; final once the job is listed.")
    done: int = Field(description="Items that have ended, scored or not.")
    counts: dict[ItemState, int] = Field(description="Items by state.", validation_alias="by_state")
    open_by_stage: dict[Stage, int] = Field(description="Items that have not ended, by the model they wait for.")
    counts_by_profile: dict[str, dict[ItemState, int]] = Field(
        description="Items by profile and state: each image is an item for each profile.", validation_alias="by_profile"
    )
    reused: int = Field(description="Scored items whose score was known before, so that nothing was computed.")
    failures: dict[Reason, int] = Field(description="Items that ended unscored, by reason, most frequent first.")
    examples: dict[Reason, list[str]] = Field(description="Some of their keys, by reason; a rare reason may have none.")
    rate_per_second: float = Field(description="Items ended per second, over the last minute.", validation_alias="rate")
    eta_seconds: float | None = Field(description="Seconds left at this rate; null: unknown.")
    duration_seconds: float | None = Field(description="Seconds it was, or has been, worked on, without pauses.")
    mean_rate_per_second: float | None = Field(
        description="Items ended per second of `duration_seconds`, without cancelled ones.",
        validation_alias="mean_rate",
    )
    waiting_for: str | None = Field(
        description="Missing workers that hold up the job or its cancelling; or the end of a pause."
    )
    report: ReportOut | None = Field(
        description="The report that was asked for with the job.", validation_alias="written"
    )
    callback: CallbackOut | None = Field(description="The callback that was asked for with the job.")


class JobRetried(JobStatus):
    """A job whose items were opened again."""

    retried: int = Field(0, description="Items that are, or within seconds will be, open again.")


class JobChange(RequestBody):
    """A change of a job."""

    priority: int = Field(
        ge=-MAX_PRIORITY, le=MAX_PRIORITY, description="0 is normal; each step up doubles its share of the workers."
    )


class RetryRequest(RequestBody):
    """A choice of the items to open again; by default, all that are rejected, dead or cancelled."""

    states: Annotated[list[RetryState], Field(max_length=len(RETRYABLE))] = Field([], description="Only these states.")
    reasons: Annotated[list[Reason], Field(max_length=len(Reason))] = Field(
        [], description="Only these reasons.", examples=[["access_denied", "archived"]]
    )
