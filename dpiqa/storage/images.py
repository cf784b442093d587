"""Images: the stored versions of object keys, and the items that events and listings make of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from dpiqa.errors import Conflict
from dpiqa.storage.engine import Lock, lock_names
from dpiqa.storage.jobs import Job, lock_jobs
from dpiqa.storage.outcomes import Claim
from dpiqa.storage.versions import Object, Version
from dpiqa.types import ImageRef, ItemState, JobKind, JobState, Reason, Removal

Key = tuple[str, str]  #: bucket and object key

_READ = text(
    """
    SELECT i.* FROM images i
    JOIN unnest(CAST(:buckets AS text[]), CAST(:keys AS text[])) AS g (bucket, key)
        ON i.bucket = g.bucket AND i.key = g.key
    ORDER BY i.id FOR NO KEY UPDATE OF i
    """
)
_OF_KEYS = text(
    "SELECT i.id FROM images i JOIN unnest(CAST(:buckets AS text[]), CAST(:keys AS text[])) AS g (bucket, key) "
    "ON i.bucket = g.bucket AND i.key = g.key"
)
_HOLD = text(
    "SELECT id, current, last_modified, sequencer FROM images WHERE id = ANY (CAST(:ids AS bigint[])) "
    "ORDER BY id FOR NO KEY UPDATE"
)
_GONE = text(
    "UPDATE images SET current = false, deleted_at = clock_timestamp() WHERE id = ANY (CAST(:ids AS bigint[]))"
)
_RESULTS_GONE = text("UPDATE results SET current = false WHERE image_id = ANY (CAST(:ids AS bigint[])) AND current")
_INSERT = text(
    """
    INSERT INTO images (bucket, key, etag, version_id, size, last_modified, news_at, sequencer, current)
    SELECT * FROM unnest(
        CAST(:bucket AS text[]), CAST(:key AS text[]), CAST(:etag AS text[]), CAST(:version_id AS text[]),
        CAST(:size AS bigint[]), CAST(:last_modified AS timestamptz[]), CAST(:news_at AS timestamptz[]),
        CAST(:sequencer AS text[]), CAST(:current AS boolean[])) AS g (bucket, key, etag)
    ORDER BY bucket, key, etag
    RETURNING id, bucket, key, etag
    """
)
_UPDATE = text(
    """
    UPDATE images i SET version_id = g.version_id, size = coalesce(g.size, i.size), last_modified = g.last_modified,
        news_at = g.news_at, sequencer = g.sequencer, current = g.current,
        deleted_at = CASE WHEN g.deleted THEN coalesce(i.deleted_at, clock_timestamp()) END
    FROM unnest(
        CAST(:id AS bigint[]), CAST(:version_id AS text[]), CAST(:size AS bigint[]),
        CAST(:last_modified AS timestamptz[]), CAST(:news_at AS timestamptz[]), CAST(:sequencer AS text[]),
        CAST(:current AS boolean[]), CAST(:deleted AS boolean[]))
        AS g (id, version_id, size, last_modified, news_at, sequencer, current, deleted)
    WHERE i.id = g.id
    """
)


def lock_buckets(c: Connection, buckets: Iterable[str]) -> None:
    """Become the one transaction that decides what is current in these buckets. Before any row lock."""
    lock_names(c, Lock.BUCKET, buckets)


def read_objects(c: Connection, keys: Iterable[Key]) -> dict[Key, Object]:
    """Return every key's versions, held until the transaction ends. Keys of which nothing is known have none."""
    wanted = sorted(set(keys))
    versions: dict[Key, list[Version]] = {key: [] for key in wanted}
    for row in c.execute(_READ, {"buckets": [bucket for bucket, _ in wanted], "keys": [key for _, key in wanted]}):
        versions[row.bucket, row.key].append(_version(row))
    return {key: Object(found) for key, found in versions.items()}


def write_objects(c: Connection, objects: Iterable[Object]) -> None:
    """Store what the news changed; new versions get their ids."""
    changed = [version for known in objects for version in known.versions.values() if version.changed]
    # What stops being current goes first: a key never has two current versions, not even for a statement.
    _update(c, [version for version in changed if version.id is not None and not version.current])
    _update(c, [version for version in changed if version.id is not None and version.current])
    new = {(v.ref.bucket, v.ref.key, v.ref.etag): v for v in changed if v.id is None}
    if new:
        rows = [{**_row(version), "bucket": b, "key": k, "etag": e} for (b, k, e), version in new.items()]
        for row in c.execute(_INSERT, _columns(rows)):
            new[row.bucket, row.key, row.etag].id = row.id


@dataclass(frozen=True, slots=True)
class HeldImage:
    """An image whose row is held."""

    current: bool
    last_modified: datetime | None
    sequencer: str | None

    def is_still(self, claim: Claim) -> bool:
        """Whether nothing was heard of the image since the claim."""
        ref = claim.ref
        return self.current and (self.last_modified, self.sequencer) == (ref.last_modified, ref.sequencer)


def hold_images(c: Connection, image_ids: Iterable[int], keys: Sequence[Key] = ()) -> dict[int, HeldImage]:
    """Hold images and every version of the given keys, in one order for all."""
    ids = set(image_ids)
    if keys:
        ids |= set(c.execute(_OF_KEYS, {"buckets": [b for b, _ in keys], "keys": [k for _, k in keys]}).scalars())
    rows = c.execute(_HOLD, {"ids": sorted(ids)})
    return {row.id: HeldImage(row.current, row.last_modified, row.sequencer) for row in rows}


def mark_gone(c: Connection, image_ids: Sequence[int]) -> None:
    """Note that a worker did not find held images. Their clock stands still: any new news bring them back."""
    if image_ids:
        c.execute(_GONE, {"ids": list(image_ids)})
        c.execute(_RESULTS_GONE, {"ids": list(image_ids)})


def _update(c: Connection, versions: list[Version]) -> None:
    if versions:
        c.execute(_UPDATE, _columns([{**_row(v), "id": v.id, "deleted": v.deleted} for v in versions]))


def _row(version: Version) -> dict[str, str | int | bool | datetime | None]:
    return {
        "version_id": version.ref.version_id,
        "size": version.ref.size,
        "last_modified": version.ref.last_modified,
        "news_at": version.news_at,
        "sequencer": version.sequencer,
        "current": version.current,
    }


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def to_ref(row: Row[Any]) -> ImageRef:
    """Read what a row of `images` says about the object."""
    return ImageRef(
        bucket=row.bucket,
        key=row.key,
        etag=row.etag,
        version_id=row.version_id,
        size=row.size,
        last_modified=row.last_modified,
        sequencer=row.sequencer,
    )


def _version(row: Row[Any]) -> Version:
    return Version(
        ref=to_ref(row),
        current=row.current,
        deleted=row.deleted_at is not None,
        news_at=row.news_at,
        sequencer=row.sequencer,
        id=row.id,
        was_current=row.current,
    )


_OPEN = (JobState.LISTING, JobState.RUNNING, JobState.WATCHING)

# An item whose end was undone opens again, with a new fence so that no old lease can record it: the object came back,
# or was written again by a store that does not say what (no ETag).
_INSERT_ingest = text(
    """
    WITH fates AS (
        SELECT g.image_id, g.fate, r.status, r.stage, r.route
        FROM unnest(CAST(:image_ids AS bigint[]), CAST(:fates AS text[])) AS g (image_id, fate)
        LEFT JOIN results r ON r.image_id = g.image_id AND r.profile = :profile),
    wanted AS (
        SELECT image_id,
            CASE WHEN status = 'provisional' THEN 'teacher' ELSE coalesce(stage, 'student') END AS stage,
            CASE WHEN fate <> 'current' THEN fate WHEN status = 'final' THEN 'scored' ELSE 'queued' END AS state,
            CASE WHEN status = 'provisional' THEN 'teacher' ELSE :queue END AS queue,
            CASE fate WHEN 'superseded' THEN 'newer_version' WHEN 'deleted' THEN 'object_deleted' END AS reason,
            CASE WHEN fate = 'current' THEN route END AS route
        FROM fates)
    INSERT INTO items (job_id, image_id, stage, state, queue, reason, route, finished_at)
    SELECT :job_id, image_id, stage, state, queue, reason, route,
        CASE WHEN state <> 'queued' THEN clock_timestamp() END
    FROM wanted ORDER BY image_id
    ON CONFLICT (job_id, image_id) DO UPDATE SET
        stage = excluded.stage, state = excluded.state, queue = excluded.queue, reason = NULL, detail = NULL,
        route = excluded.route, finished_at = excluded.finished_at, attempt = items.attempt + 1, errors = 0,
        owner = NULL, rung_at = NULL, not_before = clock_timestamp()
    WHERE excluded.state IN ('queued', 'scored') AND (items.state IN ('superseded', 'deleted')
        OR items.state IN ('rejected', 'dead')
        AND EXISTS (SELECT FROM images m WHERE m.id = items.image_id AND m.etag = ''))
    RETURNING id, state
    """
)
# FOR NO KEY UPDATE in id order first: an UPDATE takes rows in whatever order its plan finds them.
_END = text(
    """
    WITH held AS (
        SELECT id FROM items WHERE image_id = ANY (CAST(:image_ids AS bigint[]))
        AND state = ANY (CAST(:states AS text[])) AND state IN ('queued', 'leased') ORDER BY id FOR NO KEY UPDATE)
    UPDATE items SET state = :state, reason = :reason, finished_at = clock_timestamp(), lease_until = NULL
    FROM held WHERE items.id = held.id
    """
)
_RESULTS = text(
    """
    WITH held AS (
        SELECT r.image_id, r.profile, g.current
        FROM unnest(CAST(:image_ids AS bigint[]), CAST(:currents AS boolean[])) AS g (image_id, current)
        JOIN results r ON r.image_id = g.image_id ORDER BY r.image_id, r.profile FOR NO KEY UPDATE OF r)
    UPDATE results r SET current = held.current
    FROM held WHERE r.image_id = held.image_id AND r.profile = held.profile AND r.current <> held.current
    """
)


def add_images(c: Connection, job: Job, refs: Sequence[ImageRef]) -> list[int]:
    """Take news of written objects into a job; return the ids of the items that now wait for a worker.

    Older news never replace newer, whatever the order of arrival; a newer version ends the waiting items of older
    ones, in every job. What has a final result under the job's profile is `scored` at once, what has a provisional
    one goes on to the teacher. Naming an image again adds nothing. Raises `Conflict` if the job has ended.
    """
    if not refs:
        return []
    lock_buckets(c, (ref.bucket for ref in refs))
    if job.kind is not JobKind.WATCH:
        _require_open(c, job)
    return put_images(c, job, [(ref, None) for ref in refs])


def put_images(c: Connection, job: Job, puts: Sequence[tuple[ImageRef, str | None]]) -> list[int]:
    """Do what `add_images` does for a caller that holds the buckets and the job, news first, oldest first.

    The second of a pair: the ETag that a worker came for when it met the first.
    """
    objects = read_objects(c, ((ref.bucket, ref.key) for ref, _ in puts))
    for ref, instead_of in puts:
        objects[ref.bucket, ref.key].put(ref, instead_of=instead_of)
    _store(c, objects)
    return _insert_items(c, job, [(objects[ref.bucket, ref.key], ref.etag) for ref, _ in puts])


def remove_objects(c: Connection, removals: Sequence[Removal]) -> int:
    """Take in news of removed objects; return how many were there until then.

    Ends the waiting and the leased items of the object (or of the one version named), so that nothing scores what
    is gone. Older news than what is known change nothing.
    """
    lock_buckets(c, (removal.bucket for removal in removals))
    objects = read_objects(c, ((removal.bucket, removal.key) for removal in removals))
    taken_out = sum(objects[removal.bucket, removal.key].remove(removal) for removal in removals)
    _store(c, objects)
    return taken_out


def _require_open(c: Connection, job: Job) -> None:
    held = lock_jobs(c, [job.id]).get(job.id)
    if held is None or held.state not in _OPEN:
        raise Conflict(f"job {job.id} has ended: nothing can be added", hint="submit a new job")


def _store(c: Connection, objects: Mapping[Key, Object]) -> None:
    """Write what versions became, and carry it over to the items and results of all jobs."""
    write_objects(c, objects.values())
    changed = [(known, v) for known in objects.values() for v in known.versions.values() if v.changed]
    gone = [
        v
        for known in {id(known): known for known, _ in changed if known.gone}.values()
        for v in known.versions.values()
    ]
    gone += [v for known, v in changed if v.deleted and not known.gone]
    _end_items(c, gone, ["queued", "leased"], ItemState.DELETED, Reason.OBJECT_DELETED)
    replaced = [v for _, v in changed if v.was_current and not v.current and not v.deleted]
    _end_items(c, replaced, ["queued"], ItemState.SUPERSEDED, Reason.NEWER_VERSION)
    turned = [v for _, v in changed if v.current != v.was_current]
    if turned:
        c.execute(_RESULTS, {"image_ids": [v.id for v in turned], "currents": [v.current for v in turned]})


def _end_items(c: Connection, versions: Sequence[Version], states: list[str], end: ItemState, reason: Reason) -> None:
    if versions:
        c.execute(_END, {"image_ids": [v.id for v in versions], "states": states, "state": end, "reason": reason})


def _insert_items(c: Connection, job: Job, named: Sequence[tuple[Object, str]]) -> list[int]:
    fates = {known.versions[etag].id: known.fate(etag) for known, etag in named}
    rows = c.execute(
        _INSERT_ingest,
        {
            "job_id": job.id,
            "profile": job.profile,
            "queue": job.queue,
            "image_ids": list(fates),
            "fates": list(fates.values()),
        },
    )
    return sorted(row.id for row in rows if row.state == ItemState.QUEUED)
