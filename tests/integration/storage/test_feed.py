"""The feeder: a bounded window, lost doorbells, and two of them at once."""

from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import BigInteger, Text, text
from support.ledger import BOTH, refs

from dpiqa.doorbell import Queue
from dpiqa.storage.columns import arrays
from dpiqa.storage.counts import fold_counts
from dpiqa.storage.engine import Lock, transaction
from dpiqa.storage.feed import PICK_ITEMS_TO_RING, feed, ring_now
from dpiqa.storage.items import Postponed, Released
from dpiqa.storage.steering import set_priority
from dpiqa.storage.workers import heartbeat, live_workers, remove_worker
from dpiqa.types import JobState, Stage


def rung(chunks):
    return sorted(item for _, ids in chunks for item in ids)


def age(ledger, seconds):
    """Let every doorbell have been rung earlier."""
    ledger.sql("UPDATE items SET rung_at = rung_at - make_interval(secs => :seconds)", seconds=seconds)


def test_the_window_bounds_what_is_announced(ledger):
    _, ids = ledger.submit(refs(250))
    first = ledger.feed(window=100, chunk=32)
    assert [len(chunk) for _, chunk in first] == [32, 32, 32, 4]
    assert rung(first) == ids[:100]
    assert ledger.feed(window=100, chunk=32) == []
    ledger.score(ids[:40])
    assert rung(ledger.feed(window=100, chunk=32)) == ids[100:140]
    assert ledger.one("SELECT count(*) FROM items WHERE state = 'queued' AND rung_at IS NOT NULL") == 100


def test_what_was_just_added_is_rung_at_once_within_the_window(ledger):
    ids = ledger.add(ledger.watch(), refs(50))
    assert rung(ledger.do(ring_now, ids, window=30, chunk=8)) == ids[:30]
    assert ledger.do(ring_now, ids, window=30, chunk=8) == []
    assert rung(ledger.do(ring_now, ids, window=50, chunk=8)) == ids[30:]
    assert ledger.do(ring_now, []) == []


def test_lost_doorbells_are_rung_again(ledger):
    _, ids = ledger.submit(refs(10))
    assert rung(ledger.feed()) == ids
    age(ledger, 61)
    assert ledger.feed() == []  # messages may still wait in the queue
    assert rung(ledger.feed(empty_queues={Queue.BULK})) == ids
    age(ledger, 601)
    assert rung(ledger.feed()) == ids
    assert ledger.feed(empty_queues={Queue.BULK}) == []


def test_leases_that_ran_out_are_rung_one_by_one(ledger):
    _, ids = ledger.submit(refs(4))
    ledger.feed()
    ledger.claim(ids[:3])
    ledger.expire(ids[:2])
    assert ledger.feed() == [(Queue.BULK, [ids[0]]), (Queue.BULK, [ids[1]])]


def test_a_down_teacher_does_not_stop_the_student(ledger_with_teacher):
    ledger = ledger_with_teacher
    _, ids = ledger.submit(refs(40))
    teacher = ledger.score(ids[:20], value=0.5).teacher_items
    chunks = ledger.feed(window=10, chunk=5)
    assert rung((q, i) for q, i in chunks if q is Queue.TEACHER) == sorted(teacher)
    assert rung((q, i) for q, i in chunks if q is Queue.BULK) == ids[20:30]


def test_a_job_that_nobody_serves_does_not_stop_the_others(ledger):
    _, stuck = ledger.submit(refs(30))
    assert rung(ledger.feed(window=20)) == stuck[:20]
    _, ids = ledger.submit(refs(30, start=100), profile=BOTH)
    assert rung(ledger.feed(window=20, chunk=5)) == ids[:10]  # its share of the window


def test_jobs_share_a_window_by_their_priority(ledger):
    many, few, high = (ledger.submit(refs(900, start=1000 * n)) for n in range(3))
    rings = ledger.feed(window=4096, chunk=15)
    assert [len(set(rung(rings)) & set(ids)) for _, ids in (many, few, high)] == [40, 40, 40]
    ledger.do(set_priority, high[0].id, 2)
    ledger.do(set_priority, few[0].id, -1)
    ledger.score(rung(rings))
    rings = ledger.feed(window=4096, chunk=15)
    # 1 : 1/2 : 4, and a chunk at least
    assert [len(set(rung(rings)) & set(ids)) for _, ids in (many, few, high)] == [21, 15, 87]


def test_no_priority_starves_another_job(ledger):
    low, high = (ledger.submit(refs(900, start=1000 * n)) for n in range(2))
    ledger.do(set_priority, low[0].id, -10)
    ledger.do(set_priority, high[0].id, 10)
    rings = ledger.feed(window=4096, chunk=15)
    assert [len(set(rung(rings)) & set(ids)) for _, ids in (low, high)] == [15, 119]


def test_the_window_of_submitted_jobs_holds_the_work_of_seconds(ledger):
    _, ids = ledger.submit(refs(2000))
    assert len(rung(ledger.feed(window=4096, chunk=8))) == 64  # nothing was claimed yet
    ledger.score(ids[:64])
    ledger.score(ids[64:400])
    assert len(rung(ledger.feed(window=4096, chunk=8))) == 400  # as many as within the last ten seconds
    ledger.score(ids[400:800])
    assert len(rung(ledger.feed(window=600, chunk=8))) == 600
    ledger.sql("UPDATE count_changes SET at = at - interval '11 s'")
    ledger.sql("UPDATE items SET rung_at = NULL WHERE state = 'queued'")
    assert len(rung(ledger.feed(window=4096, chunk=8))) == 64


def test_what_is_rung_at_once_is_bounded_for_all_jobs_together(ledger):
    submitted = [ledger.submit(refs(50, start=100 * n))[1] for n in range(5)]
    assert [len(rung(ledger.do(ring_now, ids, window=4096, chunk=8))) for ids in submitted] == [50, 14, 0, 0, 0]
    live = ledger.add(ledger.watch(), refs(50, start=1000))
    assert rung(ledger.do(ring_now, live, window=4096, chunk=8)) == live


def test_chunks_are_of_one_queue_and_profile(ledger):
    _, a = ledger.submit(refs(3))
    _, b = ledger.submit(refs(3, start=10), profile=BOTH)
    _, c = ledger.submit(refs(3, start=20))
    live = ledger.add(ledger.watch(), refs(2, start=30))
    chunks = ledger.feed()
    assert sorted(ids for _, ids in chunks) == [a + c, b, live]
    assert chunks[0] == (Queue.LIVE, live)


def test_work_that_is_not_due_is_not_rung(ledger):
    _, ids = ledger.submit(refs(3))
    claims = ledger.claim(ids)
    ledger.record([Postponed(claim, 60) for claim in claims[:2]] + [Released(claims[2])])
    assert rung(ledger.feed()) == ids[2:]


def test_a_preferred_job_of_which_nothing_is_due_leaves_the_window_to_others(ledger):
    preferred, waiting = ledger.submit(refs(3))
    _, ids = ledger.submit(refs(900, start=100))
    ledger.do(set_priority, preferred.id, 10)
    ledger.record([Postponed(claim, 60) for claim in ledger.claim(waiting)])
    assert rung(ledger.feed(window=4096, chunk=15)) == ids[:120]


def test_looking_for_items_to_ring_reads_only_those(ledger):
    for n in range(2):
        ledger.submit(refs(20_000, start=20_000 * n))
    ledger.sql("ANALYZE items")
    values = {"queues": ["live", "bulk", "teacher"], "sizes": [4096, 256, 256], "chunks": [32, 32, 32]}
    explain = text(f"EXPLAIN {PICK_ITEMS_TO_RING.text}").bindparams(
        *arrays(queues=Text, sizes=BigInteger, chunks=BigInteger)
    )
    with transaction(ledger.engine) as c:
        plan = "\n".join(c.execute(explain, values).scalars())
    assert plan.count("using items_unrung on items") == 2
    assert "Seq Scan on items" not in plan
    assert "using items_pkey on items i" not in plan


def test_only_one_feeder_at_a_time(ledger):
    _, ids = ledger.submit(refs(5))
    with transaction(ledger.engine) as c:
        by_holder = feed(c, window=10, rering_seconds=60, chunk=2, empty_queues=set())
        assert ledger.feed() == []
    assert rung(by_holder) == ids


def test_many_feeders_at_once_ring_each_item_once(ledger):
    _, ids = ledger.submit(refs(300))
    with ThreadPoolExecutor(8) as pool:
        fed = [item for chunks in pool.map(lambda _: ledger.feed(window=40), range(40)) for item in rung(chunks)]
    assert len(fed) == len(set(fed)) == 40
    assert set(fed) <= set(ids)


def test_the_sweep_ends_jobs_whose_last_item_died(ledger):
    job, (item,) = ledger.submit(refs(1))
    for crash in range(3):
        ledger.claim([item], owner=f"w{crash}")
        ledger.expire([item])
        ledger.feed()
    assert ledger.states(job) == {"dead": 1}
    assert ledger.report(job).job.state is JobState.COMPLETE


def test_counts_stay_exact_when_they_are_folded(ledger):
    job, ids = ledger.submit(refs(20))
    ledger.score(ids[:5])
    with transaction(ledger.engine) as c:
        fold_counts(c, older_than=0)
    assert ledger.one("SELECT count(*) FROM count_changes") == 0
    assert ledger.states(job) == {"scored": 5, "queued": 15}
    ledger.score(ids[5:])
    assert ledger.states(job) == {"scored": 20}
    with transaction(ledger.engine) as c:
        fold_counts(c, older_than=0)
    assert ledger.states(job) == {"scored": 20}


def test_the_rate_and_the_time_left_come_from_the_last_minute(ledger):
    job, ids = ledger.submit(refs(30))
    assert ledger.report(job).eta_seconds is None
    ledger.score(ids[:10])
    report = ledger.report(job)
    assert report.rate == 10.0  # ten in less than a second
    assert report.eta_seconds == 2.0
    ledger.sql("UPDATE count_changes SET at = at - interval '10 s'")
    assert 0.8 < ledger.report(job).rate < 1.1
    ledger.sql("UPDATE count_changes SET at = at - interval '60 s'")
    assert ledger.report(job).rate == 0


def test_workers_are_known_while_they_say_so(ledger):
    ledger.do(heartbeat, "w1", Stage.STUDENT, "s1")
    ledger.do(heartbeat, "w1", Stage.STUDENT, "s2")
    assert [(w.id, w.scorer_id) for w in ledger.do(live_workers)] == [("w1", "s2")]
    ledger.sql("UPDATE workers SET seen_at = seen_at - interval '2 minutes'")
    assert ledger.do(live_workers) == []
    ledger.sql("UPDATE workers SET seen_at = seen_at - interval '1 day'")
    ledger.feed()
    assert ledger.one("SELECT count(*) FROM workers") == 0
    ledger.do(heartbeat, "w1", Stage.STUDENT, "s2")
    ledger.do(remove_worker, "w1")
    assert ledger.do(live_workers) == []


def test_lock_numbers_differ():
    assert len({int(lock) for lock in Lock}) == len(Lock)


def test_chunks_grow_with_what_is_claimed_but_not_those_of_events_and_of_new_items(ledger):
    _, ids = ledger.submit(refs(4000))
    assert {len(chunk) for _, chunk in ledger.feed(window=4096, chunk=256)} == {32}
    ledger.claim(ids[:1600])
    chunks = [len(chunk) for _, chunk in ledger.feed(window=4096, chunk=256)]
    assert max(chunks) == 1600 // 8
    events = ledger.add(ledger.watch(), refs(300, prefix="e"))
    assert max(len(chunk) for _, chunk in ledger.do(ring_now, events, chunk=256)) == 32
