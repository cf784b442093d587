"""Exports of scores: while rows arrive, partitioned, to disk and S3."""

import pyarrow.dataset
import pytest
from support.ledger import BOTH, Ledger, ref, refs
from support.processes import wait_for

from dpiqa.errors import InvalidRequest
from dpiqa.exports import datasets, rows
from dpiqa.exports.datasets import parse_partition_by, save_dataset
from dpiqa.exports.rows import score_batches
from dpiqa.exports.schemas import SCORES
from dpiqa.settings import load_settings
from dpiqa.storage.engine import make_engine
from dpiqa.storage.score_filter import ScoreFilter
from dpiqa.storage.score_query import ScoreQuery
from dpiqa.types import ScoreOrder, Stage


@pytest.fixture
def ledger(database_url):
    engine = make_engine(database_url, pool_size=4)
    yield Ledger(engine, BOTH)
    engine.dispose()


def query(ledger, order=None, **conditions):
    wanted = ScoreQuery(conditions=ScoreFilter(profile=BOTH.id, **conditions), order=order)
    return ledger.do(wanted.resolve)


def test_rows_that_stay_are_read_exactly_once_while_others_arrive_and_no_transaction_stays_open(ledger, monkeypatch):
    monkeypatch.setattr(rows, "PAGE_ROWS", 10)
    _, ids = ledger.submit(refs(60))
    ledger.score(ids, value=lambda claim: 0.9 + int(claim.ref.key[1:]) / 1000)
    read = []
    for number, columns in enumerate(score_batches(ledger.engine, query(ledger))):
        read += columns[SCORES.names.index("key")]
        _, more = ledger.submit(refs(5, start=100 * (number + 1), prefix="new"))
        ledger.score(more, value=0.9 + 0.011 * number)
        wait_for(lambda: ledger.one("SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'") == 0)
    assert sorted(key for key in read if key.startswith("k")) == [f"k{n:05}" for n in range(60)]
    assert len(read) == len(set(read))


def test_in_the_order_of_time_a_result_that_changes_is_read_again(ledger, monkeypatch):
    monkeypatch.setattr(rows, "PAGE_ROWS", 5)
    _, ids = ledger.submit(refs(20))
    recorded = ledger.score(ids, value=0.5)  # borderline: the teacher is asked
    read = {}
    for number, columns in enumerate(score_batches(ledger.engine, query(ledger, ScoreOrder.OLDEST_FIRST))):
        named = dict(zip(SCORES.names, columns, strict=True))
        read |= dict(zip(named["key"], named["score"], strict=True))
        if number == 0:
            ledger.score(recorded.teacher_items, stage=Stage.TEACHER, value=0.7)
    assert len(read) == 20
    assert sorted(read.values()) == [0.5] * (20 - len(recorded.teacher_items)) + [0.7] * len(recorded.teacher_items)


@pytest.fixture
def two_buckets(ledger):
    """Thirty results of two buckets and two days."""
    for bucket in ("cats", "dogs+"):
        _, ids = ledger.submit([ref(f"k{n}", bucket=bucket) for n in range(15)], bucket=bucket)
        ledger.score(ids, value=0.9)
    ledger.sql("UPDATE results SET updated_at = '2026-01-01T23:59:59Z' WHERE key < 'k12'")
    ledger.sql("UPDATE results SET updated_at = '2026-01-02T00:00:00Z' WHERE key >= 'k12'")


@pytest.mark.parametrize("open_files", [1, 32])
def test_a_dataset_is_read_as_it_was_written(ledger, two_buckets, tmp_path, monkeypatch, open_files):
    monkeypatch.setattr(rows, "PAGE_ROWS", 4)
    monkeypatch.setattr(datasets, "_OPEN_FILES", open_files)
    batches = score_batches(ledger.engine, query(ledger, ScoreOrder.OLDEST_FIRST))
    save_dataset(batches, SCORES, ("bucket", "day"), str(tmp_path / "out"), load_settings())
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"bucket=cats", "bucket=dogs%2B"}
    table = pyarrow.dataset.dataset(tmp_path / "out", partitioning="hive").to_table()
    assert table.num_rows == 30
    assert set(table.column("bucket").to_pylist()) == {"cats", "dogs+"}
    n_by_day = table.group_by("day").aggregate([("key", "count")]).to_pylist()
    assert {row["day"]: row["key_count"] for row in n_by_day} == {"2026-01-01": 8, "2026-01-02": 22}
    with pytest.raises(InvalidRequest, match="exists"):
        save_dataset(iter([]), SCORES, ("day",), str(tmp_path / "out"), load_settings())


def test_a_dataset_that_fails_leaves_nothing(ledger, two_buckets, tmp_path, s3, monkeypatch):
    monkeypatch.setattr(rows, "PAGE_ROWS", 4)
    monkeypatch.setattr(datasets, "_OPEN_FILES", 1)

    def fails():
        yield from score_batches(ledger.engine, query(ledger, ScoreOrder.OLDEST_FIRST))
        raise ValueError("the database is gone")

    settings = load_settings(**s3.settings)
    for output in (str(tmp_path / "out"), f"s3://{s3.name}/out"):
        with pytest.raises(ValueError, match="gone"):
            save_dataset(fails(), SCORES, ("bucket",), output, settings)
    assert list(tmp_path.iterdir()) == []
    assert s3.keys() == []
    batches = score_batches(ledger.engine, query(ledger, ScoreOrder.OLDEST_FIRST))
    save_dataset(batches, SCORES, ("day",), f"s3://{s3.name}/out", settings)
    assert s3.keys() == [
        "out/_SUCCESS",
        "out/day=2026-01-01/part-00000.parquet",
        "out/day=2026-01-02/part-00000.parquet",
    ]


def test_partition_columns():
    assert parse_partition_by("bucket, day") == ("bucket", "day")
    for wrong in ("key", "", "day,day"):
        with pytest.raises(InvalidRequest):
            parse_partition_by(wrong)
