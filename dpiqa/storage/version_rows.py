"""Rows of `images` as the versions of object keys: locked and read, and written back."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import BigInteger, Boolean, Connection, DateTime, Row, Text, text

from dpiqa.storage.columns import arrays
from dpiqa.storage.versions import ObjectVersions, Version
from dpiqa.types import ImageRef

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
# Locks every version of some keys, by id, and returns the positions (from 1) of the refs that differ from what is
# stored. `id`: of the current version with the ref's ETag, which the ref only makes newer; NULL where the versions must
# be compared. Absent: refs of unknown keys, those that say what is stored, and those without an ETag of an object that
# exists. Raw: OFFSET 0 keeps each look-up to one probe of the index; for thousands of keys the planner would read the
# whole table instead.
LOCK_KNOWN = text(
    """
    WITH named AS MATERIALIZED (
        SELECT * FROM unnest(:bucket, :key, :etag, :last_modified, :sequencer) WITH ORDINALITY
            AS v (bucket, key, etag, last_modified, sequencer, position)),
    found AS MATERIALIZED (
        SELECT named.*, i.id FROM named CROSS JOIN LATERAL (
            SELECT id FROM images WHERE bucket = named.bucket AND key = named.key OFFSET 0) AS i),
    locked AS MATERIALIZED (
        SELECT id, etag, current, news_at, sequencer FROM images WHERE id = ANY (ARRAY (SELECT id FROM found))
        ORDER BY id FOR NO KEY UPDATE),
    compared AS (
        SELECT f.position, i.id, i.sequencer, f.etag = '' AND (i.etag = '' OR i.current) AS is_same,
            f.etag <> '' AND f.etag = i.etag AND i.current AND f.sequencer IS NULL AS is_current,
            f.last_modified IS NULL OR f.last_modified <= i.news_at AS is_old
        FROM found f JOIN locked i ON i.id = f.id)
    SELECT position, max(id) FILTER (WHERE is_current) AS id, max(sequencer) FILTER (WHERE is_current) AS sequencer
    FROM compared GROUP BY position HAVING NOT coalesce(bool_or(is_same OR is_current AND is_old), false)
    """
).bindparams(*arrays(bucket=Text, key=Text, etag=Text, last_modified=DateTime(timezone=True), sequencer=Text))
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


def ref_columns(refs: Sequence[ImageRef]) -> dict[str, list[Any]]:
    """Return the columns of `images` that refs name, as arrays."""
    return {
        "bucket": [ref.bucket for ref in refs],
        "key": [ref.key for ref in refs],
        "etag": [ref.etag for ref in refs],
        "version_id": [ref.version_id for ref in refs],
        "size": [ref.size for ref in refs],
        "last_modified": [ref.last_modified for ref in refs],
        "sequencer": [ref.sequencer for ref in refs],
    }


def lock_known(c: Connection, refs: Sequence[ImageRef]) -> dict[int, Version | None]:
    """Lock all versions of the refs' keys; return, by position in `refs`, those that differ from what is stored.

    The version that a ref only makes newer, ready to be written; None where the versions of its key must be compared.
    """
    columns = ref_columns(refs)
    rows = c.execute(LOCK_KNOWN, columns).all()
    newer: dict[int, Version | None] = {}
    for row in rows:
        ref = refs[row.position - 1]
        newer[row.position - 1] = row.id and Version(
            ref=ref,
            current=True,
            observed_at=ref.last_modified,
            sequencer=row.sequencer,
            id=row.id,
            changed=True,
            was_current=True,
        )
    return newer


def lock_versions(c: Connection, keys: Iterable[Key]) -> dict[Key, ObjectVersions]:
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


def write_versions(c: Connection, versions: Iterable[Version]) -> None:
    """Store the versions that events changed; new ones get their ids."""
    changed = [version for version in versions if version.changed]
    # What stops being current goes first: a key never has two current versions, not even for a statement.
    for current in (False, True):
        stored = [version for version in changed if version.id is not None and version.current is current]
        if stored:
            more = {"id": [v.id for v in stored], "deleted": [v.deleted for v in stored]}
            c.execute(UPDATE_VERSIONS, _columns(stored) | more)
    new = {(v.ref.bucket, v.ref.key, v.ref.etag): v for v in changed if v.id is None}
    if new:
        for row in c.execute(INSERT_VERSIONS, _columns(list(new.values()))):
            new[row.bucket, row.key, row.etag].id = row.id


def _columns(versions: Sequence[Version]) -> dict[str, list[Any]]:
    return ref_columns([version.ref for version in versions]) | {
        "observed_at": [version.observed_at for version in versions],
        "sequencer": [version.sequencer for version in versions],
        "current": [version.current for version in versions],
    }
