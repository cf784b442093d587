"""Bodies about standing watches and reconciliations."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict, Field

from dpiqa.http_api.common import Page, ResponseBody, Source, or_of
from dpiqa.http_api.job_requests import DETAILS, PrefixRequest
from dpiqa.http_api.jobs import JobOut
from dpiqa.storage.reconciliations import MAX_DELETED
from dpiqa.types import Delivery, Difference, ReconciliationState

IntervalSeconds = Annotated[int, Field(ge=60, le=365 * 86400, description="Seconds between reconciliations.")]
ReconciliationId = Annotated[
    str,
    Field(
        pattern=r"^[0-9a-fA-F-]{6,36}$",
        description="The id, or the first 6 or more digits of it.",
        examples=["5f0c2a1b-8a51-4b7e-9a57-0d1c3a0a5d5f", "5f0c2a1b"],
    ),
]


class NewWatch(PrefixRequest):
    """Score what arrives under a prefix from now on. A second request gives the same watch."""

    backfill: bool = Field(default=True, description="Also score what is under the prefix already, once.")
    reconcile_seconds: IntervalSeconds | None = Field(
        None, description="Compare the prefix with the ledger this often; unchanged unless given."
    )
    details: bool = Field(default=False, description=f"{DETAILS} Unchanged unless given.")


class WatchOut(JobOut):
    """A watch: its job, and what is known of its events."""

    model_config = ConfigDict(alias_generator=or_of("job"))

    backfill_job_id: UUID | None = Field(description="The job that lists what was there before the watch.")
    events: int = Field(description="Objects that events announced, created and removed.")
    passed_over: int = Field(description="Objects that events announced as created and that are by name no image.")
    last_event_at: datetime | None
    last_event_via: Delivery | None = Field(description="`queue`: the listener; `http`: `POST /v1/events`.")
    reconcile_seconds: int | None
    reconcile_due_at: datetime | None


class WatchAccepted(WatchOut):
    """A watch as it was added."""

    warning: str | None = Field(None, description="Set where the back-fill is recorded but will start later.")


class NewReconciliation(PrefixRequest):
    """Compare a bucket's prefix with the ledger. The same request gives the same one until it has ended."""

    inventory: Source | None = Field(None, description="`manifest.json` of an S3 Inventory, instead of a listing.")
    dry_run: bool = Field(default=False, description="Compare and report only.")
    max_deleted: int = Field(
        MAX_DELETED,
        ge=0,
        le=100,
        description="Percent of the ledger's objects that may be marked as deleted. If more are gone, none is; up to "
        "100 objects always may be.",
    )


class ReconciliationOut(ResponseBody):
    """A comparison of a bucket with the ledger."""

    id: UUID
    bucket: str
    prefix: str
    profile: str
    inventory: str | None
    dry_run: bool
    max_deleted: int
    watch_id: UUID | None = Field(description="The watch whose schedule asked for it.")
    state: ReconciliationState
    error: str | None
    as_of: datetime | None = Field(description="The time that the listing or inventory shows.")
    counts: dict[str, int] = Field(
        description="Objects: `listed` in the bucket, `ledger`, `unchanged`, `waiting`, `newer` (by events), `skipped` "
        "(not images by their names), `missing`, `changed`, `deleted` (of these `marked` and `kept`), `failed` earlier."
    )
    examples: dict[Difference, list[str]] = Field(description="Up to ten keys of each kind of difference.")
    job_id: UUID | None = Field(description="The job that its missing and changed objects went to.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class ReconciliationPage(Page[ReconciliationOut]):
    """Some reconciliations."""


class ReconciliationAccepted(ReconciliationOut):
    """A reconciliation as it was requested."""

    warning: str | None = Field(None, description="Set where it is recorded but will start later.")
