"""The feeder: a bounded window, lost doorbells, and two of them at once."""

from concurrent.futures import ThreadPoolExecutor

from support.ledger import BOTH, refs

from dpiqa.doorbell import Queue
from dpiqa.storage.counts import fold_counts
from dpiqa.storage.engine import Lock, transaction
from dpiqa.storage.feed import feed, ring_now
from dpiqa.storage.outcomes import Postponed, Release
from dpiqa.storage.workers import heartbeat, leave, live_workers
from dpiqa.types import JobState, Stage


def rung(chunks):
    return sorted(item for _, ids in chunks for item in ids)


def age(book, seconds):
    """Let every doorbell have been rung earlier."""
    book.sql("UPDATE items SET rung_at = rung_at - make_interval(secs => :seconds)", seconds=seconds)


def test_the_window_bounds_what_is_announced(book):
    _, ids = book.submit(refs(250))
    first = book.feed(window=100, chunk=32)
    assert [len(chunk) for _, chunk in first] == [32, 32, 32, 4]
    assert rung(first) == ids[:100]
    assert book.feed(window=100, chunk=32) == []
    book.score(ids[:40])
    assert rung(book.feed(window=100, chunk=32)) == ids[100:140]
    assert book.one("SELECT count(*) FROM items WHERE state = 'queued' AND rung_at IS NOT NULL") == 100


def test_what_was_just_added_is_rung_at_once_within_the_window(book):
    ids = book.add(book.watch(), refs(50))
    assert rung(book.do(ring_now, ids, window=30, chunk=8)) == ids[:30]
    assert book.do(ring_now, ids, window=30, chunk=8) == []
    assert rung(book.do(ring_now, ids, window=50, chunk=8)) == ids[30:]
    assert book.do(ring_now, []) == []


def test_lost_doorbells_are_rung_again(book):
    _, ids = book.submit(refs(10))
    assert rung(book.feed()) == ids
    age(book, 61)
    assert book.feed() == []  # messages may still wait in the queue
    assert rung(book.feed(empty_queues={Queue.BULK})) == ids
    age(book, 601)
    assert rung(book.feed()) == ids
    assert book.feed(empty_queues={Queue.BULK}) == []


def test_leases_that_ran_out_are_rung_one_by_one(book):
    _, ids = book.submit(refs(4))
    book.feed()
    book.claim(ids[:3])
    book.expire(ids[:2])
    assert book.feed() == [(Queue.BULK, [ids[0]]), (Queue.BULK, [ids[1]])]


def test_a_down_teacher_does_not_stop_the_student(book_with_teacher):
    book = book_with_teacher
    _, ids = book.submit(refs(40))
    teacher = book.score(ids[:20], value=0.5).teacher_items
    chunks = book.feed(window=10, chunk=5)
    assert rung((q, i) for q, i in chunks if q is Queue.TEACHER) == sorted(teacher)
    assert rung((q, i) for q, i in chunks if q is Queue.BULK) == ids[20:30]


def test_a_job_that_nobody_serves_does_not_stop_the_others(book):
    _, stuck = book.submit(refs(30))
    assert rung(book.feed(window=20)) == stuck[:20]
    _, ids = book.submit(refs(30, start=100), profile=BOTH)
    assert rung(book.feed(window=20, chunk=5)) == ids[:10]  # its share of the window


def test_chunks_are_of_one_queue_and_profile(book):
    _, a = book.submit(refs(3))
    _, b = book.submit(refs(3, start=10), profile=BOTH)
    _, c = book.submit(refs(3, start=20))
    live = book.add(book.watch(), refs(2, start=30))
    chunks = book.feed()
    assert sorted(ids for _, ids in chunks) == [a + c, b, live]
    assert chunks[0] == (Queue.LIVE, live)


def test_work_that_is_not_due_is_not_rung(book):
    _, ids = book.submit(refs(3))
    claims = book.claim(ids)
    book.record([Postponed(claim, 60) for claim in claims[:2]] + [Release(claims[2])])
    assert rung(book.feed()) == ids[2:]


def test_only_one_feeder_at_a_time(book):
    _, ids = book.submit(refs(5))
    with transaction(book.engine) as c:
        held = feed(c, window=10, rering_seconds=60, chunk=2, empty_queues=set())
        assert book.feed() == []
    assert rung(held) == ids


def test_many_feeders_at_once_ring_each_item_once(book):
    _, ids = book.submit(refs(300))
    with ThreadPoolExecutor(8) as pool:
        fed = [item for chunks in pool.map(lambda _: book.feed(window=40), range(40)) for item in rung(chunks)]
    assert len(fed) == len(set(fed)) == 40
    assert set(fed) <= set(ids)


def test_the_sweep_ends_jobs_whose_last_item_died(book):
    job, (item,) = book.submit(refs(1))
    for crash in range(3):
        book.claim([item], owner=f"w{crash}")
        book.expire([item])
        book.feed()
    assert book.states(job) == {"dead": 1}
    assert book.report(job).job.state is JobState.COMPLETE


def test_counts_stay_exact_when_they_are_folded(book):
    job, ids = book.submit(refs(20))
    book.score(ids[:5])
    with transaction(book.engine) as c:
        fold_counts(c, older_than=0)
    assert book.one("SELECT count(*) FROM count_changes") == 0
    assert book.states(job) == {"scored": 5, "queued": 15}
    book.score(ids[5:])
    assert book.states(job) == {"scored": 20}
    with transaction(book.engine) as c:
        fold_counts(c, older_than=0)
    assert book.states(job) == {"scored": 20}


def test_the_rate_and_the_time_left_come_from_the_last_minute(book):
    job, ids = book.submit(refs(30))
    assert book.report(job).eta_seconds is None
    book.score(ids[:10])
    report = book.report(job)
    assert report.rate == 10.0  # ten in less than a second
    assert report.eta_seconds == 2.0
    book.sql("UPDATE count_changes SET at = at - interval '10 s'")
    assert 0.8 < book.report(job).rate < 1.1
    book.sql("UPDATE count_changes SET at = at - interval '60 s'")
    assert book.report(job).rate == 0


def test_workers_are_known_while_they_say_so(book):
    book.do(heartbeat, "w1", Stage.STUDENT, "s1")
    book.do(heartbeat, "w1", Stage.STUDENT, "s2")
    assert [(w.id, w.scorer_id) for w in book.do(live_workers)] == [("w1", "s2")]
    book.sql("UPDATE workers SET seen_at = seen_at - interval '2 minutes'")
    assert book.do(live_workers) == []
    book.sql("UPDATE workers SET seen_at = seen_at - interval '1 day'")
    book.feed()
    assert book.one("SELECT count(*) FROM workers") == 0
    book.do(heartbeat, "w1", Stage.STUDENT, "s2")
    book.do(leave, "w1")
    assert book.do(live_workers) == []


def test_lock_numbers_differ():
    assert len({int(lock) for lock in Lock}) == len(Lock)
