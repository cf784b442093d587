"""Jobs of named keys: each key becomes an item, with a reason where it cannot be scored."""

import pytest
from support.photos import png

from dpiqa.doorbell import Queue
from dpiqa.errors import StoreUnavailable
from dpiqa.pipeline import job_source
from dpiqa.profiles import load_profile
from dpiqa.storage.engine import transaction
from dpiqa.storage.jobs import create_job
from dpiqa.storage.listings import read_keys, unlisted_jobs
from dpiqa.types import JobKind


def make_job(c, keys):
    return create_job(
        c,
        kind=JobKind.LIST,
        bucket="b",
        prefix="",
        profile=load_profile("smoke"),
        queue=Queue.BULK,
        keys=keys,
        idempotency_key=" ".join(keys),
    )


def submit(archive, keys):
    with transaction(archive.engine) as c:
        job = make_job(c, keys)
        assert job.id in unlisted_jobs(c)  # the sweeper finds it, should the doorbell fail
    return job


def states(archive):
    rows = archive.rows("SELECT key, state, reason FROM items JOIN images ON images.id = image_id ORDER BY key")
    return {row.key: (row.state, row.reason) for row in rows}


def test_named_keys_are_scored_and_missing_ones_say_so(archive):
    for name in ("a.png", "b.png", "not-named.png"):
        (archive.folder / name).write_bytes(png(0.9))
    (archive.folder / "bad.png").write_bytes(b"no image")
    archive.list_job(submit(archive, ["b.png", "gone.png", "a.png", "bad.png", "a.png"]).id)
    archive.worker().score(archive.doorbell.rung(Queue.BULK))
    assert states(archive) == {
        "a.png": ("scored", None),
        "b.png": ("scored", None),
        "bad.png": ("rejected", "not_an_image"),
        "gone.png": ("rejected", "not_found"),
    }
    assert archive.rows("SELECT state FROM jobs") == [("complete",)]


class Failing:
    """A store that answers a number of look-ups, then no more."""

    def __init__(self, store, answers):
        self.store, self.left = store, answers

    def head(self, bucket, key, version_id=None):
        self.left -= 1
        if self.left < 0:
            raise StoreUnavailable("S3 does not answer")
        return self.store.head(bucket, key, version_id)


def test_a_listing_that_was_cut_off_goes_on_after_its_last_page(archive, monkeypatch):
    monkeypatch.setattr(job_source, "PAGE_KEYS", 4)
    names = [f"{number:02}.png" for number in range(10)]
    for name in names:
        (archive.folder / name).write_bytes(png(0.2))
    job = submit(archive, names)
    archive.list_job(job.id, Failing(archive.store, 4))
    assert archive.rows("SELECT state, cursor FROM jobs") == [("listing", "4")]
    assert len(states(archive)) == 4
    archive.rows("UPDATE jobs SET listing_lease_until = clock_timestamp() - interval '1 s' RETURNING id")
    again = Failing(archive.store, 6)
    archive.list_job(job.id, again)
    assert again.left == 0  # the first page was not looked up twice
    assert archive.rows("SELECT state FROM jobs") == [("running",)]
    assert len(states(archive)) == 10


@pytest.mark.parametrize(("after", "expected"), [(0, [(1, "b"), (2, "a")]), (2, [(3, "c")]), (3, [])])
def test_keys_keep_their_order_and_come_once(archive, after, expected):
    job = submit(archive, ["b", "a", "b", "c"])
    with transaction(archive.engine) as c:
        assert make_job(c, ["b", "a", "b", "c"]).id == job.id  # a repeated request
        assert read_keys(c, job.id, after=after, limit=2) == expected


class FailingAt:
    """A store that fails at some keys."""

    def __init__(self, store, keys):
        self.store, self.keys = store, keys

    def head(self, bucket, key, version_id=None):
        if key in self.keys:
            raise StoreUnavailable("500 InternalError")
        return self.store.head(bucket, key, version_id)


def test_a_key_at_which_the_store_fails_holds_up_no_other(archive):
    names = [f"{number:02}.png" for number in range(3)]
    for name in names:
        (archive.folder / name).write_bytes(png(0.2))
    job = submit(archive, names)
    archive.list_job(job.id, FailingAt(archive.store, {"01.png"}))
    archive.worker().score(archive.doorbell.rung(Queue.BULK))
    assert archive.rows("SELECT state, listed_at IS NOT NULL FROM jobs") == [("running", True)]
    assert archive.rows("SELECT key, etag = '' FROM images WHERE etag = ''") == [("01.png", True)]


def test_a_single_key_at_which_the_store_always_fails_is_added_in_the_end(archive, monkeypatch):
    monkeypatch.setattr(job_source, "PATIENT_STARTS", 3)
    job = submit(archive, ["00.png"])
    for attempt in range(1, 4):
        archive.list_job(job.id, FailingAt(archive.store, {"00.png"}))
        assert len(states(archive)) == (attempt == 3)
        archive.rows("UPDATE jobs SET listing_lease_until = clock_timestamp() - interval '1 s' RETURNING id")
