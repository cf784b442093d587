"""Everything stored about one object: its scores with their origin, its results, and why it was not scored."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, func, select

from dpiqa.access import EVERYTHING, Grants
from dpiqa.addresses import object_address
from dpiqa.errors import NotFound
from dpiqa.storage.columns import constants
from dpiqa.storage.job_profiles import profile_of_item
from dpiqa.storage.references import CARD_VERSION, Meaning, read_meanings
from dpiqa.storage.scores import ScoreRow, read_score_rows
from dpiqa.storage.tables import OPEN_ITEM_STATES, images, items, jobs, results, scorers, scores
from dpiqa.types import Band, ImageRef, ItemState, Reason, Stage

MAX_ITEMS = 20  #: newest items of an object that a lookup returns


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredScore:
    """The score of one model for one version of the object, with its origin."""

    score: float  #: on `scale`
    scale: str  #: the meaning of the scorer's scores: range, and which end is better
    percentile: float | None  #: share (0-100) of the scorer's reference population that is no better
    band: Band | None  #: the word for the score by that population
    scorer_id: str  #: `dpiqa.storage.scorers.show_scorer` has its model card
    etag: str  #: of the bytes that were scored
    version_id: str | None
    content_hash: str | None  #: SHA-256 of those bytes, in hex; None where it was not computed
    copied_from: str | None  #: address of the object of the same bytes that it was computed for; None: this, or hidden
    current: bool  #: whether the store, as far as is known, still holds these bytes
    last_modified: datetime | None
    scored_at: datetime
    attempt: int  #: the fence under which it was recorded
    job_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupItem:
    """The object in one job."""

    job_id: UUID
    profile: str  #: that the job scores it by
    etag: str  #: of the version
    state: ItemState
    stage: Stage
    reason: Reason | None  #: why it ended unscored
    detail: str | None  #: the last error in words
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """All scores and results of one object, the current version first."""

    bucket: str
    key: str
    deleted: bool  #: no version is current
    scores: list[StoredScore]
    results: list[ScoreRow]  #: the scores that count, by profile
    items: list[LookupItem]  #: in which jobs, and how it ended there; newest first, at most `MAX_ITEMS`


def lookup(c: Connection, bucket: str, key: str, grants: Grants = EVERYTHING) -> Lookup:
    """Return all that is known of one object. Raises `NotFound` for an unknown object, or one beyond the grants."""
    grants.require(bucket, key)
    of_object = (images.c.bucket == bucket, images.c.key == key)
    current = c.execute(select(func.bool_or(images.c.current)).where(*of_object)).scalar_one()
    if current is None:
        address = object_address(bucket, key)
        raise NotFound(f"{address} is not known", hint="submit it, or check the spelling of the key")
    by_profile = (
        select(results)
        .where(results.c.bucket == bucket, results.c.key == key)
        .order_by(results.c.current.desc(), results.c.updated_at.desc(), results.c.profile)
    )
    by_job = (
        select(images.c.etag, profile_of_item().label("profile"), *(items.c[name] for name in _ITEM_COLUMNS))
        .join(items, items.c.image_id == images.c.id)
        .join(jobs, jobs.c.id == items.c.job_id)
        # True of every item: each side has a partial index by image.
        .where(*of_object, items.c.state.in_(constants(OPEN_ITEM_STATES)) | items.c.finished_at.is_not(None))
        .order_by(items.c.id.desc())
        .limit(MAX_ITEMS)
    )
    return Lookup(
        bucket=bucket,
        key=key,
        deleted=not current,
        scores=_read_scores(c, bucket, key, grants),
        results=read_score_rows(c, by_profile, results.c.scorer_id),
        items=[LookupItem(**row._mapping) for row in c.execute(by_job)],
    )


def current_version(c: Connection, bucket: str, key: str, grants: Grants = EVERYTHING) -> ImageRef:
    """Return the newest version of an object that the ledger knows. Raises as `lookup`."""
    grants.require(bucket, key)
    versions = (
        select(images.c.etag, images.c.version_id)
        .where(images.c.bucket == bucket, images.c.key == key)
        .order_by(images.c.current.desc(), images.c.id.desc())
        .limit(1)
    )
    row = c.execute(versions).one_or_none()
    if row is None:
        address = object_address(bucket, key)
        raise NotFound(f"{address} is not known", hint="submit it, or check the spelling of the key")
    return ImageRef(bucket=bucket, key=key, etag=row.etag, version_id=row.version_id)


_ITEM_COLUMNS = ("job_id", "state", "stage", "reason", "detail", "created_at", "finished_at")


def _read_scores(c: Connection, bucket: str, key: str, grants: Grants) -> list[StoredScore]:
    origin = images.alias()
    query = (
        select(images.c.etag, images.c.current, images.c.last_modified, CARD_VERSION)
        .add_columns(func.encode(scores.c.content_hash, "hex").label("content_hash"), origin.c.bucket, origin.c.key)
        .add_columns(*(scores.c[name] for name in ("score", "scorer_id", "version_id", "scored_at", "attempt")))
        .add_columns(scores.c.job_id)
        .join(scores, scores.c.image_id == images.c.id)
        .join(scorers, scorers.c.id == scores.c.scorer_id)
        .outerjoin(origin, origin.c.id == scores.c.copied_from)
        .where(images.c.bucket == bucket, images.c.key == key)
        .order_by(images.c.current.desc(), scores.c.scored_at.desc(), scores.c.scorer_id)
    )
    rows = [dict(row._mapping) for row in c.execute(query)]
    meanings = read_meanings(c, {(row["scorer_id"], row.pop("card_version")) for row in rows})
    return [_stored_score(row, meanings[row["scorer_id"]], grants) for row in rows]


def _stored_score(row: dict[str, Any], meaning: Meaning, grants: Grants) -> StoredScore:
    reference = meaning.reference
    origin = row.pop("bucket"), row.pop("key")
    is_shown = origin[0] is not None and grants.cover(*origin)  # what has the same bytes may be others'
    return StoredScore(
        **row,
        copied_from=object_address(*origin) if is_shown else None,
        scale=meaning.scale,
        percentile=None if reference is None else reference.percentile(row["score"]),
        band=None if reference is None else reference.band(row["score"]),
    )
