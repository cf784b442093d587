from concurrent.futures import ThreadPoolExecutor

import pytest
from support.ledger import ALONE, BOTH, STUDENT, refs

from dpiqa.doorbell import Queue
from dpiqa.errors import ConfigurationError, Conflict, InvalidRequest, LeaseLost, NotFound
from dpiqa.models.choice import ModelChoice
from dpiqa.profiles import Profile
from dpiqa.requirement import Pair, RequirementRequest
from dpiqa.sources.spec import Tally
from dpiqa.storage.items import Scored
from dpiqa.storage.jobs import ensure_watch, find_watches, read_job
from dpiqa.storage.listings import fail_listing, finish_listing, save_cursor, start_listing, unlisted_jobs
from dpiqa.storage.profiles import read_profile
from dpiqa.storage.recorded_scores import store_scores
from dpiqa.storage.requirements import add_requirement
from dpiqa.storage.watches import find_watch
from dpiqa.types import Direction, JobKind, JobState


def test_the_same_key_and_request_give_the_same_job(ledger):
    first = ledger.job(idempotency_key="k")
    assert ledger.job(idempotency_key="k").id == first.id
    assert ledger.job(idempotency_key="other").id != first.id
    with pytest.raises(Conflict):
        ledger.job(idempotency_key="k", prefix="another/")


def test_ten_at_once_with_one_key_make_one_job(ledger):
    with ThreadPoolExecutor(10) as pool:
        job_ids = list(pool.map(lambda _: ledger.job(idempotency_key="k").id, range(10)))
    assert len(set(job_ids)) == 1
    assert ledger.one("SELECT count(*) FROM jobs") == 1


def test_a_changed_profile_needs_a_new_version(ledger):
    ledger.job()
    with pytest.raises(ConfigurationError, match="new version"):
        ledger.job(profile=ALONE.model_copy(update={"student": ModelChoice(model="other")}))
    assert ledger.do(read_profile, ALONE.id) == ALONE


def test_ten_watches_at_once_are_one(ledger):
    with ThreadPoolExecutor(10) as pool:
        job_ids = list(pool.map(lambda _: ledger.watch().id, range(10)))
    assert len(set(job_ids)) == 1
    assert ledger.do(ensure_watch, "photos", "", BOTH).id not in job_ids


def test_a_watch_owns_the_keys_under_its_prefix(ledger):
    whole = ledger.watch()
    part = ledger.do(ensure_watch, "photos", "2024/", ALONE)
    ledger.do(ensure_watch, "elsewhere", "", ALONE)
    last = ledger.do(ensure_watch, "photos", "20__/", ALONE)  # not a pattern
    assert [job.id for job in ledger.do(find_watches, "photos", "2024/a.jpg")] == [whole.id, part.id]
    assert [job.id for job in ledger.do(find_watches, "photos", "2023/a.jpg")] == [whole.id]
    ledger.job()
    assert ledger.do(find_watch, "latest").job.id == last.id  # not the newest job of any kind
    assert (whole.state, whole.kind, whole.queue) == (JobState.WATCHING, JobKind.WATCH, Queue.LIVE)


def test_one_lister_at_a_time_and_the_next_resumes(ledger):
    job = ledger.job()
    assert ledger.do(unlisted_jobs) == [job.id]
    first = ledger.do(start_listing, job.id, 60)
    assert ledger.do(start_listing, job.id, 60) is None
    assert ledger.do(unlisted_jobs) == []
    ledger.do(save_cursor, first, "k00009", Tally(taken=10), 60)
    ledger.sql("UPDATE jobs SET listing_lease_until = clock_timestamp() - interval '1 s'")
    second = ledger.do(start_listing, str(job.id), 60)
    assert second.cursor == "k00009"
    for late in (
        lambda: ledger.do(save_cursor, first, "k00010", Tally()),
        lambda: ledger.do(finish_listing, first),
        lambda: ledger.do(fail_listing, first, "x"),
    ):
        with pytest.raises(LeaseLost):
            late()
    ledger.do(finish_listing, second)
    assert ledger.do(read_job, job.id).state is JobState.COMPLETE  # nothing was under the prefix


def test_nothing_can_be_added_to_a_job_that_ended(ledger):
    job, _ = ledger.submit([])
    assert ledger.report(job).job.state is JobState.COMPLETE
    with pytest.raises(Conflict):
        ledger.add(job, refs(1))
    assert ledger.one("SELECT count(*) FROM images") == 0


def test_a_job_that_cannot_be_listed_says_why(ledger):
    job = ledger.do(start_listing, ledger.job().id, 60)
    ledger.do(fail_listing, job, "no such bucket")
    failed = ledger.do(read_job, job.id)
    assert (failed.state, failed.error) == (JobState.FAILED, "no such bucket")
    assert ledger.do(unlisted_jobs) == []


@pytest.mark.parametrize("name", ["00000000-0000-0000-0000-000000000000", "00000000", "latest"])
def test_an_unknown_job_is_not_found(ledger, name):
    with pytest.raises(NotFound, match=f"no job {name}"):
        ledger.do(read_job, name)


@pytest.mark.parametrize(
    "name", ["", "12345", "not-a-uuid", "{00000000-0000-0000-0000-000000000000}", "0" * 33, "é" * 6]
)
def test_what_cannot_name_a_job_is_refused(ledger, name):
    with pytest.raises(InvalidRequest, match="first 6 or more digits"):
        ledger.do(read_job, name)


def rename(ledger, job, job_id):
    ledger.sql("UPDATE jobs SET id = :new WHERE id = :id", new=job_id, id=job.id)
    return ledger.do(read_job, job_id)


def test_a_job_is_named_by_the_beginning_of_its_id_or_as_the_latest(ledger):
    first = rename(ledger, ledger.job(), "0b9b6f3e-8a51-4b7e-9a57-0d1c3a0a5d5f")
    second = rename(ledger, ledger.job(), "0b9b6f3e-8a52-4b7e-9a57-0d1c3a0a5d5f")
    third = rename(ledger, ledger.job(), "ffffff3e-8a51-4b7e-9a57-0d1c3a0a5d5f")
    for name, job in [
        ("0b9b6f3e-8a51", first),
        ("0B9B6F3E8A52", second),
        (str(second.id), second),
        (second.id, second),
        ("ffffff", third),
        ("latest", third),
    ]:
        assert ledger.do(read_job, name).id == job.id
    with pytest.raises(InvalidRequest, match=f"several job ids begin with 0b9b6f3e: {first.id}, {second.id}"):
        ledger.do(read_job, "0b9b6f3e")


def test_many_candidates_are_not_all_listed(ledger):
    for digit in "123456789":
        rename(ledger, ledger.job(), f"0b9b6f3e-8a51-4b7e-9a57-0d1c3a0a5d5{digit}")
    with pytest.raises(InvalidRequest) as error:
        ledger.do(read_job, "0b9b6f")
    assert error.value.message.count("0b9b6f3e") == 5
    assert error.value.message.endswith("0d1c3a0a5d55, ...")


def keep_requirement(ledger, name, direction, *, ready=True):
    pairs = tuple(Pair(f"s3://photos/{n}.jpg", n / 4) for n in range(5))
    request = RequirementRequest(name=name, pairs=pairs, direction=direction, model="p")
    ledger.do(add_requirement, request, digests=["d"] * 5 if ready else None)


def by_requirement(student, teacher=None):
    return Profile(name="x", version=1, student=student, teacher=teacher)


def test_a_profile_whose_scales_run_against_each_other_is_refused(ledger):
    keep_requirement(ledger, "sharp", Direction.HIGHER)
    keep_requirement(ledger, "blur", Direction.LOWER)
    sharp, blur = ({"model": "p", "requirement": f"{name}@1"} for name in ("sharp", "blur"))
    for wrong in (by_requirement("student", blur), by_requirement(blur, sharp), by_requirement(blur, "teacher")):
        with pytest.raises(ConfigurationError, match=r"cannot be compared .*lower is better"):
            ledger.job(profile=wrong)
    assert ledger.job(profile=by_requirement("student", sharp)).profile == "x@1"


def test_a_plug_ins_model_that_scores_the_other_way_is_refused_once_it_scored(ledger):
    card = STUDENT.model_copy(update={"name": "odd.metric", "lower_is_better": True})
    mixed = Profile(name="mixed", version=1, student="odd.metric", teacher="teacher")
    images = refs(1)
    _, ids = ledger.submit(images, profile=Profile(name="odd", version=1, student="odd.metric"))
    (held,) = ledger.claim(ids)
    assert ledger.job(profile=mixed.model_copy(update={"name": "unknown"})).profile == "unknown@1"
    ledger.do(store_scores, card, [Scored(held, 0.5, images[0].etag)])
    with pytest.raises(ConfigurationError, match=r"student: lower is better, teacher: higher is better"):
        ledger.job(profile=mixed)
    both = Profile(name="both", version=1, student="odd.metric", teacher="odd.another")
    assert ledger.job(profile=both).profile == "both@1"


@pytest.mark.parametrize(
    ("name", "message"), [("none", "no requirement 'none@1'"), ("waiting", "waiting@1 is pending")]
)
def test_a_profile_whose_requirement_is_not_ready_is_refused(ledger, name, message):
    keep_requirement(ledger, "waiting", Direction.HIGHER, ready=False)
    with pytest.raises(ConfigurationError, match=message):
        ledger.job(profile=by_requirement({"model": "p", "requirement": f"{name}@1"}))
