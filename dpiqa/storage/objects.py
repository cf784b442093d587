"""Reads and writes the versions of keys, so that `versions` can decide on them without a database.

Whoever decides what is current holds the bucket's lock; whoever changes a version holds its row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from dpiqa.storage.locks import Lock, lock_names
from dpiqa.storage.rows import Claim
from dpiqa.storage.versions import Object, Version
from dpiqa.types import ImageRef

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
