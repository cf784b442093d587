"""Items, one image in one job under one profile each: their claims, outcomes, and the updates that follow."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self, TypeAlias
from uuid import UUID

from sqlalchemy import BigInteger, Boolean, Connection, Double, Integer, Row, Text, text

from dpiqa.doorbell import Queue
from dpiqa.imaging.measured import Measures
from dpiqa.storage.columns import arrays
from dpiqa.storage.images import LockedImage
from dpiqa.text import storable
from dpiqa.types import REOPENED_BY_NEWS, ImageRef, ItemState, Reason, Rendition, Route, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A row of `items` with its image: one image in one job, under one profile."""

    id: int
    job_id: UUID
    image_id: int
    profile: str  #: id of the profile that scores it
    bucket: str
    key: str
    etag: str
    version_id: str | None
    state: ItemState
    stage: Stage
    reason: Reason | None
    detail: str | None
    route: Route | None
    reused: bool  #: its scores were known before: nothing was computed for it
    attempt: int
    crashes: int
    errors: int
    owner: str | None
    created_at: datetime
    finished_at: datetime | None

    @classmethod
    def from_row(cls, row: Row[Any], profile_of_job: str) -> Self:
        """Read a row of `items` joined with what identifies its image."""
        return cls(
            id=row.id,
            job_id=row.job_id,
            image_id=row.image_id,
            profile=row.profile or profile_of_job,
            bucket=row.bucket,
            key=row.key,
            etag=row.etag,
            version_id=row.version_id,
            state=row.state,
            stage=row.stage,
            reason=row.reason,
            detail=row.detail,
            route=row.route,
            reused=row.reused,
            attempt=row.attempt,
            crashes=row.crashes,
            errors=row.errors,
            owner=row.owner,
            created_at=row.created_at,
            finished_at=row.finished_at,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """An item that a worker holds until its lease ends. Only the holder of the fence may record it."""

    item_id: int
    job_id: UUID
    image_id: int
    stage: Stage
    ref: ImageRef
    fence: int  #: `attempt` of the item after this claim; its scores keep it as their `attempt`
    profile_id: str
    crashes: int  #: workers that died while they held it
    known_score: float | None  #: by the claiming scorer, for these bytes: nothing to compute
    student_score: float | None  #: under the profile, where the student has scored
    is_urgent: bool = False  #: of an event: goes before submitted work
    access_news: int = 0  #: of its image when it was claimed: what comes later is news to the worker
    wants_measures: bool = False  #: its job asks for details, and its image has none

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
            is_urgent=row.queue == Queue.LIVE,
            access_news=row.access_news,
            wants_measures=row.wants_measures,
        )


@dataclass(frozen=True, slots=True)
class Scored:
    """The model returned a score. One that is not finite is recorded as rejected (`non_finite_score`)."""

    claim: Claim
    score: float  #: MOS/100
    etag: str  #: of the bytes that were read; if it is not the claim's, the outcome counts as `Changed`
    version_id: str | None = None
    content_hash: bytes | None = None  #: SHA-256 of those bytes, where it was computed
    copied_from: int | None = None  #: id of another image of the same bytes, whose score it is
    reused: bool = False  #: the score was known before: nothing was computed for this claim
    rendition: Rendition = Rendition.FULL  #: what of those bytes was decoded
    measures: Measures | None = None  #: of the decoded picture, where the claim wants them


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
    """An unexpected error: tried again after a delay; after `max_errors` it ends by `reason`, its state's."""

    claim: Claim
    detail: str
    delay_seconds: float = 0.0
    reason: Reason = Reason.REPEATED_ERRORS


@dataclass(frozen=True, slots=True)
class Released:
    """Given back unprocessed (shutdown): waits again without a delay."""

    claim: Claim


Outcome: TypeAlias = Scored | Rejected | Gone | Changed | Postponed | Failed | Released


# Writes updates of locked items, ends those with too many errors by the reason of the update, and returns ids and
# states. Raw: each row gets values of its own.
UPDATE_ITEMS = text(
    """
    UPDATE items i SET
        state = u.end_state, reason = u.end_reason, detail = left(u.detail, 500),
        stage = coalesce(u.stage, i.stage), queue = coalesce(u.queue, i.queue), route = coalesce(u.route, i.route),
        errors = CASE WHEN u.stage <> i.stage THEN 0 ELSE i.errors + u.errors END,
        crashes = CASE WHEN u.stage <> i.stage THEN 0 ELSE i.crashes END,
        reused = coalesce(u.reused AND (i.stage = 'student' OR i.reused), i.reused),
        lease_until = NULL, rung_at = NULL, not_before = clock_timestamp() + make_interval(secs => u.delay_seconds),
        finished_at = CASE WHEN u.end_state <> 'queued' THEN clock_timestamp() END
    FROM (
        SELECT o.*,
            CASE WHEN o.errors = 0 OR h.errors + o.errors < :max_errors THEN o.state
                WHEN o.reason = 'repeated_errors' THEN 'dead' ELSE 'rejected' END AS end_state,
            CASE WHEN o.errors = 0 OR h.errors + o.errors >= :max_errors THEN o.reason END AS end_reason
        FROM unnest(:item_id, :state, :stage, :queue, :reason, :detail, :route, :reused, :errors, :delay_seconds)
            AS o (item_id, state, stage, queue, reason, detail, route, reused, errors, delay_seconds)
        JOIN items h ON h.id = o.item_id) AS u
    WHERE i.id = u.item_id
    RETURNING i.id, i.state
    """
).bindparams(
    *arrays(
        item_id=BigInteger, state=Text, stage=Text, queue=Text, reason=Text, detail=Text, route=Text, reused=Boolean,
        errors=Integer, delay_seconds=Double,
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemUpdate:
    """An update of an item. `None` leaves stage, queue, route and reused as they are."""

    item_id: int
    state: ItemState
    stage: Stage | None = None
    queue: Queue | None = None
    reason: Reason | None = None  #: with errors: the reason if they are too many
    detail: str | None = None
    route: Route | None = None
    reused: bool | None = None  #: whether the score was known; an escalated item is reused if both of its scores were
    errors: int = 0  #: to be added; too many of them end the item as dead
    delay_seconds: float = 0.0  #: before it may be claimed again


def update_of(outcome: Outcome, image: LockedImage) -> ItemUpdate:
    """Return the update of an item that was not scored."""
    item_id = outcome.claim.item_id
    has_news = image.has_news_since(outcome.claim.ref, outcome.claim.access_news)
    match outcome:
        case Rejected(_, reason, detail) if reason not in REOPENED_BY_NEWS or not has_news:
            return ItemUpdate(item_id=item_id, state=ItemState.REJECTED, reason=reason, detail=detail or None)
        case Changed():
            return ItemUpdate(item_id=item_id, state=ItemState.SUPERSEDED, reason=Reason.NEWER_VERSION)
        case Gone() if not has_news or not image.current:
            return ItemUpdate(item_id=item_id, state=ItemState.DELETED, reason=Reason.OBJECT_DELETED)
        case Postponed(_, delay, detail):
            return ItemUpdate(
                item_id=item_id, state=ItemState.QUEUED, detail=detail or None, delay_seconds=float(delay)
            )
        case Failed(_, detail, delay, reason) if reason not in REOPENED_BY_NEWS or not has_news:
            return ItemUpdate(
                item_id=item_id,
                state=ItemState.QUEUED,
                reason=reason,
                detail=detail,
                errors=1,
                delay_seconds=float(delay),
            )
    return ItemUpdate(item_id=item_id, state=ItemState.QUEUED)  # released, or news came while it could not be had


def write_updates(c: Connection, updates: Sequence[ItemUpdate], *, max_errors: int) -> list[int]:
    """Write updates of locked items; return the ids of those that ended rejected or dead."""
    if not updates:
        return []
    columns = {
        "item_id": [update.item_id for update in updates],
        "state": [update.state for update in updates],
        "stage": [update.stage for update in updates],
        "queue": [update.queue for update in updates],
        "reason": [update.reason for update in updates],
        "detail": [storable(update.detail) for update in updates],
        "route": [update.route for update in updates],
        "reused": [update.reused for update in updates],
        "errors": [update.errors for update in updates],
        "delay_seconds": [update.delay_seconds for update in updates],
    }
    rows = c.execute(UPDATE_ITEMS, {**columns, "max_errors": max_errors})
    return [row.id for row in rows if row.state in (ItemState.REJECTED, ItemState.DEAD)]
