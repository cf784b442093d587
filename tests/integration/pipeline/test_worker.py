import psycopg
import pytest
import sqlalchemy
from structlog.testing import capture_logs
from support.doorbells import RecordingDoorbell

from dpiqa.doorbell import Queue
from dpiqa.errors import CheckpointError, StoreUnavailable
from dpiqa.models.brightness import BRIGHTNESS, BrightnessScorer
from dpiqa.models.loading import load_scorer
from dpiqa.profiles import Profile
from dpiqa.types import Stage

STATES = "SELECT id, state, stage, reason, detail FROM items ORDER BY id"


def test_a_chunk_goes_from_items_to_results_and_rings_the_teacher(archive):
    ids = archive.add([0.1, 0.2, 0.45, 0.9])
    assert archive.worker().score(ids) == 4
    rows = archive.rows("SELECT key, score, status, route FROM results ORDER BY key")
    assert [row.score for row in rows] == pytest.approx([0.1, 0.2, 0.45, 0.9], abs=0.003)
    assert [row.status for row in rows] == ["final", "final", "provisional", "final"]
    assert archive.doorbell.rung(Queue.TEACHER) == [ids[2]]
    assert archive.worker(Stage.TEACHER).score([ids[2]]) == 1
    assert archive.rows("SELECT DISTINCT state FROM items") == [("scored",)]
    assert archive.rows(
        "SELECT status, stage FROM results WHERE image_id = (SELECT image_id FROM items WHERE id = :i)", i=ids[2]
    ) == [("final", "teacher")]


def test_a_broken_doorbell_loses_nothing(archive):
    ids = archive.add([0.5])
    archive.doorbell.broken = True
    archive.worker().score(ids)
    assert archive.rows("SELECT state, stage FROM items") == [("queued", "teacher")]


def test_a_score_that_is_stored_already_is_not_computed_again(archive):
    calls = []

    class Counting(BrightnessScorer):
        def score(self, pixels):
            calls.append(len(pixels))
            return super().score(pixels)

    worker = archive.worker(load=lambda name: Counting(BRIGHTNESS))
    worker.score(archive.add([0.1, 0.2, 0.3]))
    assert sum(calls) == 1 + 3  # the blank image of the warm-up
    first, *others = archive.submit(Profile(name="other", version=1, student="brightness"))
    worker.score([first])  # makes the profile known
    del calls[:]
    worker.score(others)
    assert calls == []
    assert archive.rows("SELECT count(*) FROM results WHERE profile = 'other@1'") == [(3,)]


def test_a_model_that_cannot_be_loaded_harms_only_its_own_items(archive):
    def load(choice):
        if choice.model == "broken":
            raise CheckpointError("the weights are damaged", hint="restore them")
        return load_scorer(choice)

    broken = archive.add([0.1], profile=Profile(name="broken", version=1, student="broken"))
    good = archive.submit("smoke")
    archive.worker(load=load).score(broken + good)
    first, second = archive.rows(STATES)
    assert (first.state, first.detail) == ("queued", "CheckpointError: the weights are damaged (restore them)")
    assert second.state == "scored"
    assert archive.rows("SELECT errors FROM items WHERE state = 'queued'") == [(1,)]


def test_an_unreachable_store_postpones_without_counting_an_error(archive):
    ids = archive.add([0.1, 0.2])

    def unavailable(ref, max_bytes):
        raise StoreUnavailable("S3 does not answer")

    archive.store.get = unavailable
    archive.worker().score(ids)
    rows = archive.rows("SELECT state, errors, detail, not_before > clock_timestamp() AS later FROM items")
    assert rows == [("queued", 0, "S3 does not answer", True)] * 2


def test_an_image_that_always_fails_is_given_up_after_its_tries(archive):
    class Broken(BrightnessScorer):
        def score(self, pixels):
            if not pixels.any():  # the warm-up's blank image
                return super().score(pixels)
            raise ValueError("this model has a bug")

    worker = archive.worker(load=lambda name: Broken(BRIGHTNESS))
    [item] = archive.add([0.1])
    for _ in range(5):
        archive.rows("UPDATE items SET not_before = clock_timestamp() RETURNING id")
        assert worker.score([item]) == 1
    assert archive.rows(STATES) == [(item, "dead", "student", "repeated_errors", "ValueError: this model has a bug")]


def test_a_fence_that_moved_on_refuses_the_record(archive):
    ids = archive.add([0.1, 0.2])
    reached = []

    class Meddled(BrightnessScorer):
        def score(self, pixels):
            if pixels.any():  # not the warm-up's blank image
                archive.rows("UPDATE items SET attempt = attempt + 1 WHERE id = :id RETURNING id", id=ids[0])
                reached.append(len(pixels))
            return super().score(pixels)

    archive.worker(load=lambda name: Meddled(BRIGHTNESS)).score(ids)
    assert reached
    assert [row.state for row in archive.rows(STATES)] == ["leased", "scored"]
    assert archive.rows("SELECT count(*) FROM scores") == [(1,)]


def test_long_work_keeps_its_lease(archive):
    archive.settings = archive.settings.model_copy(update={"lease_seconds": 0.6})
    ids = archive.add([0.1])

    class Slow(BrightnessScorer):
        def score(self, pixels):
            archive.rows("SELECT pg_sleep(:seconds)", seconds=2 if pixels.any() else 0)
            return super().score(pixels)

    worker = archive.worker(load=lambda name: Slow(BRIGHTNESS))
    thread = archive.in_thread(worker.score, ids)
    other = archive.worker()
    while thread.is_alive():
        assert other.score(ids) == 0 or not archive.rows("SELECT 1 FROM items WHERE state = 'leased'")
        thread.join(0.2)
    assert archive.rows("SELECT state, attempt, crashes FROM items") == [("scored", 1, 0)]


def test_stopping_gives_back_what_is_not_on_the_device(archive):
    ids = archive.add([0.1, 0.2])
    worker = archive.worker()
    real = archive.store.get

    def get(ref, max_bytes):
        worker.stop()
        return real(ref, max_bytes)

    archive.store.get = get
    assert worker.score(ids) == 2
    assert archive.rows("SELECT DISTINCT state, owner IS NULL OR true, crashes FROM items") == [("queued", True, 0)]
    assert worker.score(ids) == 0


def test_without_a_database_a_chunk_returns_and_the_ledger_knows(archive):
    ids = archive.add([0.1])
    worker = archive.worker()
    worker.engine = sqlalchemy.create_engine("postgresql+psycopg://nobody:x@127.0.0.1:1/none")
    assert worker.score(ids) == 0
    assert archive.rows("SELECT state FROM items") == [("queued",)]
    assert isinstance(archive.doorbell, RecordingDoorbell)


@pytest.mark.parametrize(("sqlstate", "state", "n"), [("XX001", "queued", 1), ("23514", "leased", 0)])
def test_an_outcome_that_the_database_refuses_discards_no_other(archive, database_url, sqlstate, state, n):
    """An error that nobody knows postpones the item; what a constraint refuses waits for its lease to end."""
    ids = archive.add([0.1, 0.2, 0.3])
    body = f"BEGIN IF NEW.score < 0.15 THEN RAISE EXCEPTION 'so' USING ERRCODE = '{sqlstate}'; END IF; RETURN NEW; END"
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as c:
        c.execute(f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$")
        c.execute("CREATE TRIGGER refuse BEFORE INSERT ON scores FOR EACH ROW EXECUTE FUNCTION refuse()")
    assert archive.worker().score(ids) == 3
    assert [row.state for row in archive.rows(STATES)] == [state, "scored", "scored"]
    postponed = archive.rows("SELECT 1 FROM items WHERE not_before > clock_timestamp() AND detail LIKE '%XX001%'")
    assert len(postponed) == n


def test_a_worker_logs_once_a_minute_where_the_time_went(archive, monkeypatch):
    worker = archive.worker()
    worker.score(archive.add([0.1, 0.2]))
    with capture_logs() as early:
        worker._heartbeat()
    monkeypatch.setattr("dpiqa.pipeline.worker.LOG_SECONDS", 0.0)
    with capture_logs() as due:
        worker._heartbeat()
        worker._heartbeat()  # nothing was scored since: no line
    assert [line for line in early if line["event"] == "stage_times"] == []
    (line,) = [line for line in due if line["event"] == "stage_times"]
    assert {
        "device_busy",
        "batch_fill",
        "queue_delay_ms",
        "fetch_ms",
        "decode_ms",
        "model_ms",
        "record_ms",
    } <= line.keys()
    assert line["images_per_second"] > 0
