"""News of access: the objects whose bytes may be had now, restored from an archive or with other permissions."""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import BigInteger, Connection, Text, any_, select, text, update

from dpiqa.events import Access
from dpiqa.storage.columns import array, arrays
from dpiqa.storage.images import lock_buckets
from dpiqa.storage.tables import images
from dpiqa.storage.version_rows import read_ref
from dpiqa.types import REOPENED_BY_NEWS, ImageRef

# Returns the versions that news are about and that a worker reads now, in any job. Raw: as CURRENT_VERSIONS.
HELD_VERSIONS = text(
    """
    SELECT i.id FROM unnest(:buckets, :keys, :etags) AS n (bucket, key, etag)
    JOIN images i ON i.bucket = n.bucket AND i.key = n.key
        AND (i.etag = '' OR i.current AND n.etag IN ('', i.etag))
    WHERE EXISTS (SELECT FROM items t WHERE t.image_id = i.id AND t.state = 'leased')
    """
).bindparams(*arrays(buckets=Text, keys=Text, etags=Text))
_HELD = images.alias()
COUNT_NEWS = (
    update(images)
    .where(
        images.c.id.in_(
            select(_HELD.c.id)
            .where(_HELD.c.id == any_(array("held", BigInteger)))
            .order_by(_HELD.c.id)
            .with_for_update(key_share=True)
        )
    )
    .values(access_news=images.c.access_news + 1)
)
# Returns the current versions of named keys, each with whether a watch has an item of it that could not be read. Raw:
# one look-up by the unique key per watch of the bucket and image.
CURRENT_VERSIONS = text(
    """
    SELECT n.position, i.bucket, i.key, i.etag, i.version_id, i.size, i.last_modified, i.sequencer, EXISTS (
        SELECT FROM jobs j JOIN items t ON t.job_id = j.id AND t.image_id = i.id
        WHERE j.bucket = i.bucket AND j.kind = 'watch' AND t.reason = ANY (:reasons)) AS failed
    FROM unnest(:positions, :buckets, :keys) AS n (position, bucket, key)
    JOIN images i ON i.bucket = n.bucket AND i.key = n.key AND i.current
    """
).bindparams(*arrays(positions=BigInteger, buckets=Text, keys=Text, reasons=Text))


def find_readable(c: Connection, news: Sequence[Access]) -> list[ImageRef]:
    """Return the objects to try again, to be added to the watches that cover them.

    An object that was restored is one in any case; where the ledger does not know it, by its key alone. One whose
    permissions or tags changed is one only where a watch could not read it. News of an old version say nothing about
    the current one.

    A worker that reads the object now may have been refused before the news: they are counted in the image's row, and
    the recorder, which holds the row, compares. What it recorded before that is found as any other failure.
    """
    if not news:
        return []
    buckets, keys = [one.bucket for one in news], [one.key for one in news]
    held = c.execute(HELD_VERSIONS, {"buckets": buckets, "keys": keys, "etags": [one.etag for one in news]})
    image_ids = sorted(set(held.scalars()))
    if image_ids:
        lock_buckets(c, buckets)
        c.execute(COUNT_NEWS, {"held": image_ids})
    values = {
        "positions": list(range(len(news))),
        "buckets": buckets,
        "keys": keys,
        "reasons": sorted(REOPENED_BY_NEWS),
    }
    rows = {row.position: row for row in c.execute(CURRENT_VERSIONS, values)}
    found: list[ImageRef] = []
    for position, one in enumerate(news):
        row = rows.get(position)
        if row is None and one.is_restored:
            found.append(ImageRef(bucket=one.bucket, key=one.key, etag=""))
        elif row is not None and one.etag in ("", row.etag) and (one.is_restored or row.failed):
            found.append(replace(read_ref(row), last_modified=None, sequencer=None))  # says nothing about its time
    return found
