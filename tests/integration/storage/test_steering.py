"""Pause, resume, cancel, retry, delete and priority: what happens to the job and to its items, also in the middle."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.ledger import ref, refs

from dpiqa.doorbell import Queue
from dpiqa.errors import Conflict, InvalidRequest, LeaseLost, NotFound
from dpiqa.sources.spec import Tally
from dpiqa.storage import steering
from dpiqa.storage.engine import transaction
from dpiqa.storage.feed import ring_now
from dpiqa.storage.images import add_images
from dpiqa.storage.items import Failed, Gone, Rejected, Released, Scored
from dpiqa.storage.job_queries import list_jobs
from dpiqa.storage.jobs import find_watches, read_job
from dpiqa.storage.listings import fail_listing, finish_listing, save_cursor, start_listing
from dpiqa.storage.sweeps import sweep_once
from dpiqa.types import ItemState, JobKind, JobState, Reason, ResultStatus, Stage


def rung(chunks):
    return sorted(item for _, ids in chunks for item in ids)


def state(ledger, job):
    return ledger.do(read_job, job.id).state


def sweep_all(ledger, **more):
    """Sweep as the sweeper does, until it has nothing to do at once; returns the number of batches."""
    batches = 1
    while ledger.do(sweep_once, **more):
        batches += 1
    return batches


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr("dpiqa.storage.sweeps.BATCH", 4)


# Pause and resume


def test_a_paused_job_is_not_announced_claimed_or_counted_as_complete(ledger):
    job, ids = ledger.submit(refs(10))
    assert rung(ledger.feed(window=4)) == ids[:4]
    claims = ledger.claim(ids[:2])
    assert ledger.do(steering.pause_job, job.id).state is JobState.PAUSED
    assert ledger.claim(ids[2:4]) == []  # their message was in the broker
    assert ledger.feed() == []
    assert ledger.do(ring_now, ids) == []
    ledger.record([Scored(claim, 0.9, claim.ref.etag) for claim in claims])  # what was claimed is finished
    assert ledger.states(job) == {"scored": 2, "queued": 8}
    assert ledger.do(steering.pause_job, job.id).state is JobState.PAUSED
    assert ledger.do(steering.resume_job, job.id).state is JobState.RUNNING
    assert ledger.do(steering.resume_job, job.id).state is JobState.RUNNING
    assert rung(ledger.feed()) == ids[2:]  # those that were refused are announced at once, too
    ledger.score(ids)
    assert (state(ledger, job), ledger.states(job)) == (JobState.COMPLETE, {"scored": 10})


def test_a_job_whose_last_item_ends_while_it_is_paused_is_complete_when_it_is_resumed(ledger):
    job, ids = ledger.submit(refs(1))
    (claim,) = ledger.claim(ids)
    ledger.do(steering.pause_job, job.id)
    ledger.record([Scored(claim, 0.9, claim.ref.etag)])
    ledger.feed()
    assert state(ledger, job) is JobState.PAUSED
    assert ledger.do(steering.resume_job, job.id).state is JobState.COMPLETE


def test_pausing_stops_the_lister_and_resuming_continues_after_its_cursor(ledger):
    first = ledger.do(start_listing, ledger.job().id, 60)
    ledger.add(first, refs(5))
    ledger.do(save_cursor, first, "k00004", Tally())
    ledger.do(steering.pause_job, first.id)
    with pytest.raises(Conflict):
        ledger.add(first, refs(5, start=5))
    with pytest.raises(LeaseLost):
        ledger.do(save_cursor, first, "k00009", Tally())
    assert ledger.do(start_listing, first.id, 60) is None
    assert ledger.do(steering.resume_job, first.id).state is JobState.LISTING
    second = ledger.do(start_listing, first.id, 60)  # at once, not when the old lease has run out
    assert (second.cursor, second.listing_attempt) == ("k00004", first.listing_attempt + 1)


def test_a_paused_watch_still_records_events(ledger):
    watch = ledger.watch()
    ledger.do(steering.pause_job, watch.id)
    assert [job.id for job in ledger.do(find_watches, "photos", "a.jpg")] == [watch.id]
    assert ledger.watch().id == watch.id
    ids = ledger.add(watch, refs(3))
    assert (len(ids), ledger.feed(), ledger.claim(ids)) == (3, [], [])
    assert ledger.do(steering.resume_job, watch.id).state is JobState.WATCHING
    assert rung(ledger.feed()) == ids


@pytest.mark.parametrize("ended", [JobState.COMPLETE, JobState.CANCELLED, JobState.FAILED])
def test_a_job_that_has_ended_is_not_paused_resumed_or_given_a_priority(ledger, ended):
    job, _ = ledger.submit(refs(1))
    ledger.sql("UPDATE jobs SET state = :state, finished_at = clock_timestamp()", state=ended)
    for change in (steering.pause_job, steering.resume_job, lambda c, name: steering.set_priority(c, name, 1)):
        with pytest.raises(Conflict, match=f"job {job.short_id} is {ended}") as error:
            ledger.do(change, job.id)
        assert "dpiqa jobs retry" in error.value.hint


# Cancel


def test_a_cancelled_job_keeps_what_was_scored(ledger):
    job, ids = ledger.submit(refs(10))
    ledger.score(ids[:3])
    held = ledger.claim(ids[3:5])
    cancelled = ledger.do(steering.cancel_job, job.id)
    assert (cancelled.state, cancelled.finished_at is None) == (JobState.CANCELLED, False)
    assert ledger.states(job) == {"scored": 3, "leased": 2, "cancelled": 5}
    assert ledger.item("k00009").reason == Reason.JOB_CANCELLED
    ledger.record([Scored(held[0], 0.9, held[0].ref.etag), Released(held[1])])
    assert sweep_all(ledger) == 1
    assert ledger.states(job) == {"scored": 4, "cancelled": 6}
    assert ledger.one("SELECT count(*) FROM sweeps") == 0
    assert ledger.one("SELECT count(*) FROM results") == 4
    assert ledger.do(steering.cancel_job, job.id).finished_at == cancelled.finished_at
    assert (ledger.feed(), ledger.claim(ids)) == ([], [])


def test_open_items_are_cancelled_in_batches_and_any_process_continues(ledger, small_batches):
    job, _ = ledger.submit(refs(23))
    ledger.feed(window=10)
    ledger.do(steering.cancel_job, job.id)
    assert ledger.states(job)["cancelled"] <= 8  # the first batch, of each of the two kinds
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: sweep_all(ledger, batch=4), range(4)))
    sweep_all(ledger, batch=4)
    assert ledger.states(job) == {"cancelled": 23}
    assert ledger.one("SELECT count(*) FROM sweeps") == 0


def test_items_of_a_dead_worker_are_cancelled_when_its_lease_has_run_out(ledger):
    job, ids = ledger.submit(refs(2))
    ledger.claim(ids)
    ledger.do(steering.cancel_job, job.id)
    sweep_all(ledger)
    assert ledger.states(job) == {"leased": 2}
    ledger.expire(ids)
    ledger.feed()
    sweep_all(ledger)
    assert ledger.states(job) == {"cancelled": 2}


def test_what_waits_for_the_teacher_is_cancelled_and_keeps_its_provisional_result(ledger_with_teacher):
    ledger = ledger_with_teacher
    job, ids = ledger.submit(refs(4))
    held = ledger.claim(ids)
    ledger.do(steering.cancel_job, job.id)
    recorded = ledger.record([Scored(claim, 0.5, claim.ref.etag) for claim in held])
    assert ledger.do(ring_now, recorded.teacher_items) == []
    sweep_all(ledger)
    assert ledger.states(job) == {"scored": 2, "cancelled": 2}
    provisional = [row.status for row in ledger.sql("SELECT status FROM results ORDER BY status")]
    assert provisional == [ResultStatus.FINAL] * 2 + [ResultStatus.PROVISIONAL] * 2
    again, _ = ledger.submit(refs(4))  # only the teacher is left to be asked
    assert ledger.states(again) == {"scored": 2, "queued": 2}
    assert ledger.report(again).open_by_stage == {Stage.TEACHER: 2}


def test_an_ended_watch_receives_nothing_and_its_prefix_can_be_watched_again(ledger):
    watch = ledger.watch()
    ids = ledger.add(watch, refs(2))
    ledger.score(ids[:1])
    assert ledger.do(steering.cancel_job, watch.id).state is JobState.CANCELLED
    assert ledger.do(find_watches, "photos", "a.jpg") == []
    assert ledger.states(watch) == {"scored": 1, "cancelled": 1}
    assert ledger.watch().id != watch.id
    with pytest.raises(Conflict, match="was ended"):
        ledger.do(steering.retry_job, watch.id)


def test_ending_a_watch_waits_for_the_event_that_is_being_recorded(ledger):
    watch = ledger.watch()
    found, go_on = threading.Event(), threading.Event()

    def ingest():
        with transaction(ledger.engine) as c:
            watches = find_watches(c, "photos", "k00000")
            found.set()
            go_on.wait(10)
            return add_images(c, watches[0], refs(1))

    with ThreadPoolExecutor(2) as pool:
        event = pool.submit(ingest)
        found.wait(10)
        ending = pool.submit(ledger.do, steering.cancel_job, watch.id)
        assert not ending.done()
        go_on.set()
        assert len(event.result(10)) == 1
        ending.result(10)
    assert ledger.states(watch) == {"cancelled": 1}


def test_a_job_that_ended_otherwise_is_not_cancelled(ledger):
    job, ids = ledger.submit(refs(1))
    ledger.score(ids)
    with pytest.raises(Conflict, match="is complete: there is nothing to cancel"):
        ledger.do(steering.cancel_job, job.id)


def test_a_listing_that_fails_ends_what_it_had_listed(ledger):
    job = ledger.do(start_listing, ledger.job().id, 60)
    ids = ledger.add(job, refs(3))
    ledger.score(ids[:1])
    ledger.do(fail_listing, job, "access denied")
    assert (state(ledger, job), ledger.states(job)) == (JobState.FAILED, {"scored": 1, "cancelled": 2})
    retried = ledger.do(steering.retry_job, job.id)  # the permission was given: list the rest, score all
    assert (retried.job.state, retried.n_items, retried.job.error) == (JobState.LISTING, 2, None)
    assert ledger.states(job) == {"scored": 1, "queued": 2}


def test_cancelling_while_workers_record_loses_and_doubles_nothing(ledger):
    job, ids = ledger.submit(refs(400))
    start = threading.Barrier(5)

    def work(chunks):
        start.wait()
        for chunk in chunks:
            ledger.score(chunk)

    chunks = [ids[n : n + 8] for n in range(0, 400, 8)]
    with ThreadPoolExecutor(5) as pool:
        workers = [pool.submit(work, chunks[n::4]) for n in range(4)]
        start.wait()
        cancelled = pool.submit(ledger.do, steering.cancel_job, job.id)
        for worker in [*workers, cancelled]:
            worker.result()
    sweep_all(ledger)
    states = ledger.states(job)
    assert set(states) <= {"scored", "cancelled"}
    assert sum(states.values()) == 400
    assert ledger.one("SELECT count(*) FROM results") == states.get("scored", 0)
    assert state(ledger, job) in (JobState.CANCELLED, JobState.COMPLETE)


# Retry


@pytest.fixture
def failed(ledger):
    """A complete job of twelve: 2 scored, 6 rejected for three reasons, 2 dead, 2 deleted."""
    job, ids = ledger.submit(refs(12))
    claims = ledger.claim(ids)
    reasons = [Reason.ACCESS_DENIED, Reason.ARCHIVED, Reason.CORRUPT]
    outcomes = [Scored(claim, 0.9, claim.ref.etag) for claim in claims[:2]]
    outcomes += [Rejected(claim, reasons[n % 3], "why") for n, claim in enumerate(claims[2:8])]
    outcomes += [Failed(claim, "boom") for claim in claims[8:10]] + [Gone(claim) for claim in claims[10:]]
    ledger.record(outcomes, max_errors=1)
    return job


def test_retry_reopens_what_was_rejected_or_given_up_under_a_new_fence(ledger, failed):
    old = ledger.item("k00002")
    retried = ledger.do(steering.retry_job, failed.id)
    assert (retried.n_items, retried.job.state, retried.job.finished_at) == (8, JobState.RUNNING, None)
    assert ledger.states(failed) == {"scored": 2, "queued": 8, "deleted": 2}
    item = ledger.item("k00002")
    assert (item.attempt, item.errors, item.reason, item.detail) == (old.attempt + 1, 0, None, None)
    ledger.score(rung(ledger.feed()))
    assert ledger.states(failed) == {"scored": 10, "deleted": 2}
    assert state(ledger, failed) is JobState.COMPLETE
    assert ledger.do(steering.retry_job, failed.id).n_items == 0
    assert state(ledger, failed) is JobState.COMPLETE


@pytest.mark.parametrize(
    ("chosen", "n_items"),
    [
        ({"reasons": [Reason.ACCESS_DENIED]}, 2),
        ({"reasons": [Reason.ACCESS_DENIED, Reason.ARCHIVED, Reason.REPEATED_ERRORS]}, 6),
        ({"states": [ItemState.DEAD]}, 2),
        ({"states": [ItemState.REJECTED], "reasons": [Reason.CORRUPT]}, 2),
        ({"reasons": [Reason.EMPTY]}, 0),
    ],
)
def test_retry_of_a_reason_or_a_state_reopens_only_those(ledger, failed, chosen, n_items):
    assert ledger.do(steering.retry_job, failed.id, **chosen).n_items == n_items
    assert ledger.states(failed).get("queued", 0) == n_items
    assert state(ledger, failed) is (JobState.RUNNING if n_items else JobState.COMPLETE)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"states": [ItemState.DELETED]}, "items that are deleted cannot be retried"),
        ({"states": [ItemState.SCORED]}, "items that are scored cannot be retried"),
        ({"reasons": [Reason.OBJECT_DELETED]}, "the reason object_deleted cannot be retried"),
        ({"states": [ItemState.DEAD], "reasons": [Reason.CORRUPT]}, "no item that is dead has the reason corrupt"),
    ],
)
def test_what_cannot_be_retried_is_refused(ledger, failed, chosen, message):
    with pytest.raises(InvalidRequest, match=message):
        ledger.do(steering.retry_job, failed.id, **chosen)


def test_a_retry_in_batches_passes_each_item_once(ledger, small_batches):
    job, ids = ledger.submit(refs(19))
    ledger.record([Rejected(claim, Reason.CORRUPT) for claim in ledger.claim(ids)])
    assert ledger.do(steering.retry_job, job.id).n_items == 19
    assert ledger.do(steering.retry_job, job.id).n_items == 15  # the same request again adds nothing
    assert ledger.one("SELECT count(*) FROM sweeps") == 1
    # Those of the first batch are rejected again, while the others wait for the sweeper: they stay rejected.
    ledger.record([Rejected(claim, Reason.CORRUPT) for claim in ledger.claim(ids[:3])])
    ledger.feed()
    assert state(ledger, job) is JobState.RUNNING
    sweep_all(ledger, batch=4)
    assert ledger.states(job) == {"queued": 16, "rejected": 3}


def test_a_cancelled_job_is_taken_up_again_where_it_was(ledger, small_batches):
    job, ids = ledger.submit(refs(20))
    ledger.score(ids[:5])
    ledger.do(steering.cancel_job, job.id)
    with pytest.raises(Conflict, match="still being cancelled"):
        ledger.do(steering.retry_job, job.id, reasons=[Reason.CORRUPT])
    assert ledger.do(steering.retry_job, job.id).job.state is JobState.RUNNING  # before the sweeper was there
    sweep_all(ledger, batch=4)
    assert ledger.states(job) == {"scored": 5, "queued": 15}
    ledger.score(ids[5:])
    assert state(ledger, job) is JobState.COMPLETE


def test_a_job_that_was_cancelled_while_it_was_listed_is_listed_to_the_end(ledger):
    job = ledger.do(start_listing, ledger.job().id, 60)
    ledger.add(job, refs(3))
    ledger.do(save_cursor, job, "k00002", Tally())
    ledger.do(steering.cancel_job, job.id)
    assert ledger.do(steering.retry_job, job.id).job.state is JobState.LISTING
    resumed = ledger.do(start_listing, job.id, 60)
    assert resumed.cursor == "k00002"
    ledger.do(finish_listing, resumed)
    assert ledger.states(job) == {"queued": 3}


def test_a_retried_teacher_item_waits_for_the_teacher_with_a_provisional_result(ledger_with_teacher):
    ledger = ledger_with_teacher
    job, ids = ledger.submit(refs(4))
    asked = ledger.score(ids, value=0.5).teacher_items
    held = ledger.claim(asked, stage=Stage.TEACHER)
    ledger.record([Rejected(claim, Reason.DEVICE_MEMORY) for claim in held], stage=Stage.TEACHER)
    assert ledger.one("SELECT count(*) FROM results WHERE status = 'provisional'") == 0
    assert ledger.do(steering.retry_job, job.id).n_items == len(asked)
    assert ledger.one("SELECT count(*) FROM results WHERE status = 'provisional'") == len(asked)
    assert {queue for queue, _ in ledger.feed()} == {Queue.TEACHER}
    ledger.score(asked, stage=Stage.TEACHER, value=0.8)
    assert ledger.one("SELECT count(*) FROM results WHERE status = 'final' AND teacher_score = 0.8") == len(asked)


def test_failed_items_of_a_watch_are_retried_and_it_goes_on(ledger):
    watch = ledger.watch()
    ids = ledger.add(watch, refs(2))
    ledger.record([Rejected(claim, Reason.ACCESS_DENIED) for claim in ledger.claim(ids)])
    assert ledger.do(steering.retry_job, watch.id, reasons=[Reason.ACCESS_DENIED]).job.state is JobState.WATCHING
    assert rung(ledger.feed()) == ids


def test_a_retry_of_a_paused_job_leaves_it_paused(ledger):
    job, ids = ledger.submit(refs(2))
    ledger.record([Rejected(ledger.claim(ids[:1])[0], Reason.CORRUPT)])
    ledger.do(steering.pause_job, job.id)
    assert ledger.do(steering.retry_job, job.id).job.state is JobState.PAUSED
    assert ledger.states(job) == {"queued": 2}


# Delete


def test_a_deleted_job_is_hidden_and_its_results_stay(ledger, small_batches):
    job, ids = ledger.submit(refs(10), idempotency_key="k")
    ledger.score(ids)
    ledger.do(steering.delete_job, job.id)
    with pytest.raises(NotFound):
        ledger.report(job)
    with pytest.raises(NotFound):
        ledger.do(read_job, "latest")
    assert ledger.do(list_jobs).items == []
    sweep_all(ledger, batch=4)
    for table, n in [("items", 0), ("job_counts", 0), ("count_changes", 0), ("sweeps", 0), ("results", 10)]:
        assert (table, ledger.one(f"SELECT count(*) FROM {table}")) == (table, n)
    with pytest.raises(NotFound):
        ledger.do(steering.delete_job, job.id)
    assert ledger.job(idempotency_key="k").id != job.id


def test_only_a_job_that_has_ended_is_deleted_unless_forced(ledger):
    job, ids = ledger.submit(refs(4))
    (held,) = ledger.claim(ids[:1])
    with pytest.raises(Conflict, match="only a job that has ended can be deleted"):
        ledger.do(steering.delete_job, job.id)
    ledger.do(steering.delete_job, job.id, force=True)
    assert ledger.one("SELECT count(*) FROM items") == 1  # the one that a worker holds
    ledger.record([Scored(held, 0.9, held.ref.etag)])
    sweep_all(ledger)
    assert ledger.one("SELECT count(*) FROM items") == 0
    assert ledger.one("SELECT count(*) FROM results") == 1
    assert ledger.claim(ids) == []


def test_a_deleted_watch_watches_no_more(ledger):
    watch = ledger.watch()
    ledger.do(steering.delete_job, watch.id, force=True)
    assert ledger.do(find_watches, "photos", "a.jpg") == []
    assert ledger.watch().id != watch.id


def test_keys_of_a_deleted_list_go_too(ledger):
    job = ledger.job(kind=JobKind.LIST, keys=["a", "b"])
    ledger.do(steering.delete_job, job.id, force=True)
    assert ledger.one("SELECT count(*) FROM job_keys") == 0


# Duration


def test_a_job_keeps_how_long_it_worked(ledger):
    def later(seconds):
        ledger.sql(
            "UPDATE jobs SET active_since = active_since - make_interval(secs => :s), "
            "finished_at = finished_at - make_interval(secs => :s)",
            s=seconds,
        )

    job, ids = ledger.submit([*refs(9), ref("bad")])
    later(30)
    ledger.do(steering.pause_job, job.id)
    assert 30 <= ledger.report(job).duration_seconds < 35
    later(1000)  # paused
    ledger.do(steering.resume_job, job.id)
    later(20)
    ledger.score(ids[:9])
    ledger.record([Rejected(claim, Reason.CORRUPT) for claim in ledger.claim(ids[9:])])
    report = ledger.report(job)
    assert report.job.state is JobState.COMPLETE
    assert 50 <= report.duration_seconds < 55
    assert report.mean_rate == pytest.approx(10 / report.duration_seconds)
    later(86_400)
    assert ledger.report(job).duration_seconds == pytest.approx(report.duration_seconds)
    ledger.do(steering.retry_job, job.id)  # a day later
    later(5)
    assert 55 <= ledger.report(job).duration_seconds < 62
