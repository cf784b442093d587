from concurrent.futures import ThreadPoolExecutor

import pytest
from support.ledger import ALONE, BOTH, refs

from dpiqa.errors import ConfigurationError, Conflict, NotFound
from dpiqa.messages import Queue
from dpiqa.models.choice import ModelChoice
from dpiqa.storage import ledger
from dpiqa.types import JobKind, JobState


def test_the_same_key_and_request_give_the_same_job(book):
    first = book.job(idempotency_key="k", request_hash="h")
    assert book.job(idempotency_key="k", request_hash="h").id == first.id
    assert book.job(idempotency_key="other", request_hash="h").id != first.id
    with pytest.raises(Conflict):
        book.job(idempotency_key="k", request_hash="another")


def test_ten_at_once_with_one_key_make_one_job(book):
    with ThreadPoolExecutor(10) as pool:
        made = list(pool.map(lambda _: book.job(idempotency_key="k", request_hash="h").id, range(10)))
    assert len(set(made)) == 1
    assert book.one("SELECT count(*) FROM jobs") == 1


def test_a_changed_profile_needs_a_new_version(book):
    book.job()
    with pytest.raises(ConfigurationError, match="new version"):
        book.job(profile=ALONE.model_copy(update={"student": ModelChoice(model="other")}))
    assert book.do(ledger.read_profile, ALONE.id) == ALONE


def test_ten_watches_at_once_are_one(book):
    with ThreadPoolExecutor(10) as pool:
        made = list(pool.map(lambda _: book.watch().id, range(10)))
    assert len(set(made)) == 1
    assert book.do(ledger.ensure_watch, "photos", "", BOTH).id not in made


def test_a_watch_owns_the_keys_under_its_prefix(book):
    whole = book.watch()
    part = book.do(ledger.ensure_watch, "photos", "2024/", ALONE)
    book.do(ledger.ensure_watch, "elsewhere", "", ALONE)
    book.do(ledger.ensure_watch, "photos", "20__/", ALONE)  # not a pattern
    assert [job.id for job in book.do(ledger.find_watches, "photos", "2024/a.jpg")] == [whole.id, part.id]
    assert [job.id for job in book.do(ledger.find_watches, "photos", "2023/a.jpg")] == [whole.id]
    assert (whole.state, whole.kind, whole.queue) == (JobState.WATCHING, JobKind.WATCH, Queue.LIVE)


def test_one_lister_at_a_time_and_the_next_resumes(book):
    job = book.job()
    assert book.do(ledger.unlisted_jobs) == [job.id]
    first = book.do(ledger.start_listing, job.id, 60)
    assert book.do(ledger.start_listing, job.id, 60) is None
    assert book.do(ledger.unlisted_jobs) == []
    book.do(ledger.save_cursor, first, "k00009", 60)
    book.sql("UPDATE jobs SET listing_lease_until = clock_timestamp() - interval '1 s'")
    second = book.do(ledger.start_listing, str(job.id), 60)
    assert second.cursor == "k00009"
    for late in (
        lambda: book.do(ledger.save_cursor, first, "k00010"),
        lambda: book.do(ledger.finish_listing, first),
        lambda: book.do(ledger.fail_listing, first, "x"),
    ):
        with pytest.raises(ledger.LeaseLost):
            late()
    book.do(ledger.finish_listing, second)
    assert book.do(ledger.read_job, job.id).state is JobState.COMPLETE  # nothing was under the prefix


def test_nothing_can_be_added_to_a_job_that_ended(book):
    job, _ = book.submit([])
    assert book.report(job).job.state is JobState.COMPLETE
    with pytest.raises(Conflict):
        book.add(job, refs(1))
    assert book.one("SELECT count(*) FROM images") == 0


def test_a_job_that_cannot_be_listed_says_why(book):
    job = book.do(ledger.start_listing, book.job().id, 60)
    book.do(ledger.fail_listing, job, "no such bucket")
    failed = book.do(ledger.read_job, job.id)
    assert (failed.state, failed.error) == (JobState.FAILED, "no such bucket")
    assert book.do(ledger.unlisted_jobs) == []


@pytest.mark.parametrize("job_id", ["00000000-0000-0000-0000-000000000000", "not-a-uuid", ""])
def test_an_unknown_job_is_not_found(book, job_id):
    with pytest.raises(NotFound):
        book.do(ledger.read_job, job_id)
