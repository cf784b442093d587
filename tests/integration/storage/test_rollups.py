"""Roll-ups of results: always the counts of the rows themselves, whatever happens to them, and bounded in number."""

import random
import threading

import pytest
from support.ledger import BOTH, Ledger, ref, refs

from dpiqa.errors import InvalidRequest, Unavailable
from dpiqa.storage import rollups, schema, stats
from dpiqa.storage.engine import make_engine
from dpiqa.storage.score_filter import ScoreFilter
from dpiqa.storage.stats import read_stats, threshold
from dpiqa.types import GroupBy, Stage

#: What the counts must be, by all that groups are made of.
_GROUPS = """
    WITH facts AS (
        SELECT profile, bucket, scorer_id, route, status, key, job_id::text AS job, floor(score * 1000)::int AS bin,
            to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day, ARRAY (
                SELECT i.job_id::text FROM items i JOIN jobs j ON j.id = i.job_id
                WHERE i.image_id = results.image_id AND i.state = 'scored' AND i.job_id <> results.job_id
                AND coalesce(nullif(i.profile, ''), j.profile) = results.profile) AS sharing
        FROM results WHERE current)
    SELECT profile, g.bucket, g.kind, g.name, scorer_id, g.route, g.status, bin, count(*)::int AS n
    FROM facts CROSS JOIN LATERAL (VALUES (bucket, 'bucket', '', route, status), (bucket, 'day', day, '', ''),
        ('', 'day', day, '', ''),
        (bucket, 'folder', substring(key from '^[^/]*/'), '', ''),
        (bucket, 'folder', substring(key from '^[^/]*/[^/]*/'), '', ''),
        (bucket, 'folder', substring(key from '^[^/]*/[^/]*/[^/]*/'), '', '')
        UNION ALL SELECT bucket, 'job', unnest(array_append(sharing, job)), '', '')
        AS g (bucket, kind, name, route, status)
    WHERE g.name IS NOT NULL GROUP BY 1, 2, 3, 4, 5, 6, 7, 8 ORDER BY 1, 2, 3, 4, 5, 6, 7, 8
"""
_COUNTED = """
    SELECT profile, bucket, kind, name, scorer_id, route, status, bin, n::int FROM result_groups
    JOIN result_counts ON group_id = id WHERE n <> 0 ORDER BY 1, 2, 3, 4, 5, 6, 7, 8
"""


def check(ledger):
    """Fold, and compare every count with the rows."""
    ledger.do(rollups.fold_results)
    assert ledger.sql("SELECT n FROM result_changes UNION ALL SELECT n FROM shared_result_changes") == []
    counted, rows = ledger.sql(_COUNTED), ledger.sql(_GROUPS)
    assert rows
    assert list(map(tuple, counted)) == list(map(tuple, rows))


@pytest.fixture
def scored(engine):
    """90 images in folders of two buckets; borderline ones wait for the teacher."""
    ledger = Ledger(engine, BOTH)
    images = [ref(f"2024/{i % 3}/{i % 2}/deep/{i}.jpg", f"e{i}") for i in range(60)]
    images += [ref(f"top{i}.jpg", f"t{i}", bucket="other") for i in range(30)]
    _, ids = ledger.submit(images)
    ledger.teacher_items = ledger.score(ids, value=lambda claim: int(claim.ref.etag[1:]) / 60).teacher_items
    return ledger


def test_counts_follow_scores_teachers_versions_and_removals(scored):
    check(scored)
    scored.score(scored.teacher_items, stage=Stage.TEACHER, value=0.731)
    check(scored)
    watch = scored.watch()
    scored.score(scored.add(watch, [ref("2024/0/0/deep/0.jpg", "newer", at=50)]), value=0.9)
    assert scored.one("SELECT count(*) FROM results WHERE NOT current") == 1
    check(scored)
    scored.sql("DELETE FROM results WHERE bucket = 'other'")
    check(scored)


def test_a_job_counts_the_images_that_another_job_scored(scored):
    """Known before the job, scored by both jobs meanwhile, confirmed by the teacher, overwritten, pruned: all count."""
    early, early_ids = scored.submit([ref(f"new/{i}.jpg", f"n{i}") for i in range(20)])
    late, late_ids = scored.submit([ref(f"new/{i}.jpg", f"n{i}") for i in range(10, 40)])
    everything = [ref(f"2024/{i % 3}/{i % 2}/deep/{i}.jpg", f"e{i}") for i in range(60)]
    again, waiting = scored.submit(everything)
    check(scored)

    def stats_of(job):
        return scored.do(read_stats, ScoreFilter(profile=BOTH.id, job=job.id))

    n_final = scored.one("SELECT count(*) FROM results WHERE status = 'final' AND bucket = 'photos'")
    assert 0 < stats_of(again).n == n_final < 60
    teacher = scored.score(early_ids, value=0.5).teacher_items + scored.score(late_ids, value=0.5).teacher_items
    check(scored)
    for ids in (teacher, scored.teacher_items, waiting):
        scored.score(ids, stage=Stage.TEACHER, value=0.731)
        check(scored)
    assert (stats_of(early).n, stats_of(late).n, stats_of(again).n) == (20, 30, 60)
    whole = scored.do(read_stats, ScoreFilter(profile=BOTH.id, bucket="photos", prefix="2024/"))
    assert stats_of(again).histogram == whole.histogram
    assert scored.do(threshold, ScoreFilter(profile=BOTH.id, job=again.id), 0.05) == pytest.approx(2 / 60)
    watch = scored.watch()
    scored.score(scored.add(watch, [ref("2024/0/0/deep/0.jpg", "newer", at=50), ref("new/15.jpg", "newer", at=50)]))
    assert (stats_of(again).n, stats_of(late).n) == (59, 29)
    check(scored)
    scored.sql("DELETE FROM results WHERE key LIKE '2024/1/%'")
    check(scored)
    rollups.reset_rollups(scored.engine)
    while rollups.count_results(scored.engine, 13):
        pass
    check(scored)


def test_readers_add_the_changes_that_wait_for_the_sweeper(scored):
    whole = ScoreFilter(profile=BOTH.id)
    before = scored.do(read_stats, whole)
    assert before.n == 90
    scored.do(rollups.fold_results)
    after = scored.do(read_stats, whole)
    assert (after.n, after.quantiles, after.histogram) == (before.n, before.quantiles, before.histogram)


def test_many_writers_and_sweepers_lose_no_change(engine):
    ledger = Ledger(engine, BOTH)
    _, ids = ledger.submit(refs(200, prefix="a/b/"))
    stop = threading.Event()

    def sweep():
        while not stop.is_set():
            ledger.do(rollups.fold_results)

    def score(part):
        teacher = ledger.score(part, value=lambda claim: random.Random(claim.item_id).random()).teacher_items
        ledger.score(teacher, stage=Stage.TEACHER, value=0.4321)

    sweepers = [threading.Thread(target=sweep) for _ in range(2)]
    writers = [threading.Thread(target=score, args=(ids[i::4],)) for i in range(4)]
    for thread in sweepers + writers:
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in sweepers:
        thread.join()
    check(ledger)


@pytest.fixture
def upgraded(empty_database_url):
    """A ledger whose 90 results are older than the roll-ups, which still wait for the sweeper."""
    schema.upgrade(empty_database_url)
    engine = make_engine(empty_database_url, pool_size=8)
    ledger = Ledger(engine, BOTH)
    _, ids = ledger.submit(refs(90, prefix="a/b/"))
    ledger.score(ids, value=lambda claim: int(claim.ref.key[-5:]) / 90)
    rollups.reset_rollups(engine)
    yield ledger
    engine.dispose()


def test_results_of_before_are_counted_in_batches_while_others_are_written(upgraded):
    with pytest.raises(Unavailable, match="being built"):
        upgraded.do(read_stats, ScoreFilter(profile=BOTH.id))
    assert upgraded.do(threshold, ScoreFilter(profile=BOTH.id), 0.1) == pytest.approx(8 / 90)  # from the rows
    done = threading.Event()

    def write():
        for turn in range(8):
            _, ids = upgraded.submit(refs(10, start=1000 + 10 * turn, prefix="c/"))
            upgraded.score(ids, value=turn / 10)
            upgraded.sql("UPDATE results SET score = score + 0.01 WHERE image_id % 7 = :turn % 7", turn=turn)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while rollups.count_results(upgraded.engine, 13) or not done.is_set():
        pass
    writer.join()
    check(upgraded)
    assert upgraded.do(read_stats, ScoreFilter(profile=BOTH.id)).n == 170


def test_an_interrupted_count_goes_on_where_it_stopped(upgraded):
    assert rollups.count_results(upgraded.engine, 30)
    share = upgraded.do(rollups.counted_share)
    assert 0 < share < 1
    with upgraded.engine.connect() as c:  # a batch that is rolled back
        c.execute(rollups.COUNT_RESULTS, {"after": 30, "upto": 60})
    while rollups.count_results(upgraded.engine, 30):
        pass
    check(upgraded)


def test_a_bucket_with_a_folder_for_each_image_keeps_few_counts(engine, monkeypatch):
    monkeypatch.setattr(rollups, "MAX_FOLDERS", 20)
    ledger = Ledger(engine, BOTH)
    for start in range(0, 60, 15):
        _, ids = ledger.submit([ref(f"users/{i}/avatar/a.jpg", f"e{i}") for i in range(start, start + 15)])
        ledger.score(ids, value=0.3)
        ledger.do(rollups.fold_results)
    assert ledger.sql("SELECT depth, count(*) FROM result_groups WHERE kind = 'folder' GROUP BY 1") == [(1, 1)]
    conditions = ScoreFilter(profile=BOTH.id, bucket="photos")
    assert ledger.do(read_stats, conditions, group_by=GroupBy.PREFIX).groups[0].n == 60
    with pytest.raises(InvalidRequest, match="depth of 1"):
        ledger.do(read_stats, ScoreFilter(profile=BOTH.id, bucket="photos", prefix="users/"), group_by=GroupBy.PREFIX)
    deep = ScoreFilter(profile=BOTH.id, bucket="photos", prefix="users/7/")
    assert ledger.do(read_stats, deep).n == 1  # counted from the rows
    monkeypatch.setattr(stats, "MAX_ROWS", 5)
    with pytest.raises(InvalidRequest, match="depth of 1"):
        ledger.do(read_stats, ScoreFilter(profile=BOTH.id, bucket="photos", prefix="users/1"))
