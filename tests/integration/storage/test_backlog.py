"""Waiting work, and what nobody takes care of."""

from datetime import timedelta

import pytest
from support.ledger import refs

from dpiqa.access import Actor, acting_as
from dpiqa.doorbell import Queue
from dpiqa.storage.api_keys import KeyRequest, create_key
from dpiqa.storage.backlog import read_backlog
from dpiqa.storage.postponed_buckets import postpone
from dpiqa.storage.workers import heartbeat
from dpiqa.types import Stage


def earlier(ledger, seconds, where="true"):
    ledger.sql(f"UPDATE items SET not_before = not_before - make_interval(secs => :s) WHERE {where}", s=seconds)


def start_earlier(ledger):
    ledger.sql(
        "UPDATE jobs SET active_since = active_since - interval '1 day', created_at = created_at - interval '1 h'"
    )


def test_nothing_waits(ledger):
    backlog = ledger.do(read_backlog)
    assert backlog.oldest_seconds == dict.fromkeys(Queue, 0)
    assert (backlog.overdue_leases, backlog.postponed_buckets, backlog.next_key_expiry_seconds) == (0, 0, None)
    assert backlog.workers == dict.fromkeys(Stage, 0)


def test_the_longest_wait_of_each_queue_announced_or_not(ledger):
    _, ids = ledger.submit(refs(5))
    start_earlier(ledger)
    earlier(ledger, 40)
    ledger.feed(window=2)
    earlier(ledger, 100, f"id = {ids[1]}")  # announced
    oldest = ledger.do(read_backlog).oldest_seconds
    assert oldest[Queue.BULK] == pytest.approx(140, abs=5)
    earlier(ledger, 200, f"id = {ids[4]}")  # not announced
    ledger.add(ledger.watch(), refs(1, prefix="live"))
    oldest = ledger.do(read_backlog).oldest_seconds
    assert oldest[Queue.BULK] == pytest.approx(240, abs=5)
    assert 0 <= oldest[Queue.LIVE] < 5
    assert oldest[Queue.TEACHER] == 0


def test_what_is_postponed_paused_or_claimed_does_not_wait(ledger):
    job, ids = ledger.submit(refs(3))
    start_earlier(ledger)
    earlier(ledger, 500)
    ledger.claim(ids[:2])
    assert ledger.do(read_backlog).oldest_seconds[Queue.BULK] == pytest.approx(500, abs=5)
    earlier(ledger, -1000, f"id = {ids[2]}")
    assert ledger.do(read_backlog).oldest_seconds[Queue.BULK] == 0
    earlier(ledger, 1000)
    ledger.sql("UPDATE jobs SET state = 'paused' WHERE id = :id", id=job.id)
    assert ledger.do(read_backlog).oldest_seconds[Queue.BULK] == 0
    ledger.sql("UPDATE jobs SET state = 'running', active_since = clock_timestamp() WHERE id = :id", id=job.id)
    assert ledger.do(read_backlog).oldest_seconds[Queue.BULK] < 5  # a pause of days is not a stuck queue


def test_a_job_that_nobody_lists_waits_in_maintenance(ledger):
    ledger.job()
    ledger.sql("UPDATE jobs SET created_at = created_at - interval '90 s'")
    assert ledger.do(read_backlog).oldest_seconds[Queue.MAINTENANCE] == pytest.approx(90, abs=5)
    ledger.sql("UPDATE jobs SET listing_lease_until = clock_timestamp() + interval '1 min'")
    assert ledger.do(read_backlog).oldest_seconds[Queue.MAINTENANCE] == 0
    ledger.sql("UPDATE jobs SET listing_lease_until = clock_timestamp() - interval '20 s'")
    assert ledger.do(read_backlog).oldest_seconds[Queue.MAINTENANCE] == pytest.approx(20, abs=5)


def test_leases_workers_buckets_and_keys(ledger):
    _, ids = ledger.submit(refs(3))
    ledger.claim(ids)
    assert ledger.do(read_backlog).overdue_leases == 0
    ledger.sql("UPDATE items SET lease_until = clock_timestamp() - interval '30 s' WHERE id <> :id", id=ids[0])
    assert ledger.do(read_backlog).overdue_leases == 2
    assert ledger.do(read_backlog, overdue_seconds=60).overdue_leases == 0
    ledger.do(heartbeat, "w1", Stage.STUDENT, "scorer")
    ledger.do(heartbeat, "w2", Stage.STUDENT, "scorer")
    ledger.do(postpone, "far", "timed out")
    with acting_as(Actor(name="cli")):
        ledger.do(create_key, KeyRequest(name="late", lifetime=timedelta(days=9)))
        ledger.do(create_key, KeyRequest(name="soon", lifetime=timedelta(days=2)))
        ledger.do(create_key, KeyRequest(name="never"))
    backlog = ledger.do(read_backlog)
    assert backlog.workers == {Stage.STUDENT: 2, Stage.TEACHER: 0}
    assert backlog.postponed_buckets == 1
    assert backlog.next_key_expiry_seconds == pytest.approx(2 * 86400, abs=10)
    ledger.sql("UPDATE api_keys SET revoked_at = clock_timestamp() WHERE name = 'soon'")
    assert ledger.do(read_backlog).next_key_expiry_seconds == pytest.approx(9 * 86400, abs=10)


def test_leases_that_ran_out_are_told(ledger):
    told = []
    _, ids = ledger.submit(refs(3))
    ledger.claim(ids)
    ledger.sql("UPDATE items SET lease_until = clock_timestamp() - interval '1 s' WHERE id <> :id", id=ids[0])
    ledger.feed(on_expired=told.append)
    ledger.sql("UPDATE items SET lease_until = clock_timestamp() - interval '1 s' WHERE id = :id", id=ids[0])
    ledger.claim(ids, on_expired=told.append)
    assert told == [2, 1]
