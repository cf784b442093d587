"""Images: the stored versions of object keys, and the items that events and listings make of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from sqlalchemy import BigInteger, Boolean, Connection, DateTime, Row, Text, any_, bindparam, select, text, update

from dpiqa.errors import Conflict
from dpiqa.storage.columns import NOW, array, arrays, constants
from dpiqa.storage.engine import Lock, lock_names
from dpiqa.storage.jobs import Job, lock_jobs
from dpiqa.storage.tables import OPEN_ITEM_STATES, OPEN_JOB_STATES, images, items, results
from dpiqa.storage.versions import ObjectVersions, Version, VersionState
from dpiqa.types import ImageRef, ItemState, JobKind, Reason, Removal

Key = tuple[str, str]  #: bucket and object key

# Returns and locks every version of some keys, by id. Raw: pairs of bucket and key come as two arrays, of any length.
LOCK_VERSIONS = text(
    """
    SELECT i.id, i.bucket, i.key, i.etag, i.version_id, i.size, i.last_modified, i.news_at, i.sequencer, i.current,
        i.deleted_at
    FROM images i JOIN unnest(:buckets, :keys) AS named (bucket, key) ON i.bucket = named.bucket AND i.key = named.key
    ORDER BY i.id FOR NO KEY UPDATE OF i
    """
).bindparams(*arrays(buckets=Text, keys=Text))
# Returns the ids of every version of some keys. Raw as LOCK_VERSIONS.
IMAGE_IDS_OF_KEYS = text(
    """
    SELECT i.id FROM images i
    JOIN unnest(:buckets, :keys) AS named (bucket, key) ON i.bucket = named.bucket AND i.key = named.key
    """
).bindparams(*arrays(buckets=Text, keys=Text))
# Returns the ids of new versions with what identifies them. Raw: unnest stores 74,000 rows/s, rows of VALUES 11,000.
INSERT_VERSIONS = text(
    """
    INSERT INTO images (bucket, key, etag, version_id, size, last_modified, news_at, sequencer, current)
    SELECT * FROM unnest(
        :bucket, :key, :etag, :version_id, :size, :last_modified, :observed_at, :sequencer, :current)
        AS new (bucket, key, etag)
    ORDER BY bucket, key, etag
    RETURNING id, bucket, key, etag
    """
).bindparams(
    *arrays(
        bucket=Text, key=Text, etag=Text, version_id=Text, size=BigInteger, last_modified=DateTime(timezone=True),
        observed_at=DateTime(timezone=True), sequencer=Text, current=Boolean,
    )
)  # fmt: skip
# Returns nothing; the rows are locked already. Raw: each row gets values of its own.
UPDATE_VERSIONS = text(
    """
    UPDATE images i SET version_id = v.version_id, size = coalesce(v.size, i.size), last_modified = v.last_modified,
        news_at = v.observed_at, sequencer = v.sequencer, current = v.current,
        deleted_at = CASE WHEN v.deleted THEN coalesce(i.deleted_at, clock_timestamp()) END
    FROM unnest(:id, :version_id, :size, :last_modified, :observed_at, :sequencer, :current, :deleted)
        AS v (id, version_id, size, last_modified, observed_at, sequencer, current, deleted)
    WHERE i.id = v.id
    """
).bindparams(
    *arrays(
        id=BigInteger, version_id=Text, size=BigInteger, last_modified=DateTime(timezone=True),
        observed_at=DateTime(timezone=True), sequencer=Text, current=Boolean, deleted=Boolean,
    )
)  # fmt: skip
LOCK_IMAGES = (
    select(images.c.id, images.c.current, images.c.last_modified, images.c.sequencer)
    .where(images.c.id == any_(array("ids", BigInteger)))
    .order_by(images.c.id)
    .with_for_update(key_share=True)
)
MARK_IMAGES_GONE = (
    update(images).where(images.c.id == any_(array("ids", BigInteger))).values(current=False, deleted_at=NOW)
)
MARK_RESULTS_OLD = (
    update(results).where(results.c.image_id == any_(array("ids", BigInteger)), results.c.current).values(current=False)
)


@dataclass(frozen=True, slots=True)
class LockedImage:
    """The part of a locked row of `images` that a recorder needs."""

    current: bool
    last_modified: datetime | None
    sequencer: str | None

    @classmethod
    def from_row(cls, row: Row[*tuple[Any, ...]]) -> Self:
        """Read a row of LOCK_IMAGES."""
        return cls(row.current, row.last_modified, row.sequencer)

    def is_unchanged(self, ref: ImageRef) -> bool:
        """Return whether no event about the image arrived since `ref` was read from its row."""
        return self.current and (self.last_modified, self.sequencer) == (ref.last_modified, ref.sequencer)


def lock_buckets(c: Connection, buckets: Iterable[str]) -> None:
    """Lock these buckets so that only this transaction decides which versions are current. Before any row lock."""
    lock_names(c, Lock.BUCKET, buckets)


def lock_images(c: Connection, image_ids: Iterable[int], keys: Sequence[Key] = ()) -> dict[int, LockedImage]:
    """Lock images and every version of the given keys, in one order for all transactions."""
    ids = set(image_ids)
    if keys:
        columns = {"buckets": [bucket for bucket, _ in keys], "keys": [key for _, key in keys]}
        ids |= set(c.execute(IMAGE_IDS_OF_KEYS, columns).scalars())
    return {row.id: LockedImage.from_row(row) for row in c.execute(LOCK_IMAGES, {"ids": sorted(ids)})}


def mark_gone(c: Connection, image_ids: Sequence[int]) -> None:
    """Record that a worker did not find these locked images; their results no longer count as current.

    Their event time is unchanged, so any later event restores them.
    """
    if image_ids:
        c.execute(MARK_IMAGES_GONE, {"ids": list(image_ids)})
        c.execute(MARK_RESULTS_OLD, {"ids": list(image_ids)})


def read_ref(row: Row[Any]) -> ImageRef:
    """Read the columns of `images` that identify an object."""
    return ImageRef(
        bucket=row.bucket,
        key=row.key,
        etag=row.etag,
        version_id=row.version_id,
        size=row.size,
        last_modified=row.last_modified,
        sequencer=row.sequencer,
    )


def _lock_versions(c: Connection, keys: Iterable[Key]) -> dict[Key, ObjectVersions]:
    """Return every key's versions, locked until the transaction ends. Unknown keys have none."""
    versions: dict[Key, list[Version]] = {key: [] for key in sorted(set(keys))}
    columns = {"buckets": [bucket for bucket, _ in versions], "keys": [key for _, key in versions]}
    for row in c.execute(LOCK_VERSIONS, columns):
        version = Version(
            ref=read_ref(row),
            current=row.current,
            deleted=row.deleted_at is not None,
            observed_at=row.news_at,
            sequencer=row.sequencer,
            id=row.id,
            was_current=row.current,
        )
        versions[row.bucket, row.key].append(version)
    return {key: ObjectVersions(of_key) for key, of_key in versions.items()}


def _write_versions(c: Connection, objects: Iterable[ObjectVersions]) -> None:
    """Store what the events changed; new versions get their ids."""
    changed = [version for of_key in objects for version in of_key.versions.values() if version.changed]
    # What stops being current goes first: a key never has two current versions, not even for a statement.
    for current in (False, True):
        stored = [version for version in changed if version.id is not None and version.current is current]
        if stored:
            more = {"id": [v.id for v in stored], "deleted": [v.deleted for v in stored]}
            c.execute(UPDATE_VERSIONS, _columns(stored) | more)
    new = {(v.ref.bucket, v.ref.key, v.ref.etag): v for v in changed if v.id is None}
    if new:
        buckets, keys, etags = (list(column) for column in zip(*new, strict=True))
        for row in c.execute(INSERT_VERSIONS, _columns(new.values()) | {"bucket": buckets, "key": keys, "etag": etags}):
            new[row.bucket, row.key, row.etag].id = row.id


def _columns(versions: Iterable[Version]) -> dict[str, list[Any]]:
    versions = list(versions)
    return {
        "version_id": [version.ref.version_id for version in versions],
        "size": [version.ref.size for version in versions],
        "last_modified": [version.ref.last_modified for version in versions],
        "observed_at": [version.observed_at for version in versions],
        "sequencer": [version.sequencer for version in versions],
        "current": [version.current for version in versions],
    }


# Items


# Adds the images to a job and returns the ids and states of the items that are new or open again. Raw: one statement
# decides by earlier results for a whole page. An item is reopened where the object came back, or was written again by a
# store that names no ETag. A reopened item gets a new fence, so that no old lease can record it.
INSERT_ITEMS = text(
    """
    WITH named AS (
        SELECT v.image_id, v.version_state, r.status, r.stage, r.route
        FROM unnest(:image_ids, :version_states) AS v (image_id, version_state)
        LEFT JOIN results r ON r.image_id = v.image_id AND r.profile = :profile),
    new AS (
        SELECT image_id,
            CASE WHEN status = 'provisional' THEN 'teacher' ELSE coalesce(stage, 'student') END AS stage,
            CASE WHEN version_state <> 'current' THEN version_state WHEN status = 'final' THEN 'scored'
                ELSE 'queued' END AS state,
            CASE WHEN status = 'provisional' THEN 'teacher' ELSE :queue END AS queue,
            CASE version_state WHEN 'superseded' THEN 'newer_version' WHEN 'deleted' THEN 'object_deleted' END
                AS reason,
            CASE WHEN version_state = 'current' THEN route END AS route
        FROM named)
    INSERT INTO items (job_id, image_id, stage, state, queue, reason, route, finished_at)
    SELECT :job_id, image_id, stage, state, queue, reason, route,
        CASE WHEN state <> 'queued' THEN clock_timestamp() END
    FROM new ORDER BY image_id
    ON CONFLICT (job_id, image_id) DO UPDATE SET
        stage = excluded.stage, state = excluded.state, queue = excluded.queue, reason = NULL, detail = NULL,
        route = excluded.route, finished_at = excluded.finished_at, attempt = items.attempt + 1, errors = 0,
        owner = NULL, rung_at = NULL, not_before = clock_timestamp()
    WHERE excluded.state IN ('queued', 'scored') AND (items.state IN ('superseded', 'deleted')
        OR items.state IN ('rejected', 'dead')
        AND EXISTS (SELECT FROM images m WHERE m.id = items.image_id AND m.etag = ''))
    RETURNING id, state
    """
).bindparams(*arrays(image_ids=BigInteger, version_states=Text))
# Locked in id order first: an UPDATE takes rows in whatever order its plan finds them.
_ENDING = (
    select(items.c.id)
    .where(items.c.image_id == any_(array("image_ids", BigInteger)), items.c.state == any_(array("states", Text)))
    .where(items.c.state.in_(constants(OPEN_ITEM_STATES)))
    .order_by(items.c.id)
    .with_for_update(key_share=True)
    .cte("ending")
)
END_ITEMS = (
    update(items)
    .where(items.c.id == _ENDING.c.id)
    .values(
        state=bindparam("new_state", type_=items.c.state.type),
        reason=bindparam("new_reason", type_=items.c.reason.type),
        finished_at=NOW,
        lease_until=None,
    )
)
# Returns nothing. Raw: each image gets a value of its own, and results are locked in order first.
SET_RESULTS_CURRENT = text(
    """
    WITH locked AS (
        SELECT r.image_id, r.profile, v.current FROM unnest(:image_ids, :currents) AS v (image_id, current)
        JOIN results r ON r.image_id = v.image_id ORDER BY r.image_id, r.profile FOR NO KEY UPDATE OF r)
    UPDATE results r SET current = locked.current
    FROM locked WHERE r.image_id = locked.image_id AND r.profile = locked.profile AND r.current <> locked.current
    """
).bindparams(*arrays(image_ids=BigInteger, currents=Boolean))


def add_images(c: Connection, job: Job, refs: Sequence[ImageRef]) -> list[int]:
    """Add the objects of write events to a job; return the ids of the items that now wait for a worker.

    An older event never supersedes a newer one, whatever the order of arrival; a newer version ends the waiting items
    of older ones, in every job. What has a final result under the job's profile is `scored` at once, what has a
    provisional one goes on to the teacher. Naming an image again adds nothing. Raises `Conflict` if the job has ended.
    """
    if not refs:
        return []
    lock_buckets(c, (ref.bucket for ref in refs))
    if job.kind is not JobKind.WATCH:
        locked = lock_jobs(c, [job.id]).get(job.id)
        if locked is None or locked.state not in OPEN_JOB_STATES:
            raise Conflict(f"job {job.id} has ended: nothing can be added", hint="submit a new job")
    return put_images(c, job, [(ref, None) for ref in refs])


def put_images(c: Connection, job: Job, puts: Sequence[tuple[ImageRef, str | None]]) -> list[int]:
    """Do what `add_images` does for a caller that holds the buckets and the job, the oldest event first.

    The second of a pair: the ETag that a worker expected when it found the first.
    """
    objects = _lock_versions(c, ((ref.bucket, ref.key) for ref, _ in puts))
    for ref, expected_etag in puts:
        objects[ref.bucket, ref.key].put(ref, expected_etag=expected_etag)
    _store(c, objects)
    states: dict[int | None, VersionState] = {}
    for ref, _ in puts:
        of_key = objects[ref.bucket, ref.key]
        states[of_key.versions[ref.etag].id] = of_key.state_of(ref.etag)
    rows = c.execute(
        INSERT_ITEMS,
        {
            "job_id": job.id,
            "profile": job.profile,
            "queue": job.queue,
            "image_ids": list(states),
            "version_states": list(states.values()),
        },
    )
    return sorted(row.id for row in rows if row.state == ItemState.QUEUED)


def remove_objects(c: Connection, removals: Sequence[Removal]) -> int:
    """Apply events of removed objects; return how many of the objects existed until then.

    Ends the waiting and the leased items of the object (or of the one version named), so that nothing scores what
    is gone. An event that is older than what is known changes nothing.
    """
    lock_buckets(c, (removal.bucket for removal in removals))
    objects = _lock_versions(c, ((removal.bucket, removal.key) for removal in removals))
    n_removed = sum(objects[removal.bucket, removal.key].remove(removal) for removal in removals)
    _store(c, objects)
    return n_removed


def _store(c: Connection, objects: Mapping[Key, ObjectVersions]) -> None:
    """Write changed versions, and carry the changes over to the items and results of all jobs."""
    _write_versions(c, objects.values())
    changed = [(of_key, v) for of_key in objects.values() for v in of_key.versions.values() if v.changed]
    removed_objects = {id(of_key): of_key for of_key, _ in changed if of_key.is_deleted}
    removed = [v for of_key in removed_objects.values() for v in of_key.versions.values()]
    removed += [v for of_key, v in changed if v.deleted and not of_key.is_deleted]
    _end_items(c, removed, [ItemState.QUEUED, ItemState.LEASED], ItemState.DELETED, Reason.OBJECT_DELETED)
    replaced = [v for _, v in changed if v.was_current and not v.current and not v.deleted]
    _end_items(c, replaced, [ItemState.QUEUED], ItemState.SUPERSEDED, Reason.NEWER_VERSION)
    switched = [v for _, v in changed if v.current != v.was_current]
    if switched:
        columns = {"image_ids": [v.id for v in switched], "currents": [v.current for v in switched]}
        c.execute(SET_RESULTS_CURRENT, columns)


def _end_items(
    c: Connection, versions: Sequence[Version], states: list[ItemState], end: ItemState, reason: Reason
) -> None:
    if versions:
        image_ids = [version.id for version in versions]
        c.execute(END_ITEMS, {"image_ids": image_ids, "states": states, "new_state": end, "new_reason": reason})
