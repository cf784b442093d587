import threading
import time
from concurrent.futures import ThreadPoolExecutor

from support.photos import png

from dpiqa.doorbell import Queue
from dpiqa.events import Parsed
from dpiqa.pipeline.feeder import Feeder
from dpiqa.pipeline.ingest import ingest
from dpiqa.profiles import load_profile
from dpiqa.storage.engine import transaction
from dpiqa.storage.jobs import create_job
from dpiqa.types import JobKind


def test_what_waits_is_rung_once(archive):
    ids = archive.add([0.1] * 20)
    feeder = Feeder(archive.engine, archive.doorbell, archive.settings)
    feeder.poll()
    feeder.poll()
    assert sorted(archive.doorbell.rung(Queue.LIVE)) == ids
    assert max(len(items) for _, items in archive.doorbell.rings) == archive.settings.chunk_items


def test_a_lost_message_is_sent_again(archive):
    settings = archive.settings.model_copy(update={"rering_seconds": 0.2})
    ids = archive.add([0.1])
    feeder = Feeder(archive.engine, archive.doorbell, settings)
    feeder.poll()
    time.sleep(0.3)
    feeder.poll()
    assert archive.doorbell.rung(Queue.LIVE) == ids * 2


def test_while_the_broker_is_unavailable_items_wait_and_are_rung_later(archive):
    settings = archive.settings.model_copy(update={"rering_seconds": 0.2})
    ids = archive.add([0.1])
    archive.doorbell.broken = True
    feeder = Feeder(archive.engine, archive.doorbell, settings)
    feeder.poll()
    archive.doorbell.broken = False
    time.sleep(0.3)
    feeder.poll()
    assert archive.doorbell.rung(Queue.LIVE) == ids


def test_jobs_that_no_worker_lists_are_rung(archive):
    with transaction(archive.engine) as c:
        job = create_job(c, kind=JobKind.PREFIX, bucket="b", prefix="", profile=load_profile("smoke"), queue=Queue.BULK)
    Feeder(archive.engine, archive.doorbell, archive.settings).poll()
    assert archive.doorbell.jobs == [str(job.id)]


def test_what_ended_long_ago_is_removed_where_the_setting_says_so(archive):
    archive.add([0.1, 0.2])
    archive.rows("UPDATE jobs SET created_at = now() - interval '9 days' RETURNING 1")
    archive.rows(
        "UPDATE items SET state = 'rejected', reason = 'corrupt', finished_at = now() - interval '8 days' "
        "WHERE id = (SELECT min(id) FROM items) RETURNING 1"
    )
    Feeder(archive.engine, archive.doorbell, archive.settings).poll()
    assert archive.rows("SELECT count(*) FROM items") == [(2,)]
    settings = archive.settings.model_copy(update={"prune_items_after_days": 7.0})
    Feeder(archive.engine, archive.doorbell, settings).poll()
    assert archive.rows("SELECT state FROM items") == [("queued",)]
    assert archive.rows("SELECT sum(n) FROM count_changes WHERE state = 'rejected'") == [(1,)]
    Feeder(archive.engine, archive.doorbell, settings).poll()
    assert archive.rows("SELECT count(*) FROM sweeps") == [(0,)]


def test_the_thread_polls_at_once_soon_after_a_wake_and_survives_any_error(archive):
    settings = archive.settings.model_copy(update={"sweep_seconds": 30})
    beats = []
    beaten = threading.Event()

    def beat():
        beats.append(time.monotonic())
        beaten.set()
        raise RuntimeError("an unexpected error")

    feeder = Feeder(archive.engine, archive.doorbell, settings, heartbeat=beat)
    feeder.start()
    assert beaten.wait(5)
    ids = archive.add([0.1])
    feeder.wake()
    deadline = time.monotonic() + 10
    while not archive.doorbell.rings and time.monotonic() < deadline:
        time.sleep(0.05)
    feeder.close()
    assert archive.doorbell.rung(Queue.LIVE) == ids


def test_an_event_that_comes_six_times_at_once_delays_no_image(archive):
    """The claims meet the repeats: what they skip is rung again within moments, not after `rering_seconds`."""
    for number in range(24):
        (archive.folder / f"{number:03}.png").write_bytes(png(0.5))
    refs = [ref for page in archive.store.list("bucket", "") for ref in page]
    worker = archive.worker()
    worker.feeder.start()
    settings, profile = archive.settings, load_profile("smoke")

    def post(ref):
        event = Parsed(images=[ref])
        ingest(archive.engine, archive.doorbell, [event], settings, profile)

    def score_rung():
        taken = 0
        while not ended.is_set():
            rings = archive.doorbell.rings[taken:]
            taken += len(rings)
            for _, items in rings:
                worker.score(list(items))
            time.sleep(0.01)

    ended = threading.Event()
    for _ in range(2):
        archive.in_thread(score_rung)
    archive.stack.callback(ended.set)
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(post, [ref for ref in refs for _ in range(6)]))
    deadline = time.monotonic() + 15
    while archive.rows("SELECT count(*) FROM results") != [(24,)]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
