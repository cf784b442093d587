"""Reports of jobs in S3: written once, complete or absent, whatever happens to the worker."""

import csv
import io
import multiprocessing
import os
import signal
import time

import pytest
from support.ledger import Ledger, refs

from dpiqa.errors import InvalidRequest
from dpiqa.exports import reports as writing
from dpiqa.exports import rows
from dpiqa.exports.reports import check_report_output, write_report
from dpiqa.settings import load_settings
from dpiqa.storage.engine import make_engine
from dpiqa.storage.items import Rejected
from dpiqa.storage.reports import due_reports, read_report, request_report
from dpiqa.storage.steering import cancel_job
from dpiqa.types import Reason, ReportState


@pytest.fixture
def settings(database_url, s3):
    return load_settings(database_url=database_url, lease_seconds=2, **s3.settings)


@pytest.fixture
def ledger(database_url):
    engine = make_engine(database_url, pool_size=2)
    yield Ledger(engine)
    engine.dispose()


@pytest.fixture
def running(ledger, s3):
    """A job of 30 images, three of them rejected, that asked for a report; and the ids of its last 10 items."""
    job, ids = ledger.submit(refs(30))
    ledger.do(request_report, job.id, f"s3://{s3.name}/reports/job.csv")
    ledger.score(ids[:20], value=0.5)
    return job, ids[20:]


def end(ledger, ids):
    ledger.score(ids[:7], value=0.7)
    ledger.record([Rejected(claim, Reason.CORRUPT, "bad bytes") for claim in ledger.claim(ids[7:])])


def rows_of(s3, key="reports/job.csv"):
    text = s3.client.get_object(Bucket=s3.name, Key=key)["Body"].read().decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_a_report_is_due_when_its_job_has_ended_and_written_once(ledger, settings, running, s3):
    job, rest = running
    assert ledger.do(due_reports) == []
    write_report(ledger.engine, settings, ledger.do(read_report, job.id).id)
    assert s3.keys() == []
    end(ledger, rest)
    (due,) = ledger.do(due_reports)
    write_report(ledger.engine, settings, due)
    report = ledger.do(read_report, job.id)
    assert (report.state, report.n_rows, report.error) == (ReportState.WRITTEN, 30, None)
    assert [row["state"] for row in rows_of(s3)] == ["scored"] * 27 + ["rejected"] * 3
    assert ledger.do(due_reports) == []


def test_failures_only_of_a_cancelled_job(ledger, settings, s3):
    job, ids = ledger.submit(refs(3))
    ledger.do(request_report, job.id, f"s3://{s3.name}/failures.csv", failures=True)
    ledger.score(ids[:1])
    ledger.do(cancel_job, job.id)
    (due,) = ledger.do(due_reports)
    write_report(ledger.engine, settings, due)
    assert [(row["key"], row["reason"]) for row in rows_of(s3, "failures.csv")] == [
        ("k00001", "job_cancelled"),
        ("k00002", "job_cancelled"),
    ]


def test_a_bucket_that_does_not_exist_fails_the_report(ledger, settings, s3):
    job, ids = ledger.submit(refs(1))
    ledger.do(request_report, job.id, "s3://no-such-bucket-at-all/x.csv")
    ledger.score(ids)
    write_report(ledger.engine, settings, ledger.do(read_report, job.id).id)
    report = ledger.do(read_report, job.id)
    assert (report.state, "there is no bucket" in report.error) == (ReportState.FAILED, True)


def write_slowly(database_url, settings, report_id, reached):
    """Write a report with pages of 5 rows, and stop for good after the second."""
    rows.PAGE_ROWS = 5
    batches = writing.item_batches

    def slow(*args):
        for n, columns in enumerate(batches(*args)):
            if n == 2:
                reached.set()
                time.sleep(60)
            yield columns

    writing.item_batches = slow
    write_report(make_engine(database_url, pool_size=1), settings, report_id)


def test_a_worker_that_is_killed_leaves_nothing_and_another_writes_the_report(
    ledger, settings, running, s3, database_url
):
    job, rest = running
    end(ledger, rest)
    (due,) = ledger.do(due_reports)
    context = multiprocessing.get_context("fork")
    reached = context.Event()
    worker = context.Process(target=write_slowly, args=(database_url, settings, due, reached))
    worker.start()
    assert reached.wait(30)
    assert ledger.do(due_reports) == []  # it has the lease
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    assert s3.keys() == []
    deadline = time.monotonic() + 20
    while ledger.do(due_reports) != [due]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    write_report(ledger.engine, settings, due)
    assert len(rows_of(s3)) == 30
    assert ledger.do(read_report, job.id).attempt == 2


def test_outputs_of_reports():
    assert check_report_output("s3://b1/a.jsonl") == "s3://b1/a.jsonl"
    for wrong in ("/tmp/a.csv", "s3://b1/", "s3://b1/a.txt"):
        with pytest.raises(InvalidRequest):
            check_report_output(wrong)
