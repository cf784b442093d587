"""Pages of scores: complete, without duplicates, by the index."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from sqlalchemy import event, text
from support.ledger import ALONE, BOTH, STUDENT, TEACHER, Ledger, ref, refs

from dpiqa.errors import InvalidRequest, NotFound
from dpiqa.percentiles import ScoreRange
from dpiqa.storage import score_walks, scores
from dpiqa.storage.job_queries import job_items, list_jobs
from dpiqa.storage.lookups import lookup
from dpiqa.storage.score_filter import ScoreFilter
from dpiqa.storage.scores import list_scores
from dpiqa.storage.stats import threshold
from dpiqa.types import ItemState, ResultStatus, ScoreOrder, Stage


def walk(ledger, conditions, *, limit=7, order=ScoreOrder.LOWEST_FIRST):
    """Every row, page by page."""
    rows, cursor = [], None
    while True:
        page = ledger.do(list_scores, conditions, order=order, limit=limit, cursor=cursor)
        assert len(page.items) <= limit
        rows += page.items
        cursor = page.next_cursor
        if cursor is None:
            return rows


@pytest.fixture
def scored(ledger):
    """60 images of two buckets, with six different scores among them."""
    images = refs(40) + [ref(f"2024/%_{i}", f"other-{i}", bucket="other") for i in range(20)]
    values = {image.key: (i % 6) / 10 for i, image in enumerate(images)}
    ledger.values = values
    _, ids = ledger.submit(images)
    ledger.score(ids, value=lambda claim: values[claim.ref.key])
    return ledger


@pytest.mark.parametrize("order", ScoreOrder)
@pytest.mark.parametrize("limit", [1, 7, 60, 1000])
@pytest.mark.parametrize("profile", [ALONE.id, None])
def test_pages_are_complete_and_without_duplicates_under_equal_scores(scored, order, limit, profile):
    rows = walk(scored, ScoreFilter(profile=profile), order=order, limit=limit)
    assert len(rows) == len({row.image_id for row in rows}) == 60
    field = "updated_at" if order.by_time else "score"
    values = [getattr(row, field) for row in rows]
    assert values == sorted(values, reverse=order.descending)


def test_filters_choose_what_they_say(scored):
    def keys(**fields):
        return {row.key for row in walk(scored, ScoreFilter(**fields))}

    values = scored.values
    assert keys(bucket="other") == {key for key in values if key.startswith("2024/")}
    assert keys(bucket="other", prefix="2024/%_1") == {f"2024/%_{i}" for i in [1, *range(10, 20)]}
    assert keys(bucket="photos", prefix="k0003") == {f"k0003{i}" for i in range(10)}
    assert keys(min=0.2, max=0.4) == {key for key, value in values.items() if 0.2 <= value <= 0.4}
    assert keys(model="student") == keys(model=STUDENT.scorer_id) == set(values)
    assert keys(model="teacher") == keys(status=ResultStatus.PROVISIONAL) == keys(profile="x@1") == set()
    assert keys(job=uuid4()) == set()


@pytest.mark.parametrize("order", [ScoreOrder.LOWEST_FIRST, ScoreOrder.HIGHEST_FIRST])
@pytest.mark.parametrize("prefix", [None, "k00"])
def test_a_page_passes_over_scores_where_nothing_fits(ledger, monkeypatch, order, prefix):
    monkeypatch.setattr(scores, "MAX_READ", 12)
    monkeypatch.setattr(score_walks, "FEW_OF_PREFIX", 3)
    _, ids = ledger.submit(refs(100))
    ledger.score(ids, value=lambda claim: int(claim.ref.key.strip("k.jpg")) / 100)
    teachers = {20, 21, 50, 51, 52, 80}
    with ledger.engine.begin() as c:
        c.execute(
            text('INSERT INTO scorers (id, card) VALUES (:id, \'{"score_scale": "MOS"}\')'), {"id": TEACHER.scorer_id}
        )
        change = text("UPDATE results SET scorer_id = :id WHERE round(score * 100) = ANY(:numbers)")
        c.execute(change, {"id": TEACHER.scorer_id, "numbers": sorted(teachers)})
    rows = {"bucket": "photos", "prefix": prefix, "profile": ALONE.id}

    def numbers(**fields):
        page = ledger.do(list_scores, ScoreFilter(**rows, **fields), order=order, limit=10)
        assert not page.partial
        assert page.next_cursor is None
        return [round(row.score * 100) for row in page.items]

    def in_order(values):
        return sorted(values, reverse=order.descending)

    assert numbers(model="teacher") == in_order(teachers)
    within = (
        ScoreRange(scorer_id=TEACHER.scorer_id, low=0.21, high=0.51, low_included=True),
        ScoreRange(scorer_id=STUDENT.scorer_id, low=0.91, high=0.93, low_included=False),
    )
    assert numbers(within=within) == in_order({21, 50, 92, 93})
    assert numbers(within=within, min=0.3, max=0.92) == in_order({50, 92})


@pytest.mark.parametrize("fields", [{"bucket": "photos", "prefix": "k"}, {"since": datetime(2000, 1, 1, tzinfo=UTC)}])
def test_few_rows_that_are_checked_are_all_checked(scored, fields):
    conditions = ScoreFilter(profile=ALONE.id, suffix="7", **fields)
    assert {row.key for row in walk(scored, conditions, limit=1) if row.bucket == "photos"} == {
        f"k000{i}7" for i in range(4)
    }


def test_the_scores_of_a_job_include_what_another_job_scored(ledger):
    ledger.score(ledger.submit(refs(5))[1])
    second, _ = ledger.submit(refs(3))
    assert len(walk(ledger, ScoreFilter(job=second.id))) == 3


def test_old_versions_come_only_when_asked_for(ledger):
    watch = ledger.watch()
    ledger.score(ledger.add(watch, [ref("a", "e1", at=0)]))
    ledger.score(ledger.add(watch, [ref("a", "e2", at=5)]))
    assert [row.etag for row in walk(ledger, ScoreFilter(profile=ALONE.id))] == ["e2"]
    assert {row.etag for row in walk(ledger, ScoreFilter(include_old=True))} == {"e1", "e2"}


def test_rows_that_change_meanwhile_do_not_disturb_the_rest(scored):
    conditions = ScoreFilter(profile=ALONE.id)
    first = scored.do(list_scores, conditions, limit=20)
    scored.score(scored.submit(refs(20, start=500))[1], value=0.0)
    rest, cursor = [], first.next_cursor
    while cursor:
        page = scored.do(list_scores, conditions, limit=20, cursor=cursor)
        rest, cursor = rest + page.items, page.next_cursor
    seen = [row.image_id for row in first.items + rest]
    assert len(seen) == len(set(seen))
    assert set(scored.values) <= {row.key for row in first.items + rest}


@pytest.mark.parametrize(
    "cursor", ["", "x", "bm90IGpzb24", "W10", "WyJhIiwgWzEsIDJdXQ", "ünïcode", "'; DROP TABLE items"]
)
def test_cursors_that_are_not_ours_are_refused(ledger, cursor):
    with pytest.raises(InvalidRequest):
        ledger.do(list_scores, ScoreFilter(), cursor=cursor)
    with pytest.raises(InvalidRequest):
        ledger.do(list_jobs, cursor=cursor)


def test_a_cursor_serves_only_its_own_question(scored):
    cursor = scored.do(list_scores, ScoreFilter(), limit=5).next_cursor
    for conditions, order in (
        (ScoreFilter(bucket="photos"), ScoreOrder.LOWEST_FIRST),
        (ScoreFilter(), ScoreOrder.HIGHEST_FIRST),
    ):
        with pytest.raises(InvalidRequest, match="a different query"):
            scored.do(list_scores, conditions, order=order, cursor=cursor)


@pytest.mark.parametrize("limit", [0, 1001, -1])
def test_a_page_has_its_limits(ledger, limit):
    with pytest.raises(InvalidRequest):
        ledger.do(list_scores, ScoreFilter(), limit=limit)


def test_percentile_and_count(scored):
    conditions = ScoreFilter(profile=ALONE.id)
    assert len(scored.do(list_scores, conditions, limit=1000).items) == 60
    assert scored.do(threshold, conditions, 0.05) == 0.0
    assert scored.do(threshold, conditions, 1.0) == 0.5
    assert scored.do(threshold, ScoreFilter(bucket="none"), 0.05) is None


def test_lookup_gives_every_score_with_its_provenance(engine):
    ledger = Ledger(engine, BOTH)
    watch = ledger.watch()
    ledger.score(ledger.add(watch, [ref("a", "e1", at=0)]), value=0.9)
    teacher = ledger.score(ledger.add(watch, [ref("a", "e2", at=5)]), value=0.5).teacher_items
    ledger.score(teacher, stage=Stage.TEACHER, value=0.6)
    stored = ledger.do(lookup, "photos", "a")
    assert not stored.deleted
    assert {(s.etag, s.scorer_id, s.score, s.current) for s in stored.scores} == {
        ("e2", STUDENT.scorer_id, 0.5, True),
        ("e2", TEACHER.scorer_id, 0.6, True),
        ("e1", STUDENT.scorer_id, 0.9, False),
    }
    assert stored.scores[0].current
    assert {item.state for item in stored.items} == {ItemState.SCORED}
    assert [(r.etag, r.score, r.current) for r in stored.results] == [("e2", 0.6, True), ("e1", 0.9, False)]
    with pytest.raises(NotFound):
        ledger.do(lookup, "photos", "b")


def test_jobs_and_items_are_paged(ledger):
    jobs = [ledger.submit(refs(5))[0].id for _ in range(5)]
    first = ledger.do(list_jobs, limit=3)
    second = ledger.do(list_jobs, limit=3, cursor=first.next_cursor)
    assert [job.id for job in first.items + second.items] == jobs[::-1]
    assert second.next_cursor is None
    ids = [row.id for row in ledger.do(job_items, jobs[0], limit=1000).items]
    ledger.score(ids[:2])
    page = ledger.do(job_items, jobs[0], ItemState.QUEUED, limit=2)
    rest = ledger.do(job_items, jobs[0], ItemState.QUEUED, limit=2, cursor=page.next_cursor)
    assert [row.id for row in page.items + rest.items] == ids[2:]
    assert ledger.do(job_items, jobs[0], ItemState.DEAD).items == []
    with pytest.raises(InvalidRequest):
        ledger.do(job_items, jobs[0], limit=2, cursor=page.next_cursor)
    with pytest.raises(NotFound):
        ledger.do(job_items, uuid4())


_MANY = text(
    """
    WITH inserted AS (
        INSERT INTO images (bucket, key, etag, current)
        SELECT CASE n % 10 WHEN 0 THEN 'photos' ELSE 'other' END, 'k' || n, 'e' || n, true
        FROM generate_series(1, 20000) AS n
        RETURNING id, bucket, key, etag)
    INSERT INTO results
        (image_id, profile, score, scorer_id, stage, status, route, bucket, key, etag, current, job_id)
    SELECT id, 'alone@1', id % 97 / 100.0, :scorer, 'student', 'final', 'clear', bucket, key, etag, true, :job
    FROM inserted
    """
)


def explain(ledger, conditions, *, order, cursor):
    statements = []
    with ledger.engine.connect() as c:
        event.listen(c, "before_cursor_execute", lambda *call: statements.append((call[2], call[3])))
        list_scores(c, conditions, order=order, limit=100, cursor=cursor)
        statement, values = statements[0]
        return [row[0] for row in c.exec_driver_sql("EXPLAIN (ANALYZE, BUFFERS OFF) " + statement, values)]


def test_a_page_deep_inside_reads_little_by_the_index(ledger):
    job, ids = ledger.submit(refs(1))
    ledger.score(ids)
    with ledger.engine.begin() as c:
        c.execute(_MANY, {"scorer": STUDENT.scorer_id, "job": job.id})
        c.execute(text("ANALYZE"))
    whole, bucket = ScoreFilter(profile="alone@1"), ScoreFilter(profile="alone@1", bucket="photos", min=0.1)
    for conditions, order, index in (
        (whole, ScoreOrder.LOWEST_FIRST, "results_by_score"),
        (whole, ScoreOrder.HIGHEST_FIRST, "results_by_score"),
        (bucket, ScoreOrder.HIGHEST_FIRST, "results_by_bucket_score"),
        (whole, ScoreOrder.OLDEST_FIRST, "results_by_time"),
    ):
        cursor = ledger.do(list_scores, conditions, order=order, limit=1000, cursor=None).next_cursor
        plan = explain(ledger, conditions, order=order, cursor=cursor)
        words = "\n".join(plan)
        assert f"using {index} " in words, words
        assert "ROW(" in next(line for line in plan if "Index Cond" in line), words
        assert "Sort" not in words, words
        assert "Rows Removed" not in words, words
