"""Schedules of reconciliations, their leases, and the watches that they belong to."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from support.ledger import ALONE, Ledger

from dpiqa.addresses import S3Address
from dpiqa.errors import Conflict, InvalidRequest, LeaseLost, NotFound
from dpiqa.storage.reconciliations import (
    ReconciliationRequest,
    fail_reconciliation,
    list_reconciliations,
    read_reconciliation,
    request_due,
    request_reconciliation,
    start_reconciliation,
    unfinished_reconciliations,
)
from dpiqa.storage.steering import cancel_job, pause_job
from dpiqa.storage.watches import add_watch, find_watch, list_watches, set_schedule

ADDRESS = S3Address("photos", "in/")
DUE = "UPDATE watches SET reconcile_due_at = clock_timestamp() - interval '3 days'"


@pytest.fixture
def ledger(engine):
    return Ledger(engine)


@pytest.fixture
def watch(ledger):
    watch = ledger.do(add_watch, ADDRESS, ALONE).watch
    ledger.do(set_schedule, watch.job.id, 3600)
    return watch


def due_in(ledger):
    return ledger.one("SELECT extract(epoch FROM reconcile_due_at - clock_timestamp())::int FROM watches")


def test_a_watch_and_its_back_fill_exist_once(ledger):
    first, second = (ledger.do(add_watch, ADDRESS, ALONE) for _ in range(2))
    assert (first.is_new, second.is_new, second.backfill) == (True, False, None)
    assert second.watch.backfill_job_id == first.backfill.id
    ledger.do(cancel_job, first.backfill.id)
    third = ledger.do(add_watch, ADDRESS, ALONE)
    assert third.backfill.id == third.watch.backfill_job_id != first.backfill.id
    assert third.watch.job.id == first.watch.job.id


def test_many_add_a_watch_at_once(ledger):
    with ThreadPoolExecutor(4) as pool:
        added = list(pool.map(lambda _: ledger.do(add_watch, ADDRESS, ALONE), range(4)))
    assert len({one.watch.job.id for one in added}) == 1
    assert ledger.sql("SELECT count(*) FROM jobs WHERE kind = 'prefix'") == [(1,)]


def test_a_schedule_asks_once_when_it_is_due(ledger, watch):
    ledger.do(request_due)
    assert ledger.do(unfinished_reconciliations) == []
    assert 3500 < due_in(ledger) <= 3600
    ledger.sql(DUE)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: ledger.do(request_due), range(4)))
    (row_id,) = ledger.do(unfinished_reconciliations)
    r = ledger.do(read_reconciliation, row_id)
    assert (r.watch_id, r.address, r.profile, r.dry_run) == (watch.job.id, ADDRESS, ALONE.id, False)
    assert 3500 < due_in(ledger) <= 3600  # missed times are not made up for


def test_a_schedule_leaves_an_open_one_alone(ledger, watch):
    asked = ledger.do(request_reconciliation, ReconciliationRequest(address=ADDRESS, profile=ALONE.id, dry_run=True))
    ledger.sql(DUE)
    ledger.do(request_due)
    assert ledger.do(unfinished_reconciliations) == [asked.id]


@pytest.mark.parametrize("end", [cancel_job, pause_job])
def test_a_watch_that_does_not_watch_is_not_reconciled(ledger, watch, end):
    ledger.do(end, watch.job.id)
    ledger.sql(DUE)
    ledger.do(request_due)
    assert ledger.do(unfinished_reconciliations) == []


def test_one_process_at_a_time_and_a_lost_lease_is_refused(ledger, watch):
    asked = ledger.do(request_reconciliation, ReconciliationRequest(address=ADDRESS, profile=ALONE.id))
    held = ledger.do(start_reconciliation, asked.id, 60)
    assert ledger.do(start_reconciliation, asked.id, 60) is None
    assert ledger.do(unfinished_reconciliations) == []
    with pytest.raises(Conflict, match="other options"):
        ledger.do(request_reconciliation, ReconciliationRequest(address=ADDRESS, profile=ALONE.id, dry_run=True))
    ledger.sql("UPDATE reconciliations SET lease_until = clock_timestamp()")
    again = ledger.do(start_reconciliation, asked.id, 60)
    assert (again.attempt, again.as_of, again.started_at) == (2, held.as_of, held.started_at)
    with pytest.raises(LeaseLost):
        ledger.do(fail_reconciliation, held, "too late")
    ledger.do(fail_reconciliation, again, "for a reason")
    assert ledger.do(read_reconciliation, asked.id).error == "for a reason"


def test_names(ledger, watch):
    asked = ledger.do(request_reconciliation, ReconciliationRequest(address=ADDRESS, profile=ALONE.id))
    assert ledger.do(read_reconciliation, asked.short_id).id == asked.id
    with pytest.raises(InvalidRequest):
        ledger.do(read_reconciliation, "x")
    with pytest.raises(NotFound):
        ledger.do(read_reconciliation, "abcdef")
    assert ledger.do(find_watch, "s3://photos/in/").job.id == watch.job.id
    assert ledger.do(find_watch, watch.job.short_id).job.id == watch.job.id
    with pytest.raises(NotFound):
        ledger.do(find_watch, "s3://photos/")
    ledger.do(add_watch, ADDRESS, ALONE.model_copy(update={"name": "other"}))
    with pytest.raises(InvalidRequest, match="under several profiles"):
        ledger.do(find_watch, "s3://photos/in/")
    assert len(ledger.do(list_watches)) == 2


def test_pages_of_reports(ledger, watch):
    for number in range(5):
        address = S3Address("photos", f"{number}/")
        ledger.do(request_reconciliation, ReconciliationRequest(address=address, profile=ALONE.id))
    first = ledger.do(list_reconciliations, limit=3)
    second = ledger.do(list_reconciliations, limit=3, cursor=first.next_cursor)
    assert [r.prefix for r in [*first.items, *second.items]] == ["4/", "3/", "2/", "1/", "0/"]
    assert second.next_cursor is None
    assert [r.prefix for r in ledger.do(list_reconciliations, bucket="photos", prefix="2/").items] == ["2/"]
