"""Reconciliations with an S3 Inventory: an older picture of the bucket, in no order."""

import gzip
import hashlib
import json
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from support.photos import png
from support.reconciling import Side, counted


@pytest.fixture
def side(archive, s3):
    return Side(archive, s3)


class Made:
    """An inventory of the bucket as it is now, in two CSV files whose keys are not in order."""

    def __init__(self, side, *, at=None, without=()):
        self.side = side
        refs = [ref for page in side.store.list(side.s3.name, "") for ref in page if ref.key not in without]
        files = []
        for number, part in enumerate((refs[1::2], refs[0::2])):
            rows = "".join(
                f'"{side.s3.name}","{quote(ref.key)}","{ref.size}","{ref.last_modified:%Y-%m-%dT%H:%M:%S.000Z}","{ref.etag}"\n'
                for ref in reversed(part)
            )
            body = gzip.compress(rows.encode())
            side.s3.put(f"inventory/{number}.csv.gz", body)
            files.append({"key": f"inventory/{number}.csv.gz", "MD5checksum": hashlib.md5(body).hexdigest()})
        at = at or datetime.now(UTC) + timedelta(seconds=1)
        manifest = {
            "sourceBucket": side.s3.name,
            "destinationBucket": f"arn:aws:s3:::{side.s3.name}",
            "fileFormat": "CSV",
            "fileSchema": "Bucket, Key, Size, LastModifiedDate, ETag",
            "creationTimestamp": str(int(at.timestamp() * 1000)),
            "files": files,
        }
        side.s3.put("inventory/manifest.json", json.dumps(manifest).encode())
        self.address = f"s3://{side.s3.name}/inventory/manifest.json"


def test_missing_changed_and_deleted_objects_are_found(side):
    for name in ("a", "b ü", "c", "d"):
        side.s3.put(f"in/{name}.png", png(0.2))
    side.announce()
    assert side.score_all() == 4
    time.sleep(1.1)  # inventories name times in seconds: an overwrite within the same one cannot be told
    side.s3.put("in/a.png", png(0.8))
    side.s3.delete("in/c.png")
    side.s3.put("in/e.png", png(0.3))
    r = side.reconcile("in/", inventory=Made(side).address)
    assert (r.state, r.error, r.loaded) == ("complete", None, 4)
    assert counted(r, "missing", "changed", "deleted", "marked", "unchanged") == [1, 1, 1, 1, 2]
    assert side.rows("SELECT key FROM images WHERE deleted_at IS NOT NULL") == [("in/c.png",)]
    assert side.rows("SELECT count(*) FROM staged_objects") == [(0,)]


def test_an_object_that_is_in_the_bucket_is_not_marked(side):
    for name in "ab":
        side.s3.put(f"{name}.png", png(0.2))
    side.announce()
    r = side.reconcile(inventory=Made(side, without={"a.png"}).address)
    assert counted(r, "deleted", "marked", "kept") == [1, 0, 1]
    assert side.rows("SELECT count(*) FROM images WHERE current") == [(2,)]


def test_what_events_said_after_the_inventory_was_made_counts(side):
    for name in "ab":
        side.s3.put(f"{name}.png", png(0.2))
    made = Made(side, at=datetime.now(UTC) - timedelta(hours=1))
    side.s3.put("a.png", png(0.9))
    side.s3.put("c.png", png(0.9))
    side.announce()
    r = side.reconcile(inventory=made.address)
    assert counted(r, "deleted", "missing", "changed") == [0, 0, 0]
    assert side.rows("SELECT count(*) FROM images WHERE current AND key IN ('a.png', 'b.png', 'c.png')") == [(3,)]


def test_lost_rows_mark_nothing(side):
    side.s3.put("a.png", png(0.2))
    side.s3.put("b.png", png(0.2))
    made = Made(side)
    side.announce()

    def crash(r):
        if r.state == "loading":
            side.rows("DELETE FROM staged_objects RETURNING 1")

    r = side.reconciler(progress=crash).run(side.request(inventory=made.address).id)
    assert r.state == "failed"
    assert "lost rows of the inventory" in r.error
    assert side.rows("SELECT bool_and(current) FROM images") == [(True,)]


def test_an_inventory_of_another_bucket_fails(side):
    side.s3.put("a.png", png(0.2))
    made = Made(side)
    manifest = json.loads(side.s3.client.get_object(Bucket=side.s3.name, Key="inventory/manifest.json")["Body"].read())
    side.s3.put("inventory/manifest.json", json.dumps(manifest | {"sourceBucket": "other"}).encode())
    assert "is an inventory of bucket other" in side.reconcile(inventory=made.address).error
