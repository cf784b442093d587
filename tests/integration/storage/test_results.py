import math
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import event
from support.ledger import ALONE, BOTH, STUDENT, TEACHER, ref, refs

from dpiqa.errors import RowRefused
from dpiqa.routing import decide
from dpiqa.storage.items import Changed, Failed, Gone, Postponed, Rejected, Released, Scored
from dpiqa.storage.results import record
from dpiqa.storage.steering import cancel_job
from dpiqa.storage.workers import heartbeat
from dpiqa.types import JobState, Reason, Route, Stage


def test_a_score_leaves_its_provenance(ledger):
    job, (item,) = ledger.submit([ref("a", "e1")])
    ledger.score([item], value=0.42)
    (score,) = ledger.sql("SELECT * FROM scores")
    assert (score.score, score.scorer_id, score.etag, score.attempt, score.job_id) == (
        0.42,
        STUDENT.scorer_id,
        "e1",
        1,
        job.id,
    )
    (result,) = ledger.sql("SELECT * FROM results")
    assert (result.score, result.stage, result.status, result.route) == (0.42, "student", "final", "no_teacher")
    assert (result.bucket, result.key, result.etag, result.current) == ("photos", "a", "e1", True)
    assert ledger.one("SELECT card ->> 'name' FROM scorers") == "student"
    assert ledger.report(job).job.state is JobState.COMPLETE


def test_one_batch_of_every_outcome(ledger):
    watch = ledger.watch()
    ids = ledger.add(watch, refs(8))
    scored, rejected, gone, changed, postponed, failed, released, _kept = ledger.claim(ids)
    new = ref(changed.ref.key, "etag-new", at=60)
    recorded = ledger.record(
        [
            Released(released),
            Failed(failed, "boom\x00 \udc80"),
            Postponed(postponed, 60, "S3 is down"),
            Changed(changed, new),
            Gone(gone),
            Rejected(rejected, Reason.TRUNCATED, "ends at byte 12"),
            Scored(scored, 0.9, scored.ref.etag),
        ]
    )
    assert (recorded.n_recorded, recorded.n_stale) == (7, 0)
    assert ledger.states(watch) == {"scored": 1, "rejected": 1, "deleted": 1, "superseded": 1, "queued": 4, "leased": 1}
    assert ledger.current(changed.ref.key) == "etag-new"
    assert ledger.current(gone.ref.key) is None
    row = ledger.item(rejected.ref.key)
    assert (row.reason, row.detail) == ("truncated", "ends at byte 12")
    (fresh,) = ledger.sql("SELECT i.id FROM items i JOIN images m ON m.id = i.image_id WHERE m.etag = 'etag-new'")
    ledger.score([fresh.id], value=0.2)
    assert ledger.one("SELECT score FROM results WHERE key = :key AND current", key=changed.ref.key) == 0.2


def test_a_changed_object_wins_even_where_its_clock_runs_behind(ledger):
    """A multipart upload carries the time of its start: what a worker reads now is newer, whatever it says."""
    watch = ledger.watch()
    (claim,) = ledger.claim(ledger.add(watch, [ref("a", "e1", at=60)]))
    ledger.record([Changed(claim, ref("a", "e2", at=0))])
    assert ledger.current("a") == "e2"
    assert ledger.states(watch) == {"superseded": 1, "queued": 1}


def test_a_changed_object_does_not_win_over_what_was_heard_since(ledger):
    watch = ledger.watch()
    (claim,) = ledger.claim(ledger.add(watch, [ref("a", "e1", at=0)]))
    ledger.add(watch, [ref("a", "e3", at=9)])
    ledger.record([Changed(claim, ref("a", "e2", at=5))])
    assert ledger.current("a") == "e3"
    assert ledger.states(watch) == {"superseded": 2, "queued": 1}


def test_bytes_of_another_version_are_scored_as_that_version(ledger):
    watch = ledger.watch()
    (claim,) = ledger.claim(ledger.add(watch, [ref("a", "e1")]))
    ledger.record([Scored(claim, 0.9, "e2", "v2")])
    assert ledger.one("SELECT count(*) FROM scores") == 0
    assert ledger.current("a") == "e2"
    assert ledger.item("a", etag="e1").state == "superseded"
    (again,) = ledger.claim([ledger.item("a", etag="e2").id])
    assert again.ref.version_id == "v2"


def test_written_again_while_a_worker_found_nothing(ledger):
    """404, and before it is recorded the object is back with the same bytes: the item waits again."""
    watch = ledger.watch()
    (claim,) = ledger.claim(ledger.add(watch, [ref("a", "e1", at=0)]))
    ledger.add(watch, [ref("a", "e1", at=9)])
    ledger.record([Gone(claim)])
    assert ledger.current("a") == "e1"
    assert ledger.states(watch) == {"queued": 1}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_score_is_anything_but_a_number(ledger, value):
    job, (item,) = ledger.submit(refs(1))
    (claim,) = ledger.claim([item])
    ledger.record([Scored(claim, value, claim.ref.etag)])
    assert ledger.item("k00000").reason == "non_finite_score"
    assert ledger.report(job).failures == {Reason.NON_FINITE_SCORE: 1}
    ledger.score(ledger.submit(refs(1, start=1))[1])
    for table in ("scores", "results"):
        with pytest.raises(RowRefused):
            ledger.sql(f"UPDATE {table} SET score = :value", value=value)


def test_one_outcome_the_database_refuses_undoes_its_batch(ledger):
    job, ids = ledger.submit(refs(2))
    claims = ledger.claim(ids)
    with pytest.raises(RowRefused):
        ledger.record([Scored(claims[0], 0.5, "etag-0"), Rejected(claims[1], "no such reason")])
    assert ledger.states(job) == {"leased": 2}
    assert ledger.one("SELECT count(*) FROM scores") == 0


def test_errors_end_an_item_only_after_the_last_retry(ledger):
    job, (item,) = ledger.submit(refs(1))
    for n in range(5):
        assert ledger.states(job) == {"queued": 1}, n
        (claim,) = ledger.claim([item])
        ledger.record([Failed(claim, f"error {n}")])
    row = ledger.item("k00000")
    assert (row.state, row.reason, row.detail, row.errors) == ("dead", "repeated_errors", "error 4", 5)
    assert ledger.report(job).job.state is JobState.COMPLETE


def test_two_jobs_record_the_same_image_and_the_first_score_stays(ledger):
    (first, (a,)), (second, (b,)) = ledger.submit(refs(1)), ledger.submit(refs(1))
    one, two = ledger.claim([a])[0], ledger.claim([b])[0]
    ledger.record([Scored(one, 0.3, "etag-0")])
    ledger.record([Scored(two, 0.8, "etag-0")])
    assert ledger.one("SELECT score FROM scores") == 0.3
    assert ledger.one("SELECT score FROM results") == 0.3
    assert [ledger.report(job).job.state for job in (first, second)] == ["complete", "complete"]


def test_two_jobs_record_the_same_images_at_the_same_time(ledger_with_teacher):
    ledger = ledger_with_teacher
    jobs = [ledger.submit(refs(40)) for _ in range(6)]
    claims = [ledger.claim(ids, owner=f"w{n}") for n, (_, ids) in enumerate(jobs)]

    def record(n):
        order = claims[n] if n % 2 else claims[n][::-1]
        return ledger.record([Scored(c, 0.1 * n + 0.001 * i, c.ref.etag) for i, c in enumerate(order)])

    with ThreadPoolExecutor(6) as pool:
        assert sum(one.n_recorded for one in pool.map(record, range(6))) == 240
    assert ledger.one("SELECT count(*) FROM scores") == 40
    assert (
        ledger.one("SELECT count(*) FROM results r JOIN scores s USING (image_id, scorer_id) WHERE r.score = s.score")
        == 40
    )
    for job, _ in jobs:
        ledger.check_counts(job)
    provisional = ledger.one("SELECT count(*) FROM results WHERE status = 'provisional'")
    assert ledger.one("SELECT count(*) FROM items WHERE stage = 'teacher'") == 6 * provisional


def test_a_job_that_waits_for_an_object_names_it_and_can_be_ended(ledger):
    job, ids = ledger.submit([ref("a"), ref("bad")])
    ledger.do(heartbeat, "s1", Stage.STUDENT, STUDENT.scorer_id)
    ledger.score(ids[:1])
    assert ledger.report(job).waiting_for is None
    for _ in range(2):
        (claim,) = ledger.claim(ids[1:])
        ledger.record([Postponed(claim, 0.0, "S3 does not return s3://photos/bad: 500 InternalError")])
    waiting_for = ledger.report(job).waiting_for
    assert re.fullmatch(
        r"an image of which every try fails: s3://photos/bad, tried 2 times since 20\S+Z: "
        rf"S3 does not return s3://photos/bad: 500 InternalError; `dpiqa jobs cancel {job.short_id}` ends the job .*",
        waiting_for,
    )
    ledger.do(cancel_job, job.id)
    ledger.check_counts(job)
    assert (ledger.report(job).job.state, ledger.report(job).waiting_for) == ("cancelled", None)
    assert [ledger.item(key).state for key in ("a", "bad")] == ["scored", "cancelled"]


def test_borderline_images_go_on_to_the_teacher_with_a_provisional_result(ledger_with_teacher):
    ledger = ledger_with_teacher
    job, ids = ledger.submit(refs(4))
    values = dict(zip(ids, (0.5, 0.9, 0.58, 0.45), strict=True))
    recorded = ledger.score(ids, value=lambda c: values[c.item_id])
    assert sorted(recorded.teacher_items) == [ids[0], ids[3]]  # half of four; the nearest to the cut-off
    routes = {row.id: row.route for row in ledger.sql("SELECT id, route FROM items")}
    assert [routes[i] for i in ids] == [Route.BORDERLINE, Route.CLEAR, Route.BUDGET_SPENT, Route.BORDERLINE]
    assert ledger.states(job) == {"scored": 2, "queued": 2}
    assert {r.status for r in ledger.sql("SELECT status FROM results WHERE score < 0.51")} == {"provisional"}
    report = ledger.report(job)
    assert report.open_by_stage == {Stage.TEACHER: 2}
    assert report.waiting_for == "a teacher worker: 2 items"
    ledger.do(heartbeat, "t1", Stage.TEACHER, TEACHER.scorer_id)
    assert ledger.report(job).waiting_for is None

    claims = ledger.claim(recorded.teacher_items, stage=Stage.TEACHER)
    assert [claim.student_score for claim in claims] == [0.5, 0.45]
    ledger.record([Scored(c, 0.77, c.ref.etag) for c in claims], stage=Stage.TEACHER)
    (result, *_) = ledger.sql("SELECT * FROM results WHERE student_score = 0.5")
    assert (result.score, result.teacher_score, result.stage, result.status) == (0.77, 0.77, "teacher", "final")
    assert (result.scorer_id, result.route) == (TEACHER.scorer_id, "borderline")
    assert ledger.states(job) == {"scored": 4}
    assert ledger.report(job).job.state is JobState.COMPLETE


def test_what_the_teacher_cannot_score_keeps_the_students_score_as_final(ledger_with_teacher):
    ledger = ledger_with_teacher
    job, ids = ledger.submit(refs(4))
    rejected, dead = ledger.claim(ledger.score(ids, value=0.5).teacher_items, stage=Stage.TEACHER)
    ledger.record([Rejected(rejected, Reason.DEVICE_MEMORY)], stage=Stage.TEACHER)
    ledger.record([Failed(dead, "x")], stage=Stage.TEACHER, max_errors=1)
    assert ledger.states(job) == {"scored": 2, "rejected": 1, "dead": 1}
    assert {(r.score, r.status) for r in ledger.sql("SELECT score, status FROM results")} == {(0.5, "final")}


def test_the_teachers_crashes_settle_the_students_score_too(ledger_with_teacher):
    ledger = ledger_with_teacher
    _, ids = ledger.submit(refs(1))
    (item,) = ledger.score(ids, value=0.5).teacher_items
    for crash in range(3):
        assert len(ledger.claim([item], stage=Stage.TEACHER, owner=f"w{crash}")) == 1
        ledger.expire([item])
    ledger.feed()
    assert ledger.item("k00000").state == "dead"
    assert ledger.one("SELECT status FROM results") == "final"


def test_crashes_of_the_student_do_not_count_against_the_teacher(ledger_with_teacher):
    ledger = ledger_with_teacher
    _, (item,) = ledger.submit(refs(1))
    ledger.claim([item])
    ledger.expire([item])
    ledger.score([item], value=0.5)
    row = ledger.item("k00000")
    assert (row.stage, row.crashes, row.queue) == ("teacher", 0, "teacher")


def test_the_escalation_cap_is_exact_under_concurrency(ledger_with_teacher):
    ledger = ledger_with_teacher
    job, ids = ledger.submit(refs(200))
    chunks = [ids[i : i + 7] for i in range(0, 200, 7)]

    def work(chunk):
        ledger.score(chunk, value=0.5)
        escalated, scored = ledger.sql("SELECT escalated, scored_by_student FROM jobs")[0]
        return escalated <= max(1, scored // 2)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, chunks))
    assert ledger.report(job).job.scored_by_student == 200
    assert ledger.report(job).job.escalated == ledger.one("SELECT count(*) FROM items WHERE stage = 'teacher'")
    assert 90 <= ledger.report(job).job.escalated <= 100
    assert ledger.states(job) == {
        "scored": 200 - ledger.report(job).job.escalated,
        "queued": ledger.report(job).job.escalated,
    }


def test_an_image_scored_while_another_took_its_place_does_not_count(ledger):
    watch = ledger.watch()
    (claim,) = ledger.claim(ledger.add(watch, [ref("a", "e1", at=0)]))
    ledger.add(watch, [ref("a", "e2", at=5)])
    ledger.record([Scored(claim, 0.5, "e1")])  # it had read the old bytes before
    assert ledger.states(watch) == {"scored": 1, "queued": 1}
    assert ledger.one("SELECT current FROM results WHERE etag = 'e1'") is False


def test_claims_of_another_profile_are_a_mistake(ledger):
    _, ids = ledger.submit(refs(1))
    claims = ledger.claim(ids)
    with pytest.raises(ValueError, match="both@1"):
        ledger.record([Released(claim) for claim in claims], profile=BOTH)


def test_a_scorer_is_stored_again_if_the_first_transaction_that_did_so_failed(ledger):
    _, ids = ledger.submit(refs(3))
    claims = ledger.claim(ids)

    def fail(c):
        record(c, Stage.STUDENT, ALONE, STUDENT, [Scored(claims[0], 0.5, claims[0].ref.etag)], decide=decide)
        raise RuntimeError("rolled back")

    with ledger.engine.connect() as c:  # one connection for all: what it remembers counts
        with pytest.raises(RuntimeError, match="rolled back"), c.begin():
            fail(c)
        for held in claims:
            with c.begin():
                record(c, Stage.STUDENT, ALONE, STUDENT, [Scored(held, 0.5, held.ref.etag)], decide=decide)
    assert ledger.one("SELECT count(*) FROM scores") == 3
    assert ledger.one("SELECT card ->> 'name' FROM scorers") == "student"


def test_the_card_of_a_scorer_is_sent_once_by_a_connection(ledger):
    _, ids = ledger.submit(refs(4))
    claims, sent = ledger.claim(ids), []

    @event.listens_for(ledger.engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, *_):
        if "INTO scorers" in statement:
            sent.append(statement)

    with ledger.engine.connect() as c:
        for held in claims:
            with c.begin():
                record(c, Stage.STUDENT, ALONE, STUDENT, [Scored(held, 0.5, held.ref.etag)], decide=decide)
    assert len(sent) == 1
