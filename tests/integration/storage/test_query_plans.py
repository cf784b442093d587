"""Plans of all pages of scores at a million results: an index each, and a bounded number of rows. Shares are right.

Slow (about a minute) because it reads the plans that Postgres makes at this size.
"""

import itertools
import json
import uuid
from datetime import UTC, datetime

import pytest
from conftest import TEMPLATE
from sqlalchemy import event, text
from support.ledger import BOTH, STUDENT, TEACHER, Ledger, refs
from support.postgres import drop_database

from dpiqa.errors import InvalidRequest
from dpiqa.percentiles import ScoreRange
from dpiqa.storage import rollups
from dpiqa.storage.engine import make_engine
from dpiqa.storage.samples import sample_scores
from dpiqa.storage.score_filter import ScoreFilter
from dpiqa.storage.scores import list_scores
from dpiqa.storage.stats import read_stats, threshold
from dpiqa.types import GroupBy, ResultStatus, Route, ScoreOrder

ROWS = 1_000_000
#: Rows of `results` that one statement may read.
BOUND = 50_000
_FILL = """
    INSERT INTO results (image_id, profile, score, scorer_id, stage, status, route, student_score, bucket, key, etag,
        current, job_id, updated_at)
    SELECT i, 'both@1', u, CASE WHEN i % 5 = 0 THEN :teacher ELSE :student END, 'student',
        CASE WHEN i % 500 = 3 THEN 'provisional' ELSE 'final' END,
        CASE WHEN i % 500 = 3 THEN 'borderline' WHEN i % 9 = 0 THEN 'budget_spent' ELSE 'clear' END, u,
        CASE WHEN i % 50 < 40 THEN 'archive' WHEN i % 50 < 49 THEN 'photos' ELSE 'tiny' END,
        to_char(date '2023-01-01' + (i / 1000)::int, 'YYYY/MM/DD') || '/IMG_' || i || '.jpg', 'e' || i, true, :job,
        timestamptz '2026-01-01' + i * interval '2 seconds'
    FROM (SELECT i + 1000 AS i, (hashint8extended(i, 1) & 1048575) / 1048576.0::float8 AS u
        FROM generate_series(1::bigint, :n) AS i) AS numbered
"""
PARTS = {
    "bucket": {"bucket": "archive"},
    "small bucket": {"bucket": "tiny"},
    "prefix": {"bucket": "archive", "prefix": "2024/05/"},
    "prefix of a name": {"bucket": "archive", "prefix": "2024/05/17/IMG_50"},
    "suffix": {"bucket": "archive", "suffix": ".png"},
    "range": {"min": 0.3, "max": 0.31},
    "band": {"within": (ScoreRange(scorer_id=TEACHER.scorer_id, low=None, high=0.001, low_included=True),)},
    "dates": {"since": datetime(2026, 1, 3, tzinfo=UTC), "until": datetime(2026, 1, 4, tzinfo=UTC)},
    "model": {"model": "teacher"},
    "model of nobody": {"model": "nobody"},
    "provisional": {"status": ResultStatus.PROVISIONAL},
    "final": {"status": ResultStatus.FINAL},
    "route": {"route": Route.NO_TEACHER},
    "job": {},
}


@pytest.fixture(scope="module")
def ledger(postgres_server):
    name = f"test_{uuid.uuid4().hex}"
    postgres_server.create_database(name, TEMPLATE)
    engine = make_engine(postgres_server.url(name), pool_size=2)
    ledger = Ledger(engine, BOTH)
    ledger.small_job, ids = ledger.submit(refs(100))
    ledger.score(ids)
    ledger.do(ledger_add_teacher)
    with engine.begin() as c:
        c.execute(text("SET LOCAL session_replication_role = replica"))
        values = {"student": STUDENT.scorer_id, "teacher": TEACHER.scorer_id, "job": ledger.small_job.id, "n": ROWS}
        c.execute(text("SET LOCAL maintenance_work_mem = '256MB'"))
        indexes = c.execute(
            text("SELECT indexname, indexdef FROM pg_indexes WHERE indexname LIKE 'results_by_%'")
        ).all()
        for index in indexes:  # one that is made of rows is made faster than one that follows them
            c.execute(text(f"DROP INDEX {index.indexname}"))
        c.execute(text(_FILL), values)
        for index in indexes:
            c.execute(text(index.indexdef))
    rollups.reset_rollups(engine)
    while rollups.count_results(engine, 200_000):
        pass
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as c:
        c.execute(text("VACUUM ANALYZE results"))
        c.execute(text("ANALYZE"))
    yield ledger
    engine.dispose()
    drop_database(postgres_server, name)


def ledger_add_teacher(c):
    c.execute(
        text("INSERT INTO scorers (id, card) VALUES (:id, CAST(:card AS jsonb))"),
        {"id": TEACHER.scorer_id, "card": json.dumps(TEACHER.model_dump(mode="json"))},
    )


def rows_read(node):
    """Rows of `results` that a plan's nodes took from the table and its indexes."""
    own = 0
    if node.get("Relation Name") == "results" or node.get("Index Name", "").startswith("results"):
        assert node["Node Type"] != "Seq Scan", node
        removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        own = (node["Actual Rows"] + removed) * node["Actual Loops"]
    return own + sum(rows_read(child) for child in node.get("Plans", []))


def check_plans(ledger, function, *args, before=(), **kwargs):
    """Run a query, after some statements, and read the plan of each of its own."""
    statements = []
    with ledger.engine.connect() as c:
        for statement in before:
            c.execute(text(statement))

        def note(_c, _cursor, statement, values, *_):
            if "results" in statement and not statement.startswith("EXPLAIN"):
                statements.append((statement, values))

        event.listen(c, "before_cursor_execute", note)
        try:
            found = function(c, *args, **kwargs)
        except InvalidRequest as error:
            found, refused = None, error
        else:
            refused = None
        assert refused is None or refused.hint
        for statement, values in statements[:]:
            explain = f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}"
            [plan] = c.exec_driver_sql(explain, values).scalar_one()
            assert rows_read(plan["Plan"]) <= BOUND, (args, kwargs, statement, json.dumps(plan)[:3000])
    return found


def combined(ledger, names):
    fields = {"profile": BOTH.id}
    for name in names:
        fields |= PARTS[name] | ({"job": ledger.small_job.id} if name == "job" else {})
    return ScoreFilter(**fields)


CHOICES = [(), *((name,) for name in PARTS), *itertools.combinations(PARTS, 2)]


@pytest.mark.parametrize("order", ScoreOrder)
def test_pages(ledger, order):
    for names in CHOICES:
        page = check_plans(ledger, list_scores, combined(ledger, names), order=order, limit=100)
        if page.next_cursor is not None:
            conditions = combined(ledger, names)
            check_plans(ledger, list_scores, conditions, order=order, limit=100, cursor=page.next_cursor)


def test_a_folder_is_read_once_although_the_index_by_bins_has_grown(ledger):
    grown = ["ALTER INDEX results_by_bin SET (fillfactor = 20)", "REINDEX INDEX results_by_bin"]
    for prefix in ("2024/05/17/", "2024/05/1", "2024/05/"):
        conditions = ScoreFilter(profile=BOTH.id, bucket="archive", prefix=prefix)
        check_plans(ledger, list_scores, conditions, limit=100, before=grown)


@pytest.mark.parametrize("target", [1, 10, 100])
def test_a_sample_of_a_folder_reads_few_rows_however_coarse_the_statistics_are(ledger, target):
    coarse = [f"SET LOCAL default_statistics_target = {target}", "ANALYZE results"]
    for prefix in ("2024/05/", "2024/"):
        conditions = ScoreFilter(profile=BOTH.id, bucket="archive", prefix=prefix)
        check_plans(ledger, sample_scores, conditions, 1000, before=coarse)


def test_shares(ledger):
    for names in CHOICES:
        for descending in (False, True) if len(names) < 2 else (False,):
            check_plans(ledger, threshold, combined(ledger, names), 0.05, descending=descending)


@pytest.mark.parametrize("group_by", [None, *GroupBy])
def test_statistics(ledger, group_by):
    for names in CHOICES if group_by in (None, GroupBy.BUCKET, GroupBy.DAY) else CHOICES[: len(PARTS) + 1]:
        check_plans(ledger, read_stats, combined(ledger, names), group_by=group_by)


@pytest.mark.parametrize("names", [(), ("range",), ("bucket",), ("small bucket",), ("prefix",)], ids=str)
def test_samples(ledger, names):
    conditions = combined(ledger, names)
    drawn = check_plans(ledger, sample_scores, conditions, 1000)
    whole = ledger.do(read_stats, conditions)
    assert drawn.population == whole.n
    least = 250 if "prefix" in names else 900  # this folder holds 3 % of its bucket: see `MAX_STEPS`
    assert len(drawn.rows) >= min(whole.n, least)
    tolerance = 4 * (whole.quantiles.p90 - whole.quantiles.p10) / len(drawn.rows) ** 0.5
    assert sum(row.score for row in drawn.rows) / len(drawn.rows) == pytest.approx(whole.mean, abs=tolerance)


def test_shares_and_quantiles_are_right_to_one_percent_and_exact_where_an_index_has_them(ledger):
    rows = {
        "all": ScoreFilter(profile=BOTH.id),
        "bucket": ScoreFilter(profile=BOTH.id, bucket="archive"),
        "folder": ScoreFilter(profile=BOTH.id, bucket="archive", prefix="2024/"),
        "model": ScoreFilter(profile=BOTH.id, model="teacher"),
    }
    where = {
        "all": "true",
        "bucket": "bucket = 'archive'",
        "folder": "bucket = 'archive' AND key LIKE '2024/%'",
        "model": f"scorer_id = '{TEACHER.scorer_id}'",
    }
    for name, conditions in rows.items():
        exact = ledger.sql(
            f"SELECT count(*), avg(score), percentile_disc(0.05) WITHIN GROUP (ORDER BY score),"
            f" percentile_disc(0.5) WITHIN GROUP (ORDER BY score),"
            f" percentile_disc(0.05) WITHIN GROUP (ORDER BY score DESC) FROM results WHERE {where[name]}"
        )[0]
        found = ledger.do(read_stats, conditions)
        assert found.n == exact[0]
        assert found.mean == pytest.approx(exact[1], abs=0.001)
        assert (found.quantiles.p5, found.quantiles.p50) == pytest.approx((exact[2], exact[3]), abs=0.0011)
        worst, best = (ledger.do(threshold, conditions, 0.05, descending=end) for end in (False, True))
        assert (worst, best) == pytest.approx((exact[2], exact[4]), abs=0 if name in ("all", "bucket") else 0.0011)
