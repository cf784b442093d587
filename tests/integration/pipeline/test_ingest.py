import pytest

from dpiqa.doorbell import Queue
from dpiqa.events import Access, Parsed, parse
from dpiqa.pipeline.ingest import ingest
from dpiqa.profiles import load_profile
from dpiqa.storage.engine import transaction
from dpiqa.storage.images import add_images
from dpiqa.storage.jobs import create_job
from dpiqa.types import ImageRef, JobKind, Removal

SMOKE = load_profile("smoke")


def created(*keys, bucket="photos"):
    return Parsed(images=[ImageRef(bucket=bucket, key=key, etag=f"etag of {key}") for key in keys])


def take_in(archive, *parsed):
    return ingest(archive.engine, archive.doorbell, parsed, archive.settings, SMOKE)


def test_events_start_a_watch_and_ring_after_the_commit(archive):
    ingested = take_in(archive, created("a.jpg", "b.jpg"), created("c.jpg"))
    assert archive.rows("SELECT kind, bucket, prefix, profile FROM jobs") == [("watch", "photos", "", "smoke@1")]
    assert sorted(archive.doorbell.rung(Queue.LIVE)) == sorted(ingested.items)
    assert len(ingested.items) == 3


def test_the_same_event_twice_is_one_item(archive):
    take_in(archive, created("a.jpg"))
    assert take_in(archive, created("a.jpg")).items == []
    assert archive.rows("SELECT count(*) FROM items") == [(1,)]


def test_each_watch_that_fits_gets_the_image(archive):
    with transaction(archive.engine) as c:
        for prefix in ("in/", "in/here/", "out/"):
            create_job(c, kind=JobKind.WATCH, bucket="photos", prefix=prefix, profile=SMOKE, queue=Queue.LIVE)
    take_in(archive, created("in/here/a.jpg", "in/b.jpg"))
    rows = archive.rows("SELECT j.prefix, count(*) FROM items i JOIN jobs j ON j.id = i.job_id GROUP BY 1 ORDER BY 1")
    assert rows == [("in/", 2), ("in/here/", 1)]


def test_without_auto_watch_an_image_has_no_watch(archive):
    archive.settings = archive.settings.model_copy(update={"auto_watch": False})
    ingested = take_in(archive, created("a.jpg"))
    assert (ingested.items, ingested.unwatched) == ([], 1)
    assert archive.rows("SELECT count(*) FROM jobs") == [(0,)]


def test_a_removal_ends_the_waiting_item(archive):
    take_in(archive, created("a.jpg"))
    ingested = take_in(archive, Parsed(removals=[Removal(bucket="photos", key="a.jpg")]))
    assert ingested.removed == 1
    assert archive.rows("SELECT state, reason FROM items") == [("deleted", "object_deleted")]


def test_a_broken_doorbell_is_no_error(archive):
    archive.doorbell.broken = True
    assert len(take_in(archive, created("a.jpg")).items) == 1


def test_a_parsed_body_goes_through(archive):
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "eventTime": "2026-01-01T00:00:00Z",
        "s3": {
            "bucket": {"name": "photos"},
            "object": {"key": "a+b%2B.jpg", "size": 3, "eTag": "e", "sequencer": "01"},
        },
    }
    take_in(archive, parse({"Records": [record]}))
    assert archive.rows("SELECT key, etag FROM images") == [("a b+.jpg", "e")]


@pytest.mark.parametrize("n", [0, 1])
def test_nothing_to_say_changes_nothing(archive, n):
    assert take_in(archive, *[Parsed()] * n).items == []
    assert archive.rows("SELECT count(*) FROM jobs") == [(0,)]


APPLES = ("in/._a.jpg", "in/.DS_Store", "in/Thumbs.db", "in/notes.txt")


def test_what_is_by_name_no_image_is_passed_over_and_counted(archive):
    take_in(archive, created("first.jpg"))
    ingested = take_in(archive, created("in/a.jpg", *APPLES))
    assert (len(ingested.items), ingested.passed_over) == (1, 4)
    assert archive.rows("SELECT key FROM images ORDER BY key") == [("first.jpg",), ("in/a.jpg",)]
    assert archive.rows("SELECT events, passed_over FROM watches") == [(6, 4)]


def test_nothing_but_apples_files_starts_no_watch(archive):
    ingested = take_in(archive, created(*APPLES))
    assert (ingested.items, ingested.unwatched, ingested.passed_over) == ([], 0, 4)
    assert archive.rows("SELECT count(*) FROM jobs") == [(0,)]


def test_a_key_that_the_ledger_knows_is_not_passed_over(archive):
    """Somebody submitted it whatever its name: its new version must not go unnoticed."""
    take_in(archive, created("a.jpg"))
    with transaction(archive.engine) as c:
        job = create_job(c, kind=JobKind.LIST, bucket="photos", prefix="", profile=SMOKE, queue=Queue.BULK, keys=["k"])
        add_images(c, job, [ImageRef(bucket="photos", key="picture.txt", etag="old")])
    ingested = take_in(archive, created("picture.txt"))
    assert (len(ingested.items), ingested.passed_over) == (1, 0)


def news(key, *, etag=None, is_restored=True):
    return Parsed(
        access=[
            Access(bucket="photos", key=key, etag=f"etag of {key}" if etag is None else etag, is_restored=is_restored)
        ]
    )


def end(archive, reason, state="rejected"):
    ended = f"state = '{state}', reason = '{reason}', finished_at = clock_timestamp()"
    archive.rows(f"UPDATE items SET {ended} RETURNING id")


@pytest.mark.parametrize("reason", ["archived", "access_denied"])
@pytest.mark.parametrize("is_restored", [True, False])
def test_news_of_access_open_what_could_not_be_read(archive, reason, is_restored):
    (item,) = take_in(archive, created("a.jpg")).items
    end(archive, reason)
    assert take_in(archive, news("a.jpg", is_restored=is_restored)).items == [item]
    assert archive.rows("SELECT state, reason FROM items") == [("queued", None)]
    assert take_in(archive, news("a.jpg", is_restored=is_restored)).items == []


def test_news_of_access_change_nothing_else(archive):
    take_in(archive, created("a.jpg", "b.jpg"))
    end(archive, "corrupt")
    before = archive.rows("SELECT state, reason, attempt FROM items ORDER BY id")
    for is_restored in (True, False):
        take_in(archive, news("a.jpg", is_restored=is_restored), news("b.jpg", etag="an older one"))
    take_in(archive, news("unknown.jpg", is_restored=False))
    assert archive.rows("SELECT state, reason, attempt FROM items ORDER BY id") == before
    assert archive.rows("SELECT count(*) FROM images WHERE NOT current") == [(0,)]


def test_an_object_that_is_restored_and_was_never_seen_is_read(archive):
    take_in(archive, created("a.jpg"))
    assert len(take_in(archive, news("cold.jpg")).items) == 1
    assert archive.rows("SELECT etag FROM images WHERE key = 'cold.jpg'") == [("",)]
