"""Indexes of `results` for pages of scores, and the tables of their roll-ups. `results` itself is in `tables.py`."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Date,
    Index,
    SmallInteger,
    Table,
    Text,
    Uuid,
    cast,
    func,
    literal_column,
)

from dpiqa.storage.columns import time_column
from dpiqa.storage.tables import metadata, results
from dpiqa.types import ResultStatus

BIN_WIDTH = 0.001  #: of the scale: thousandths
LOWEST_BIN, HIGHEST_BIN = -1000, 2000  #: they also count all scores beyond


def score_bin(score: ColumnElement[Any]) -> ColumnElement[int]:
    """Return the SQL of the bin of a score: thousandths of the scale, -1 to 2; scores beyond are in the outer bins.

    Written as constants: an index on an expression serves only the same expression.
    """
    number = func.floor(score * literal_column("1000"))
    return cast(func.least(func.greatest(number, literal_column("-1000")), literal_column("2000")), SmallInteger)


SCORE_BIN = score_bin(results.c.score)
_CURRENT = results.c.current
_PROVISIONAL = _CURRENT & (results.c.status == ResultStatus.PROVISIONAL)
Index(
    "results_by_bucket_time",
    results.c.profile,
    results.c.bucket,
    results.c.updated_at,
    results.c.image_id,
    postgresql_where=_CURRENT,
)
Index(
    "results_by_bin",
    results.c.profile,
    results.c.bucket,
    SCORE_BIN.label("bin"),
    results.c.key,
    postgresql_where=_CURRENT,
    postgresql_ops={"key": "text_pattern_ops"},
)
Index("results_provisional", results.c.profile, results.c.score, results.c.image_id, postgresql_where=_PROVISIONAL)
Index(
    "results_provisional_of_bucket",
    results.c.profile,
    results.c.bucket,
    results.c.score,
    results.c.image_id,
    postgresql_where=_PROVISIONAL,
)


def _text(name: str, comment: str) -> Column[Any]:
    return Column(name, Text, nullable=False, comment=comment)


#: Results by group and bin of the score: `result_counts` plus the sum of `result_changes`, which triggers on `results`
#: write and the sweeper folds in, as with `count_changes`.
result_changes = Table(
    "result_changes",
    metadata,
    _text("profile", "as in results"),
    _text("bucket", "as in results"),
    Column("folder", Text, comment="first folders of the key, at most 3; NULL: none"),
    _text("scorer_id", "as in results"),
    _text("route", "as in results"),
    _text("status", "as in results"),
    Column("day", Date, nullable=False, comment="day of results.updated_at, UTC"),
    Column("job_id", Uuid, nullable=False, comment="as in results"),
    Column("bin", SmallInteger, nullable=False, comment="bin of the score: thousandths of the scale"),
    Column(
        "n",
        BigInteger,
        nullable=False,
        comment="current results that now have these values, less those that no longer do",
    ),
    comment="changes of results, written by triggers, folded into result_counts by the sweeper",
)

#: The same for results that another job recorded. They count for a job whose items they gave their scores to.
shared_result_changes = Table(
    "shared_result_changes",
    metadata,
    _text("profile", "as in results"),
    _text("bucket", "as in results"),
    _text("scorer_id", "as in results"),
    Column("job_id", Uuid, nullable=False, comment="a job of which the image is one that it has scored"),
    Column("bin", SmallInteger, nullable=False, comment="bin of the score: thousandths of the scale"),
    Column("n", BigInteger, nullable=False, comment="such results, less those that no longer are"),
    comment="changes of results that another job recorded, written by triggers, folded in by the sweeper",
)

result_groups = Table(
    "result_groups",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False, comment="hash of the other columns"),
    _text("profile", "as in results"),
    _text("bucket", "as in results; empty: days of all buckets together"),
    _text("kind", "what the group is: bucket, folder, day, job"),
    _text("name", "folder with its last slash, day (UTC), or job; empty for a bucket"),
    Column("depth", SmallInteger, nullable=False, comment="number of folders in the name"),
    _text("scorer_id", "as in results"),
    _text("route", "as in results, for a bucket; else empty"),
    _text("status", "as in results, for a bucket; else empty"),
    comment="groups of current results that are counted, written by the sweeper",
)
Index(
    "result_groups_by_name",
    result_groups.c.profile,
    result_groups.c.kind,
    result_groups.c.bucket,
    result_groups.c.name,
)

result_counts = Table(
    "result_counts",
    metadata,
    Column("group_id", BigInteger, primary_key=True, autoincrement=False, comment="the group"),
    Column(
        "bin",
        SmallInteger,
        primary_key=True,
        autoincrement=False,
        comment="bin of the score: thousandths of the scale",
    ),
    Column("n", BigInteger, nullable=False, comment="results of the group in this bin"),
    comment="results by group and bin up to the last sweep; result_changes has what came since",
)

result_depths = Table(
    "result_depths",
    metadata,
    Column("profile", Text, primary_key=True, comment="as in results"),
    Column("bucket", Text, primary_key=True, comment="as in results"),
    Column("depth", SmallInteger, nullable=False, comment="folders of this depth at most are counted"),
    comment="buckets with too many folders to count each, written by the sweeper",
)

result_rollup = Table(
    "result_rollup",
    metadata,
    Column(
        "counted_upto",
        BigInteger,
        nullable=False,
        comment="images up to this id are counted; the largest number: all",
    ),
    time_column("shared_from", "jobs created since count results that other jobs recorded; NULL: all jobs do"),
    comment="state of the roll-ups of results: one row",
)
