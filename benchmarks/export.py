"""Exports of generated results: rows per second and memory, by format and number of rows, on an embedded Postgres.

    python benchmarks/export.py --rows 100000 1000000 --repeats 3 --json figures.json

Every export runs in a process of its own, which says its peak memory; it reads what `dpiqa scores --output` reads, in
the order of the score. Processor time is that of this process, without Postgres. The first export warms up.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from ledger import CARD, PROFILE, database
from machine import describe
from sqlalchemy import Engine, text

from dpiqa.exports.formats import Format, encode
from dpiqa.exports.rows import item_batches, score_batches
from dpiqa.exports.schemas import ITEMS, SCHEMAS, SCORES, Schema
from dpiqa.models.base import ModelCard
from dpiqa.percentiles import POINTS, Reference
from dpiqa.profiles import Profile
from dpiqa.storage.engine import make_engine, transaction
from dpiqa.storage.profiles import remember_profile
from dpiqa.storage.score_filter import ScoreFilter
from dpiqa.storage.score_query import ScoreQuery

REFERENCE = Reference(
    population="made",
    n=1000,
    scorer_id=CARD.scorer_id,
    command="none",
    quantiles=tuple(point / (POINTS - 1) for point in range(POINTS)),
)
#: Scores in no order: a page of results in the order of the score reads rows from all over the table.
FILL = text(
    """
    WITH job AS (
        INSERT INTO jobs (id, kind, bucket, prefix, profile, state, queue, created_at, listed_at)
        VALUES (gen_random_uuid(), 'prefix', 'photos', '', :profile, 'running', 'bulk', now(), now()) RETURNING id),
    image AS (
        INSERT INTO images (bucket, key, etag, size, current)
        SELECT 'photos', '2026/' || lpad((n % 1000)::text, 4, '0') || '/' || lpad(n::text, 9, '0') || '.jpg',
            md5(n::text), 1000000, true FROM generate_series(1, :rows) AS n
        RETURNING id, bucket, key, etag),
    item AS (
        INSERT INTO items (job_id, image_id, stage, state, queue, route, finished_at)
        SELECT job.id, image.id, 'student', 'scored', 'bulk', 'clear', now() FROM image, job)
    INSERT INTO results (image_id, profile, score, scorer_id, stage, status, route, student_score, bucket, key, etag,
        current, job_id)
    SELECT image.id, :profile, random(), :scorer, 'student', 'final', 'clear', random(), bucket, key, etag, true, job.id
    FROM image, job
    """
)


def fill(engine: Engine, rows: int, profile: Profile, card: ModelCard) -> None:
    """Make a job of this many scored images."""
    with transaction(engine) as c:
        remember_profile(c, profile)
        stored = card.model_copy(update={"references": (REFERENCE,)}).model_dump(mode="json")
        c.execute(
            text("INSERT INTO scorers (id, card) VALUES (:id, CAST(:card AS jsonb))"),
            {"id": card.scorer_id, "card": json.dumps(stored)},
        )
        c.execute(FILL, {"profile": profile.id, "scorer": card.scorer_id, "rows": rows})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as c:
        c.execute(text("VACUUM ANALYZE"))


def export(url: str, schema_id: str, kind: Format, rows: int) -> dict[str, float]:
    """Export this many rows to a file and return seconds, bytes and memory; run in a process of its own."""
    schema = SCHEMAS[schema_id]
    engine = make_engine(url, pool_size=1)
    with transaction(engine) as c:
        query = ScoreQuery(conditions=ScoreFilter(profile=PROFILE.id)).resolve(c)
        job_id = c.execute(text("SELECT id FROM jobs")).scalar_one()
    started, used, n_bytes = time.perf_counter(), time.process_time(), 0
    batches = score_batches(engine, query, rows) if schema is SCORES else item_batches(engine, job_id, limit=rows)
    with tempfile.TemporaryFile() as file:
        for chunk in encode(kind, schema, batches):
            n_bytes += file.write(chunk)
    return {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - used,
        "bytes": n_bytes,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measure(url: str, schema: Schema, kind: Format, rows: int, repeats: int) -> dict[str, Any]:
    """Run an export several times; return rows per second (median, lowest, highest), memory and size."""
    context = multiprocessing.get_context("spawn")
    runs = []
    for _ in range(repeats):
        with ProcessPoolExecutor(1, mp_context=context) as process:
            runs.append(process.submit(export, url, schema.id, kind, rows).result())
    rates = [rows / run["seconds"] for run in runs]
    return {
        "schema": schema.id,
        "format": kind.value,
        "rows": rows,
        "rows_per_second": {"median": statistics.median(rates), "min": min(rates), "max": max(rates)},
        "cpu_microseconds_per_row": statistics.median(1e6 * run["cpu_seconds"] / rows for run in runs),
        "peak_mib": max(run["peak_mib"] for run in runs),
        "bytes_per_row": runs[0]["bytes"] / rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 100_000], help="rows of the exports")
    parser.add_argument("--formats", type=Format, nargs="+", default=list(Format), help="formats of the exports")
    parser.add_argument("--repeats", type=int, default=3, help="exports of each kind")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    with database() as (server, engine):
        fill(engine, max(options.rows), PROFILE, CARD)
        url = server.url()
        measure(url, SCORES, Format.PARQUET, min(options.rows), 1)
        cases = [(SCORES, kind, rows) for kind in options.formats for rows in options.rows]
        cases += [(ITEMS, Format.PARQUET, rows) for rows in options.rows]
        figures = [measure(url, *case, options.repeats) for case in cases]
    report = {"machine": describe(), "repeats": options.repeats, "exports": figures}
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    print(report["machine"])
    print(f"{'':22}{'rows':>9}{'rows/s: median (range)':>34}{'us CPU/row':>12}{'peak MiB':>10}{'bytes/row':>11}")
    for figure in figures:
        rate = figure["rows_per_second"]
        spread = f"{rate['median']:,.0f} ({rate['min']:,.0f} to {rate['max']:,.0f})"
        print(
            f"{figure['schema']:12}{figure['format']:10}{figure['rows']:9}{spread:>34}"
            f"{figure['cpu_microseconds_per_row']:12.2f}{figure['peak_mib']:10.0f}{figure['bytes_per_row']:11.0f}"
        )


if __name__ == "__main__":
    main()
