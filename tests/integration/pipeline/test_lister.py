import threading
import uuid

import pytest
from support.ledger import ref

from dpiqa.doorbell import Queue
from dpiqa.errors import ConfigurationError, StoreUnavailable
from dpiqa.objects import folder
from dpiqa.pipeline import lister
from dpiqa.pipeline.lister import batches, read_ahead
from dpiqa.profiles import load_profile
from dpiqa.sources.selection import Selection
from dpiqa.sources.spec import Tally
from dpiqa.storage.engine import transaction
from dpiqa.storage.jobs import create_job
from dpiqa.types import JobKind


@pytest.fixture
def submit(archive, monkeypatch):
    """Give a function that submits 25 objects, listed in pages of ten."""
    monkeypatch.setattr(folder, "_PAGE", 10)
    monkeypatch.setattr(lister, "BATCH_REFS", 10)
    for number in range(25):
        (archive.folder / f"{number:02}").write_bytes(b"x")

    def submit():
        with transaction(archive.engine) as c:
            return create_job(
                c, kind=JobKind.PREFIX, bucket="b", prefix="", profile=load_profile("smoke"), queue=Queue.BULK
            )

    return submit


def state(archive):
    return archive.rows("SELECT state, cursor FROM jobs")[0]


def test_a_prefix_becomes_items_and_is_rung_in_chunks(archive, submit):
    archive.list_job(submit().id)
    assert state(archive) == ("running", "24")
    items = [row.id for row in archive.rows("SELECT id FROM items ORDER BY id")]
    assert len(items) == 25
    assert sorted(archive.doorbell.rung(Queue.BULK)) == items
    assert max(len(ids) for _, ids in archive.doorbell.rings) == archive.settings.chunk_items


def test_only_the_window_is_rung(archive, submit):
    archive.settings = archive.settings.model_copy(update={"window_items": 12})
    archive.list_job(submit().id)
    assert len(archive.doorbell.rung(Queue.BULK)) == 12
    assert archive.rows("SELECT count(*) FROM items") == [(25,)]


class Dying:
    """A store whose process dies after some pages."""

    def __init__(self, store, pages, error):
        self.store, self.pages, self.error = store, pages, error

    def list(self, bucket, prefix, start_after=None):
        for number, page in enumerate(self.store.list(bucket, prefix, start_after)):
            if number == self.pages:
                raise self.error
            yield page


def test_a_killed_listing_goes_on_after_its_last_page(archive, submit):
    archive.settings = archive.settings.model_copy(update={"lease_seconds": 0.3})
    job = submit()
    with pytest.raises(SystemExit):
        archive.list_job(job.id, Dying(archive.store, 2, SystemExit()))
    assert state(archive) == ("listing", "19")
    archive.list_job(job.id)  # the dead lister's lease still runs
    assert state(archive) == ("listing", "19")
    archive.rows("SELECT pg_sleep(0.4)")
    seen = []
    real = archive.store.list
    archive.store.list = lambda bucket, prefix, start_after=None: (
        seen.append(start_after) or real(bucket, prefix, start_after)
    )
    archive.list_job(job.id)
    assert state(archive) == ("running", "24")
    assert seen == ["19"]
    assert archive.rows("SELECT count(*), count(DISTINCT image_id) FROM items") == [(25, 25)]


def test_an_absent_store_leaves_the_job_to_be_listed_later(archive, submit):
    job = submit()
    archive.list_job(job.id, Dying(archive.store, 1, StoreUnavailable("S3 does not answer")))
    assert state(archive) == ("listing", "09")


def test_a_bucket_that_cannot_be_listed_fails_the_job(archive, submit):
    archive.list_job(
        submit().id, Dying(archive.store, 0, ConfigurationError("there is no bucket b", hint="check its name"))
    )
    assert archive.rows("SELECT state, error FROM jobs") == [("failed", "there is no bucket b (check its name)")]


def test_listing_stops_between_pages_when_the_worker_does(archive, submit):
    stopping = threading.Event()
    job = submit()
    stopping.set()
    archive.list_job(job.id, stopping=stopping)
    assert state(archive) == ("listing", None)


def test_a_job_that_is_listed_or_unknown_is_left_alone(archive, submit):
    job = submit()
    archive.list_job(job.id)
    del archive.doorbell.rings[:]
    archive.list_job(job.id)
    archive.list_job(uuid.uuid4())
    assert archive.doorbell.rings == []


def selections(*pages):
    """One selection per page of one-letter keys; the cursor is the last key."""
    return [Selection([ref(key) for key in page], page[-1:] or None, Tally(taken=n)) for n, page in enumerate(pages)]


def test_the_first_objects_come_at_once_and_later_pages_are_joined(monkeypatch):
    """Cursor and tally are those of the last page that was joined."""
    monkeypatch.setattr(lister, "BATCH_REFS", 5)
    joined = batches(selections("", "ab", "cd", "ef", "gh", "i"))
    assert [("".join(r.key for r in one.refs), one.cursor, one.tally.taken) for one in joined] == [
        ("ab", "b", 1),
        ("cdefgh", "h", 4),
        ("i", "i", 5),
    ]


def test_what_was_read_before_an_error_is_added_before_it_is_raised():
    def pages():
        yield from selections("a", "b")
        raise StoreUnavailable("S3 does not answer")

    read = read_ahead(batches(pages()))
    assert [next(read).cursor, next(read).cursor] == ["a", "b"]
    with pytest.raises(StoreUnavailable):
        next(read)


def test_what_a_slow_source_yields_is_added_at_least_every_second(monkeypatch):
    monkeypatch.setattr(lister, "BATCH_SECONDS", 0.0)
    assert [one.cursor for one in batches(selections("a", "", "b"))] == ["a", None, "b"]


def test_the_next_value_is_read_while_the_caller_works_on_the_last():
    second = threading.Event()

    def values():
        yield 1
        second.set()
        yield 2

    read = read_ahead(values())
    assert next(read) == 1
    assert second.wait(5)
    assert list(read) == [2]
