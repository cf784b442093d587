"""Images: the stored versions of object keys, and the items that events and listings make of them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from sqlalchemy import (
    BigInteger,
    Boolean,
    Connection,
    DateTime,
    Row,
    Text,
    any_,
    bindparam,
    exists,
    literal_column,
    select,
    text,
    tuple_,
    update,
)

from dpiqa.errors import Conflict
from dpiqa.storage.columns import NOW, array, arrays, constants
from dpiqa.storage.engine import Lock, lock_names
from dpiqa.storage.jobs import Job, lock_jobs
from dpiqa.storage.tables import OPEN_ITEM_STATES, OPEN_JOB_STATES, images, items, results
from dpiqa.storage.version_rows import Key, lock_known, lock_versions, ref_columns, write_versions
from dpiqa.storage.versions import ObjectVersions, Version, VersionState
from dpiqa.types import REOPENED_BY_NEWS, ImageRef, ItemState, JobKind, Reason, Removal

# Returns the ids of every version of some keys. Raw as LOCK_VERSIONS.
IMAGE_IDS_OF_KEYS = text(
    """
    SELECT i.id FROM images i
    JOIN unnest(:buckets, :keys) AS named (bucket, key) ON i.bucket = named.bucket AND i.key = named.key
    """
).bindparams(*arrays(buckets=Text, keys=Text))
LOCK_IMAGES = (
    select(images.c.id, images.c.current, images.c.last_modified, images.c.sequencer, images.c.access_news)
    .where(images.c.id == any_(array("ids", BigInteger)))
    .order_by(images.c.id)
    .with_for_update(key_share=True)
)
_OTHER = images.alias()
#: Keys that somebody named, and of which no event and no listing has ever told.
NEVER_SEEN = (
    select(images.c.id)
    .where(images.c.id == any_(array("ids", BigInteger)), images.c.etag == literal_column("''"))
    .where(images.c.last_modified.is_(None), images.c.sequencer.is_(None))
    .where(
        ~exists().where(
            _OTHER.c.bucket == images.c.bucket, _OTHER.c.key == images.c.key, _OTHER.c.etag != literal_column("''")
        )
    )
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
    access_news: int

    @classmethod
    def from_row(cls, row: Row[*tuple[Any, ...]]) -> Self:
        """Read a row of LOCK_IMAGES."""
        return cls(row.current, row.last_modified, row.sequencer, row.access_news)

    def is_unchanged(self, ref: ImageRef, access_news: int) -> bool:
        """Return whether no event about the image arrived since these were read from its row."""
        return self.current and not self.has_news_since(ref, access_news)

    def has_news_since(self, ref: ImageRef, access_news: int) -> bool:
        """Return whether news arrived since these were read from the row: of access, or by which it is current."""
        is_newer = self.current and (self.last_modified, self.sequencer) != (ref.last_modified, ref.sequencer)
        return is_newer or self.access_news != access_news


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


def known_keys(c: Connection, keys: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return those of some buckets and keys of which there is an image, of whatever version."""
    named = tuple_(images.c.bucket, images.c.key).in_(keys)
    return {(row.bucket, row.key) for row in c.execute(select(images.c.bucket, images.c.key).where(named).distinct())}


def never_seen(c: Connection, image_ids: Sequence[int]) -> set[int]:
    """Return the images, among these, that are a key only: named by a request, and never seen in the store."""
    return set(c.execute(NEVER_SEEN, {"ids": list(image_ids)}).scalars()) if image_ids else set()


def mark_gone(c: Connection, image_ids: Sequence[int]) -> None:
    """Record that a worker did not find these locked images; their results no longer count as current.

    Their event time is unchanged, so any later event restores them.
    """
    if image_ids:
        c.execute(MARK_IMAGES_GONE, {"ids": list(image_ids)})
        c.execute(MARK_RESULTS_OLD, {"ids": list(image_ids)})


# Items


# Stores the images of unknown keys; adds them, the known ones that are named, and those of `image_ids` to a job, an
# item per profile, those of an image side by side; returns the ids of the items that now wait for a worker. Raw: one
# statement for thousands of images, whose look-ups are probes of an index as in LOCK_KNOWN. An item is reopened where
# its bytes could not be had before, and where a store that names no ETag wrote the object again. A reopened item gets a
# new fence, so that no old lease can record it. Items that exist and stay as they are leave before the upsert, which
# would lock their rows all the same: a claim skips what is locked, and a repeated event must not delay an image. An
# image that has a result waits for the student once more where the job asks for measures that it does not have.
INSERT_ITEMS = text(
    """
    WITH asked AS (SELECT details FROM jobs WHERE id = :job_id),
    of_job AS (
        SELECT id, position, CASE WHEN position > 1 THEN id ELSE '' END AS profile
        FROM unnest(:profiles) WITH ORDINALITY AS p (id, position)),
    named AS MATERIALIZED (
        SELECT v.*, i.id FROM unnest(:bucket, :key, :etag, :version_id, :size, :last_modified, :sequencer)
            AS v (bucket, key, etag, version_id, size, last_modified, sequencer)
        LEFT JOIN LATERAL (
            SELECT id FROM images WHERE bucket = v.bucket AND key = v.key AND etag = v.etag OFFSET 0) AS i ON true),
    created AS (
        INSERT INTO images (bucket, key, etag, version_id, size, last_modified, news_at, sequencer, current)
        SELECT bucket, key, etag, version_id, size, last_modified, last_modified, sequencer, etag <> ''
        FROM named WHERE id IS NULL ORDER BY bucket, key
        RETURNING id),
    known AS (
        SELECT id AS image_id, 'current' AS version_state FROM named WHERE id IS NOT NULL
        UNION ALL SELECT * FROM unnest(:image_ids, :version_states)),
    new AS (
        SELECT created.id AS image_id, position, profile, 'student' AS stage, 'queued' AS state, :queue AS queue,
            NULL AS reason, NULL AS route, false AS reused
        FROM created CROSS JOIN of_job
        UNION ALL
        SELECT image_id, position, profile,
            CASE WHEN status = 'provisional' THEN 'teacher' WHEN is_unmeasured THEN 'student'
                ELSE coalesce(stage, 'student') END,
            CASE WHEN version_state <> 'current' THEN version_state WHEN is_unmeasured THEN 'queued'
                WHEN status = 'final' THEN 'scored' ELSE 'queued' END,
            CASE WHEN status = 'provisional' THEN 'teacher' ELSE :queue END,
            CASE version_state WHEN 'superseded' THEN 'newer_version' WHEN 'deleted' THEN 'object_deleted' END,
            CASE WHEN version_state = 'current' THEN route END,
            version_state = 'current' AND status IS NOT NULL
        FROM known CROSS JOIN of_job LEFT JOIN LATERAL (
            SELECT status, stage, route, status = 'final' AND (SELECT details FROM asked)
                AND NOT EXISTS (SELECT FROM measures d WHERE d.image_id = known.image_id) AS is_unmeasured
            FROM results WHERE image_id = known.image_id AND profile = of_job.id OFFSET 0
        ) AS r ON true LEFT JOIN LATERAL (
            SELECT state FROM items WHERE job_id = :job_id AND image_id = known.image_id AND profile = of_job.profile
            OFFSET 0
        ) AS old ON true
        WHERE old.state IS NULL OR old.state NOT IN ('queued', 'leased', 'scored')),
    added AS (
        INSERT INTO items (job_id, image_id, profile, stage, state, queue, reason, route, reused, finished_at)
        SELECT :job_id, image_id, profile, stage, state, queue, reason, route, reused,
            CASE WHEN state <> 'queued' THEN clock_timestamp() END
        FROM new ORDER BY image_id, position
        ON CONFLICT (job_id, image_id, profile) DO UPDATE SET
            stage = excluded.stage, state = excluded.state, queue = excluded.queue, reason = NULL, detail = NULL,
            route = excluded.route, reused = excluded.reused, finished_at = excluded.finished_at,
            attempt = items.attempt + 1, errors = 0, owner = NULL, rung_at = NULL, not_before = clock_timestamp()
        WHERE excluded.state IN ('queued', 'scored') AND (items.reason = ANY (:reopened)
            OR items.state IN ('rejected', 'dead')
            AND EXISTS (SELECT FROM images m WHERE m.id = items.image_id AND m.etag = ''))
        RETURNING id, state)
    SELECT coalesce(array_agg(id ORDER BY id) FILTER (WHERE state = 'queued'), '{}') FROM added
    """
).bindparams(
    bindparam("queue", type_=Text),
    *arrays(
        bucket=Text, key=Text, etag=Text, version_id=Text, size=BigInteger, last_modified=DateTime(timezone=True),
        sequencer=Text, image_ids=BigInteger, version_states=Text, profiles=Text, reopened=Text,
    ),
)  # fmt: skip
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
    provisional one goes on to the teacher. Naming an image again adds nothing, but reopens an item whose bytes could
    not be had. Raises `Conflict` if the job has ended.
    """
    if not refs:
        return []
    lock_buckets(c, (ref.bucket for ref in refs))
    if job.kind is not JobKind.WATCH:
        locked = lock_jobs(c, [job.id]).get(job.id)
        if locked is None or locked.state not in OPEN_JOB_STATES:
            state = "gone" if locked is None else locked.state
            raise Conflict(f"job {job.id} is {state}: nothing can be added", hint="resume it, or submit a new job")
    return put_images(c, job, [(ref, None) for ref in refs])


def put_images(c: Connection, job: Job, puts: Sequence[tuple[ImageRef, str | None]]) -> list[int]:
    """Do what `add_images` does for a caller that holds the buckets and the job, the oldest event first.

    The second of a pair: the ETag that a worker expected when it found the first.

    Versions are compared in Python only where an event may decide between them. Refs of unknown keys and of what is
    current already, most of a listing, are added by one statement.
    """
    n_puts = Counter((ref.bucket, ref.key) for ref, _ in puts)
    differing = lock_known(c, [ref for ref, _ in puts])
    plain: list[ImageRef] = []
    newer: list[Version] = []
    compared: list[tuple[ImageRef, str | None]] = []
    for position, (ref, expected_etag) in enumerate(puts):
        version = differing.get(position)
        if expected_etag is not None or n_puts[ref.bucket, ref.key] > 1 or (version is None and position in differing):
            compared.append((ref, expected_etag))
            continue
        plain.append(ref)
        if version is not None:
            newer.append(version)
    write_versions(c, newer)
    states = _compare(c, compared)
    values = {"job_id": job.id, "profiles": job.profiles, "queue": job.queue, "reopened": sorted(REOPENED_BY_NEWS)}
    by_id = {"image_ids": list(states), "version_states": list(states.values())}
    return list(c.execute(INSERT_ITEMS, values | by_id | ref_columns(plain)).scalar_one())


def _compare(c: Connection, puts: Sequence[tuple[ImageRef, str | None]]) -> dict[int | None, VersionState]:
    """Let the puts decide which versions of their keys are current; return the state of each named one, by image id."""
    objects = lock_versions(c, ((ref.bucket, ref.key) for ref, _ in puts)) if puts else {}
    for ref, expected_etag in puts:
        objects[ref.bucket, ref.key].put(ref, expected_etag=expected_etag)
    _store(c, objects)
    states: dict[int | None, VersionState] = {}
    for ref, _ in puts:
        of_key = objects[ref.bucket, ref.key]
        states[of_key.versions[ref.etag].id] = of_key.state_of(ref.etag)
    return states


def remove_objects(c: Connection, removals: Sequence[Removal]) -> int:
    """Apply events of removed objects; return how many of the objects existed until then.

    Ends the waiting and the leased items of the object (or of the one version named), so that nothing scores what
    is gone. An event that is older than what is known changes nothing.
    """
    lock_buckets(c, (removal.bucket for removal in removals))
    objects = lock_versions(c, ((removal.bucket, removal.key) for removal in removals))
    n_removed = sum(objects[removal.bucket, removal.key].remove(removal) for removal in removals)
    _store(c, objects)
    return n_removed


def _store(c: Connection, objects: Mapping[Key, ObjectVersions]) -> None:
    """Write changed versions, and carry the changes over to the items and results of all jobs."""
    write_versions(c, (version for of_key in objects.values() for version in of_key.versions.values()))
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
