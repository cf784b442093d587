"""One bucket that is slow, forbidden or failing, beside a good one, in one worker."""

import threading
import time
from dataclasses import replace

import pytest
from sqlalchemy import text
from support.photos import png

from dpiqa.doorbell import Queue
from dpiqa.errors import DpiqaError, ImageRejected, StoreUnavailable
from dpiqa.pipeline.buckets import IN_A_ROW, LATEST, Buckets
from dpiqa.profiles import load_profile
from dpiqa.storage.engine import transaction
from dpiqa.storage.images import add_images
from dpiqa.storage.jobs import create_job
from dpiqa.storage.postponed_buckets import read_postponed
from dpiqa.types import JobKind, Reason

PER_STATE = (
    "SELECT m.bucket, i.state, count(*) AS n FROM items i JOIN images m ON m.id = i.image_id GROUP BY 1, 2 ORDER BY 1"
)


class TwoBuckets:
    """A store whose bucket `bad` does what `bad()` does before it answers."""

    def __init__(self, store):
        self.store = store
        self.bad = lambda: None
        self.fetches = 0

    def get(self, ref, max_bytes):
        if ref.bucket == "bad":
            self.fetches += 1
            self.bad()
        return self.store.get(ref, max_bytes)


@pytest.fixture
def system(archive):
    """Give an archive of two buckets, and its feeder rings into the worker."""
    archive.store = TwoBuckets(archive.store)
    archive.settings = archive.settings.model_copy(update={"lease_seconds": 30.0})
    for number in range(40):
        (archive.folder / f"{number:03}.png").write_bytes(png(0.9))
    return archive


def submit(system, bucket, n=40, queue=Queue.BULK):
    refs = [replace(ref, bucket=bucket) for page in system.store.store.list("", "") for ref in page][:n]
    with transaction(system.engine) as c:
        job = create_job(c, kind=JobKind.WATCH, bucket=bucket, prefix="", profile=load_profile("smoke"), queue=queue)
        return add_images(c, job, refs)


def work(system, worker, ended):
    """Answer the rings as four threads of Celery do, until `ended`."""
    taken = iter(range(10**6))
    lock = threading.Lock()
    worker.feeder.start()

    def answer():
        position = None
        while not ended.is_set():
            if position is None:
                with lock:
                    position = next(taken)
            if position >= len(system.doorbell.rings):
                time.sleep(0.01)
                continue
            queue, items = system.doorbell.rings[position]
            position = None
            worker.score(list(items), queue)

    for _ in range(4):
        system.in_thread(answer)
    system.stack.callback(ended.set)


def states(system, bucket):
    return {row.state: row.n for row in system.rows(PER_STATE) if row.bucket == bucket}


def until(true, seconds=30):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_bucket_that_hangs_holds_up_no_other(system):
    hanging, ended = threading.Event(), threading.Event()
    system.store.bad = lambda: hanging.wait(60)
    submit(system, "bad")
    worker = system.worker()
    work(system, worker, ended)
    until(lambda: system.store.fetches >= 2)
    time.sleep(3)  # the first chunks are stuck, and the bucket counts as slow
    started = time.monotonic()
    submit(system, "good")
    until(lambda: states(system, "good") == {"scored": 40})
    assert time.monotonic() - started < 15
    live = submit(system, "other", 3, Queue.LIVE)
    until(lambda: states(system, "other") == {"scored": len(live)}, 10)
    assert states(system, "bad").get("leased", 0) <= 3 * system.settings.chunk_items
    hanging.set()
    until(lambda: states(system, "bad") == {"scored": 40})


def test_a_bucket_that_does_not_answer_is_postponed_for_all_workers_and_comes_back(system):
    down, ended = threading.Event(), threading.Event()

    def bad():
        if not down.is_set():
            raise StoreUnavailable("S3 answers SlowDown")

    system.store.bad = bad
    submit(system, "bad")
    worker = system.worker()
    work(system, worker, ended)
    until(lambda: system.rows("SELECT bucket FROM postponed_buckets") == [("bad",)])
    submit(system, "good")
    until(lambda: states(system, "good") == {"scored": 40})
    assert states(system, "bad") == {"queued": 40}
    n_fetches = system.store.fetches
    (row,) = system.rows("SELECT times, detail FROM postponed_buckets")
    assert row.detail == "StoreUnavailable: S3 answers SlowDown"
    time.sleep(2)
    assert system.store.fetches - n_fetches <= 3  # its probes
    down.set()
    until(lambda: states(system, "bad") == {"scored": 40}, 60)
    until(lambda: system.rows("SELECT bucket FROM postponed_buckets") == [])


def test_a_forbidden_bucket_is_postponed_before_all_of_its_images_are_rejected(system):
    ended = threading.Event()

    def bad():
        raise ImageRejected(Reason.ACCESS_DENIED, "the store denied access")

    system.store.bad = bad
    submit(system, "bad")
    work(system, system.worker(), ended)
    until(lambda: system.rows("SELECT bucket FROM postponed_buckets") == [("bad",)])
    ended.set()
    assert states(system, "bad")["queued"] > 0


def exchange(system, *copies):
    for copy in copies:
        with transaction(system.engine) as c:
            copy.exchange(c)


def test_workers_share_what_they_know_and_delays_grow(archive):
    first, second = Buckets(), Buckets()
    for _ in range(IN_A_ROW):
        first.observe("b", StoreUnavailable("503"))
    assert 0 < first.closed()["b"] <= 5
    with pytest.raises(StoreUnavailable, match=r"bucket b is not read for . s: .*503"):
        first.require_open("b")
    assert second.closed() == {}
    exchange(archive, first, second)
    assert 3 < second.closed()["b"] < 6.5
    second.require_open("c")
    delays = []
    for _ in range(6):
        archive.rows("UPDATE postponed_buckets SET until = clock_timestamp() - interval '1 s' RETURNING 1")
        exchange(archive, first, second)
        assert second.closed() == {}
        assert second.is_probed("b")
        second.observe("b", StoreUnavailable("503"))  # one failed probe is enough
        exchange(archive, second, first)
        delays.append(first.closed()["b"])
    assert delays[-1] > 40
    assert max(delays) < 76
    with transaction(archive.engine) as c:
        (row,) = read_postponed(c)
    assert (row.times, row.bucket) == (7, "b")
    archive.rows("UPDATE postponed_buckets SET until = clock_timestamp() RETURNING 1")
    exchange(archive, first, second)
    for _ in range(3):
        first.observe("b", None)
    exchange(archive, first, second)
    assert not second.is_probed("b")
    assert archive.rows("SELECT 1 FROM postponed_buckets") == []


def test_single_failures_postpone_nothing():
    buckets = Buckets()
    for _ in range(20):
        buckets.observe("b", StoreUnavailable("503"))
        buckets.observe("b", None)
        buckets.observe("c", ImageRejected(Reason.CORRUPT))
    for _ in range(IN_A_ROW + 3):  # objects that nobody may read, among others
        buckets.observe("d", ImageRejected(Reason.ACCESS_DENIED))
    buckets.observe("d", None)
    assert buckets.closed() == {}
    for _ in range(LATEST):
        buckets.observe("d", ImageRejected(Reason.ACCESS_DENIED))
    assert set(buckets.closed()) == {"d"}


def test_a_postponement_that_could_not_be_written_is_written_later(archive):
    buckets = Buckets()
    for _ in range(IN_A_ROW):
        buckets.observe("b", StoreUnavailable("503"))
    with transaction(archive.engine) as c:
        c.execute(text("ALTER TABLE postponed_buckets RENAME TO elsewhere"))
    with pytest.raises(DpiqaError):
        exchange(archive, buckets)
    with transaction(archive.engine) as c:
        c.execute(text("ALTER TABLE elsewhere RENAME TO postponed_buckets"))
    exchange(archive, buckets)
    assert archive.rows("SELECT bucket FROM postponed_buckets") == [("b",)]


def test_what_crashed_a_worker_is_tried_alone_in_a_slow_bucket_too(system):
    hanging = threading.Event()
    system.store.bad = lambda: hanging.wait(60)
    ids = submit(system, "bad", 20)
    worker = system.worker()
    worker.score(ids[:8])  # stuck: the bucket counts as slow from now on
    system.rows("UPDATE items SET crashes = 1 WHERE id = :id RETURNING 1", id=ids[-1])
    worker.score(ids[8:12])
    assert states(system, "bad").get("leased", 0) < 12
    worker.score(ids[-1:])
    hanging.set()
    until(lambda: worker.score(ids[-1:]) == 1)
    until(lambda: system.rows("SELECT state FROM items WHERE id = :id", id=ids[-1]) == [("scored",)])
    until(lambda: states(system, "bad").get("scored", 0) >= 7)
