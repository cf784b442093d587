from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.ledger import T0

from dpiqa.doorbell import Queue
from dpiqa.errors import InvalidRequest
from dpiqa.storage.counts import Count
from dpiqa.storage.job_queries import FailingItems, report
from dpiqa.storage.jobs import Job
from dpiqa.storage.pages import decode, encode
from dpiqa.storage.workers import LiveWorker
from dpiqa.text import iso_minute
from dpiqa.types import ItemState, JobKind, JobState, Reason, Stage

JOB = Job(
    further_profiles=[],
    id=uuid4(),
    kind=JobKind.PREFIX,
    bucket="b",
    prefix="",
    profile="p@1",
    state=JobState.RUNNING,
    queue=Queue.BULK,
    created_at=T0,
    listed_at=None,
    finished_at=None,
    cursor=None,
    listing_lease_until=None,
    listing_attempt=0,
    idempotency_key=None,
    request_hash=None,
    scored_by_student=0,
    escalated=0,
    error=None,
    priority=0,
    active_since=None,
    active_seconds=0.0,
    deleted_at=None,
    pruned_at=None,
    client=None,
    grants=None,
    pause_reason=None,
    details=False,
)
COUNTS = [
    Count(Stage.STUDENT, ItemState.SCORED, None, 6),
    Count(Stage.TEACHER, ItemState.SCORED, None, 2),
    Count(Stage.TEACHER, ItemState.QUEUED, None, 3),
    Count(Stage.STUDENT, ItemState.LEASED, None, 1),
    Count(Stage.STUDENT, ItemState.REJECTED, Reason.EMPTY, 1),
    Count(Stage.STUDENT, ItemState.REJECTED, Reason.CORRUPT, 2),
    Count(Stage.TEACHER, ItemState.REJECTED, Reason.CORRUPT, 1),
]
STUDENT = LiveWorker("w", Stage.STUDENT, "h", 1, "s", T0, T0)


def test_a_report_adds_up():
    job_report = report(JOB, COUNTS, 2.0, [STUDENT], now=T0)
    assert job_report.by_state == {"scored": 8, "queued": 3, "leased": 1, "rejected": 4}
    assert job_report.failures == {Reason.CORRUPT: 3, Reason.EMPTY: 1}
    assert list(job_report.failures) == [Reason.CORRUPT, Reason.EMPTY]
    assert (job_report.total, job_report.done, job_report.open_by_stage) == (16, 12, {"teacher": 3, "student": 1})
    assert (job_report.rate, job_report.eta_seconds) == (2.0, 2.0)
    assert job_report.waiting_for == "a teacher worker: 3 items"


@pytest.mark.parametrize(
    ("job", "counts", "rate", "eta"),
    [
        (JOB, COUNTS, 0.0, None),
        (JOB, [], 0.0, 0.0),
        (replace(JOB, state=JobState.LISTING), COUNTS, 2.0, None),
        (replace(JOB, state=JobState.WATCHING), COUNTS, 2.0, None),
    ],
)
def test_there_is_no_eta_where_it_cannot_be_known(job, counts, rate, eta):
    assert report(job, counts, rate, [], now=T0).eta_seconds == eta


def test_a_job_waits_for_what_is_not_there():
    assert report(JOB, COUNTS, 1, [], now=T0).waiting_for == "a student worker: 1 item, a teacher worker: 3 items"
    assert report(JOB, [], 1, [], now=T0).waiting_for is None
    assert report(replace(JOB, state=JobState.LISTING), [], 0, [], now=T0).waiting_for == "a worker to list its objects"
    cancelled = replace(JOB, state=JobState.CANCELLED)
    assert report(cancelled, COUNTS, 0, [], now=T0).waiting_for == "a worker of any stage to cancel 4 items"
    assert report(cancelled, COUNTS, 0, [STUDENT], now=T0).waiting_for is None


WATCH = replace(JOB, kind=JobKind.WATCH, state=JobState.WATCHING)
FAILING = FailingItems("b", "k.png", 7, T0, "S3 does not return s3://b/k.png: InternalError", 1)


TRIED = "s3://b/k.png, tried 7 times since {at}: {error}"


@pytest.mark.parametrize(
    ("job", "n_open", "n_failing", "text"),
    [
        (JOB, 1, 1, f"an image of which every try fails: {TRIED}; {{end}} it"),
        (JOB, 3, 3, f"3 images of which every try fails: the first {TRIED}; {{end}} them"),
        (JOB, 3, 2, None),
        (WATCH, 1, 1, f"an image of which every try fails: {TRIED}"),
    ],
)
def test_a_job_whose_last_images_fail_each_time_names_one_and_how_to_end(job, n_open, n_failing, text):
    counts = [Count(Stage.STUDENT, ItemState.QUEUED, None, n_open)]
    made = report(job, counts, 0, [STUDENT], now=T0, failing=replace(FAILING, n=n_failing))
    end = f"`dpiqa jobs cancel {JOB.short_id}` ends the job without"
    assert made.waiting_for == (text and text.format(at=iso_minute(T0), error=FAILING.error, end=end))


@given(st.tuples(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 2**62), st.text()))
def test_a_cursor_brings_back_exactly_its_position(position):
    cursor = encode(("q", 1), list(position))
    assert decode(("q", 1), cursor, [float, int, str]) == list(position)
    with pytest.raises(InvalidRequest):
        decode(("q", 2), cursor, [float, int, str])
    with pytest.raises(InvalidRequest):
        decode(("q", 1), cursor, [float, int])
    with pytest.raises(InvalidRequest):
        decode(("q", 1), cursor, [int, float, str])


@given(st.text())
def test_no_other_text_is_a_cursor(text):
    with pytest.raises(InvalidRequest):
        decode("q", text, [float, int])
