import math
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy.exc import IntegrityError
from support.ledger import BOTH, STUDENT, TEACHER, ref, refs

from dpiqa.storage.outcomes import Changed, Failed, Gone, Postponed, Rejected, Release, Scored
from dpiqa.storage.workers import heartbeat
from dpiqa.types import JobState, Reason, Route, Stage


def test_a_score_leaves_its_provenance(book):
    job, (item,) = book.submit([ref("a", "e1")])
    book.score([item], value=0.42)
    (score,) = book.sql("SELECT * FROM scores")
    assert (score.score, score.scorer_id, score.etag, score.attempt, score.job_id) == (
        0.42,
        STUDENT.scorer_id,
        "e1",
        1,
        job.id,
    )
    (result,) = book.sql("SELECT * FROM results")
    assert (result.score, result.stage, result.status, result.route) == (0.42, "student", "final", "no_teacher")
    assert (result.bucket, result.key, result.etag, result.current) == ("photos", "a", "e1", True)
    assert book.one("SELECT card ->> 'name' FROM scorers") == "student"
    assert book.report(job).job.state is JobState.COMPLETE


def test_one_batch_of_every_outcome(book):
    watch = book.watch()
    ids = book.add(watch, refs(8))
    scored, rejected, gone, changed, postponed, failed, released, _kept = book.claim(ids)
    new = ref(changed.ref.key, "etag-new", at=60)
    recorded = book.record(
        [
            Release(released),
            Failed(failed, "boom\x00 \udc80"),
            Postponed(postponed, 60, "S3 is down"),
            Changed(changed, new),
            Gone(gone),
            Rejected(rejected, Reason.TRUNCATED, "ends at byte 12"),
            Scored(scored, 0.9, scored.ref.etag),
        ]
    )
    assert (recorded.n_recorded, recorded.n_stale) == (7, 0)
    assert book.states(watch) == {"scored": 1, "rejected": 1, "deleted": 1, "superseded": 1, "queued": 4, "leased": 1}
    assert book.current(changed.ref.key) == "etag-new"
    assert book.current(gone.ref.key) is None
    row = book.item(rejected.ref.key)
    assert (row.reason, row.detail) == ("truncated", "ends at byte 12")
    (fresh,) = book.sql("SELECT i.id FROM items i JOIN images m ON m.id = i.image_id WHERE m.etag = 'etag-new'")
    book.score([fresh.id], value=0.2)
    assert book.one("SELECT score FROM results WHERE key = :key AND current", key=changed.ref.key) == 0.2


def test_a_changed_object_wins_even_where_its_clock_runs_behind(book):
    """A multipart upload carries the time of its start: what a worker reads now is newer, whatever it says."""
    watch = book.watch()
    (claim,) = book.claim(book.add(watch, [ref("a", "e1", at=60)]))
    book.record([Changed(claim, ref("a", "e2", at=0))])
    assert book.current("a") == "e2"
    assert book.states(watch) == {"superseded": 1, "queued": 1}


def test_a_changed_object_does_not_win_over_what_was_heard_since(book):
    watch = book.watch()
    (claim,) = book.claim(book.add(watch, [ref("a", "e1", at=0)]))
    book.add(watch, [ref("a", "e3", at=9)])
    book.record([Changed(claim, ref("a", "e2", at=5))])
    assert book.current("a") == "e3"
    assert book.states(watch) == {"superseded": 2, "queued": 1}


def test_bytes_of_another_version_are_scored_as_that_version(book):
    watch = book.watch()
    (claim,) = book.claim(book.add(watch, [ref("a", "e1")]))
    book.record([Scored(claim, 0.9, "e2", "v2")])
    assert book.one("SELECT count(*) FROM scores") == 0
    assert book.current("a") == "e2"
    assert book.item("a", etag="e1").state == "superseded"
    (again,) = book.claim([book.item("a", etag="e2").id])
    assert again.ref.version_id == "v2"


def test_written_again_while_a_worker_found_nothing(book):
    """404, and before it is recorded the object is back with the same bytes: the item waits again."""
    watch = book.watch()
    (claim,) = book.claim(book.add(watch, [ref("a", "e1", at=0)]))
    book.add(watch, [ref("a", "e1", at=9)])
    book.record([Gone(claim)])
    assert book.current("a") == "e1"
    assert book.states(watch) == {"queued": 1}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_score_is_anything_but_a_number(book, value):
    job, (item,) = book.submit(refs(1))
    (claim,) = book.claim([item])
    book.record([Scored(claim, value, claim.ref.etag)])
    assert book.item("k00000").reason == "non_finite_score"
    assert book.report(job).failures == {Reason.NON_FINITE_SCORE: 1}
    book.score(book.submit(refs(1, start=1))[1])
    for table in ("scores", "results"):
        with pytest.raises(IntegrityError):
            book.sql(f"UPDATE {table} SET score = :value", value=value)


def test_one_outcome_the_database_refuses_undoes_its_batch(book):
    job, ids = book.submit(refs(2))
    claims = book.claim(ids)
    with pytest.raises(IntegrityError):
        book.record([Scored(claims[0], 0.5, "etag-0"), Rejected(claims[1], "no such reason")])
    assert book.states(job) == {"leased": 2}
    assert book.one("SELECT count(*) FROM scores") == 0


def test_errors_end_an_item_only_after_the_last_retry(book):
    job, (item,) = book.submit(refs(1))
    for n in range(5):
        assert book.states(job) == {"queued": 1}, n
        (claim,) = book.claim([item])
        book.record([Failed(claim, f"error {n}")])
    row = book.item("k00000")
    assert (row.state, row.reason, row.detail, row.errors) == ("dead", "repeated_errors", "error 4", 5)
    assert book.report(job).job.state is JobState.COMPLETE


def test_two_jobs_record_the_same_image_and_the_first_score_stays(book):
    (first, (a,)), (second, (b,)) = book.submit(refs(1)), book.submit(refs(1))
    one, two = book.claim([a])[0], book.claim([b])[0]
    book.record([Scored(one, 0.3, "etag-0")])
    book.record([Scored(two, 0.8, "etag-0")])
    assert book.one("SELECT score FROM scores") == 0.3
    assert book.one("SELECT score FROM results") == 0.3
    assert [book.report(job).job.state for job in (first, second)] == ["complete", "complete"]


def test_two_jobs_record_the_same_images_at_the_same_time(book_with_teacher):
    book = book_with_teacher
    jobs = [book.submit(refs(40)) for _ in range(6)]
    claims = [book.claim(ids, owner=f"w{n}") for n, (_, ids) in enumerate(jobs)]

    def record(n):
        order = claims[n] if n % 2 else claims[n][::-1]
        return book.record([Scored(c, 0.1 * n + 0.001 * i, c.ref.etag) for i, c in enumerate(order)])

    with ThreadPoolExecutor(6) as pool:
        assert sum(one.n_recorded for one in pool.map(record, range(6))) == 240
    assert book.one("SELECT count(*) FROM scores") == 40
    assert (
        book.one("SELECT count(*) FROM results r JOIN scores s USING (image_id, scorer_id) WHERE r.score = s.score")
        == 40
    )
    for job, _ in jobs:
        book.check_counts(job)
    provisional = book.one("SELECT count(*) FROM results WHERE status = 'provisional'")
    assert book.one("SELECT count(*) FROM items WHERE stage = 'teacher'") == 6 * provisional


def test_borderline_images_go_on_to_the_teacher_with_a_provisional_result(book_with_teacher):
    book = book_with_teacher
    job, ids = book.submit(refs(4))
    values = dict(zip(ids, (0.5, 0.9, 0.58, 0.45), strict=True))
    recorded = book.score(ids, value=lambda c: values[c.item_id])
    assert sorted(recorded.teacher_items) == [ids[0], ids[3]]  # half of four; the nearest to the cut-off
    routes = {row.id: row.route for row in book.sql("SELECT id, route FROM items")}
    assert [routes[i] for i in ids] == [Route.BORDERLINE, Route.CLEAR, Route.BUDGET_SPENT, Route.BORDERLINE]
    assert book.states(job) == {"scored": 2, "queued": 2}
    assert {r.status for r in book.sql("SELECT status FROM results WHERE score < 0.51")} == {"provisional"}
    report = book.report(job)
    assert report.open_by_stage == {Stage.TEACHER: 2}
    assert report.waiting_for == "a teacher worker: 2 items"
    book.do(heartbeat, "t1", Stage.TEACHER, TEACHER.scorer_id)
    assert book.report(job).waiting_for is None

    claims = book.claim(recorded.teacher_items, stage=Stage.TEACHER)
    assert [claim.student_score for claim in claims] == [0.5, 0.45]
    book.record([Scored(c, 0.77, c.ref.etag) for c in claims], stage=Stage.TEACHER)
    (result, *_) = book.sql("SELECT * FROM results WHERE student_score = 0.5")
    assert (result.score, result.teacher_score, result.stage, result.status) == (0.77, 0.77, "teacher", "final")
    assert (result.scorer_id, result.route) == (TEACHER.scorer_id, "borderline")
    assert book.states(job) == {"scored": 4}
    assert book.report(job).job.state is JobState.COMPLETE


def test_what_the_teacher_cannot_score_keeps_the_students_score_as_final(book_with_teacher):
    book = book_with_teacher
    job, ids = book.submit(refs(4))
    rejected, dead = book.claim(book.score(ids, value=0.5).teacher_items, stage=Stage.TEACHER)
    book.record([Rejected(rejected, Reason.DEVICE_MEMORY)], stage=Stage.TEACHER)
    book.record([Failed(dead, "x")], stage=Stage.TEACHER, max_errors=1)
    assert book.states(job) == {"scored": 2, "rejected": 1, "dead": 1}
    assert {(r.score, r.status) for r in book.sql("SELECT score, status FROM results")} == {(0.5, "final")}


def test_the_teachers_crashes_settle_the_students_score_too(book_with_teacher):
    book = book_with_teacher
    _, ids = book.submit(refs(1))
    (item,) = book.score(ids, value=0.5).teacher_items
    for crash in range(3):
        assert len(book.claim([item], stage=Stage.TEACHER, owner=f"w{crash}")) == 1
        book.expire([item])
    book.feed()
    assert book.item("k00000").state == "dead"
    assert book.one("SELECT status FROM results") == "final"


def test_crashes_of_the_student_do_not_count_against_the_teacher(book_with_teacher):
    book = book_with_teacher
    _, (item,) = book.submit(refs(1))
    book.claim([item])
    book.expire([item])
    book.score([item], value=0.5)
    row = book.item("k00000")
    assert (row.stage, row.crashes, row.queue) == ("teacher", 0, "teacher")


def test_the_escalation_cap_is_exact_under_concurrency(book_with_teacher):
    book = book_with_teacher
    job, ids = book.submit(refs(200))
    chunks = [ids[i : i + 7] for i in range(0, 200, 7)]

    def work(chunk):
        book.score(chunk, value=0.5)
        escalated, scored = book.sql("SELECT escalated, scored_by_student FROM jobs")[0]
        return escalated <= max(1, scored // 2)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, chunks))
    assert book.report(job).job.scored_by_student == 200
    assert book.report(job).job.escalated == book.one("SELECT count(*) FROM items WHERE stage = 'teacher'")
    assert 90 <= book.report(job).job.escalated <= 100
    assert book.states(job) == {
        "scored": 200 - book.report(job).job.escalated,
        "queued": book.report(job).job.escalated,
    }


def test_an_image_scored_while_another_took_its_place_does_not_count(book):
    watch = book.watch()
    (claim,) = book.claim(book.add(watch, [ref("a", "e1", at=0)]))
    book.add(watch, [ref("a", "e2", at=5)])
    book.record([Scored(claim, 0.5, "e1")])  # it had read the old bytes before
    assert book.states(watch) == {"scored": 1, "queued": 1}
    assert book.one("SELECT current FROM results WHERE etag = 'e1'") is False


def test_claims_of_another_profile_are_a_mistake(book):
    _, ids = book.submit(refs(1))
    claims = book.claim(ids)
    with pytest.raises(ValueError, match="both@1"):
        book.record([Release(claim) for claim in claims], profile=BOTH)
