"""A ledger with many results, for measurements of queries: made by the server itself, the same for the same number.

    python benchmarks/load_results.py --folder /var/tmp/ledger --results 10000000

Leaves a stopped Postgres in the folder; `benchmarks/queries.py` starts it. Four buckets (80, 10, 8 and 2 % of the
images), keys by day (`2024/05/17/IMG_00001234.jpg`, three years), two profiles, student and teacher scores, jobs of 90
and 0.2 % of the images, provisional results and rejected images. Rows are written in bulk without indexes and triggers;
the roll-ups are then built by the same code as after an upgrade.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from machine import describe
from sqlalchemy import Connection, Engine, text

from dpiqa.local.postgres import Postgres
from dpiqa.models.base import ModelCard
from dpiqa.models.cards import find_card
from dpiqa.profiles import load_profile
from dpiqa.storage import schema
from dpiqa.storage.engine import make_engine, transaction
from dpiqa.storage.rollups import count_results, reset_rollups

BATCH = 500_000  #: images a statement
STATEMENT_SECONDS = 3600  #: an index of ten million rows takes minutes on a busy machine
PROFILES = ("with-teacher", "student-only")
#: Share of the images: 90 % in the first job, 0.2 % of them in the second one too, the others in the third one.
JOBS = {name: UUID(int=number) for number, name in enumerate(("large", "small", "rest", "second_profile"), start=1)}
#: Durability costs time that is not ours.
SERVER = {
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "8GB",
    "shared_buffers": "2GB",
    "maintenance_work_mem": "1GB",
    "checkpoint_timeout": "1h",
    "effective_cache_size": "8GB",
    "random_page_cost": "1.1",
    "autovacuum": "off",
}

REJECTED = 7  #: the remainder by 200 of the ids of rejected images, as in the statements below

# A number from 0 to 1 that depends on the image's id and on `seed` alone.
_UNIFORM = "((hashint8extended(i, {seed}) & 1048575) / 1048576.0::float8)"
# Sum of four uniform numbers: nearly normal, mean 0.55, standard deviation 0.14.
_SCORE = "round((0.55 + 0.2425 * ({} + {} + {} + {} - 2))::numeric, 6)::float8".format(
    *(_UNIFORM.format(seed=seed) for seed in range(1, 5))
)
IMAGES = """
INSERT INTO images (id, bucket, key, etag, size, last_modified, news_at, current, first_seen_at)
OVERRIDING SYSTEM VALUE
SELECT i, CASE WHEN i % 50 < 40 THEN 'archive' WHEN i % 50 < 45 THEN 'photos' WHEN i % 50 < 49 THEN 'press'
    ELSE 'tiny' END,
    to_char(date '2023-01-01' + (i * 1096 / :images)::int, 'YYYY/MM/DD') || '/IMG_' || lpad(i::text, 8, '0') || '.jpg',
    md5(i::text), 200000 + (i * 7919) % 800000, at, at, true, at
FROM (SELECT i, timestamptz '2026-01-01' + i * interval '30 days' / :images AS at
    FROM generate_series(CAST(:low AS bigint), CAST(:high AS bigint)) AS i) AS numbered
"""
# What the routing would do: borderline near the cut-offs 0.35 and 0.6, a fifth to the teacher, a few still waiting.
_ROUTED = f"""
SELECT i, student, by_hash, CASE WHEN least(abs(student - 0.35), abs(student - 0.6)) > 0.05 THEN 'clear'
    WHEN by_hash < 0.55 THEN 'borderline' ELSE 'budget_spent' END AS route
FROM (SELECT i, {_SCORE} AS student, {_UNIFORM.format(seed=9)} AS by_hash
    FROM generate_series(CAST(:low AS bigint), CAST(:high AS bigint)) AS i) AS scored
"""
# The columns of a result, by image: rejected images (one in 200) have none.
_DECIDED = f"""
SELECT r.*, image.bucket, image.key, image.etag, image.first_seen_at + interval '1 hour' AS at,
    route = 'borderline' AND by_hash >= 0.01 AS by_teacher, route = 'borderline' AND by_hash < 0.01 AS waits,
    student + 0.05 * (by_hash - 0.25) AS teacher,
    CASE WHEN i % 1000 < 900 THEN CAST(:large AS uuid) ELSE CAST(:rest AS uuid) END AS job_id
FROM ({_ROUTED}) AS r JOIN images AS image ON image.id = r.i WHERE i % 200 <> 7
"""
RESULTS = f"""
INSERT INTO results (image_id, profile, score, scorer_id, stage, status, route, student_score, teacher_score, bucket,
    key, etag, current, job_id, updated_at)
SELECT i, :profile, CASE WHEN by_teacher THEN teacher ELSE student END,
    CASE WHEN by_teacher THEN :teacher_id ELSE :student_id END,
    CASE WHEN by_teacher THEN 'teacher' ELSE 'student' END, CASE WHEN waits THEN 'provisional' ELSE 'final' END,
    route, student, CASE WHEN by_teacher THEN teacher END, bucket, key, etag, true, job_id, at
FROM ({_DECIDED}) AS decided ORDER BY i
"""
SECOND_RESULTS = f"""
INSERT INTO results (image_id, profile, score, scorer_id, stage, status, route, student_score, bucket, key, etag,
    current, job_id, updated_at)
SELECT i, :second_profile, student, :student_id, 'student', 'final', 'no_teacher', student, bucket, key, etag, true,
    :second_job, at + interval '1 day'
FROM ({_DECIDED}) AS decided WHERE i % 10 = 3 ORDER BY i
"""
SCORES = f"""
INSERT INTO scores (image_id, scorer_id, score, etag, scored_at, attempt, job_id)
SELECT i, s.scorer_id, s.score, etag, at, 1, job_id FROM ({_DECIDED}) AS decided
CROSS JOIN LATERAL (VALUES (:student_id, student, true), (:teacher_id, teacher, by_teacher))
    AS s (scorer_id, score, has)
WHERE s.has ORDER BY i, s.scorer_id
"""
ITEMS = f"""
INSERT INTO items (job_id, image_id, stage, state, queue, attempt, reason, detail, route, created_at, finished_at)
SELECT CASE WHEN i % 1000 < 900 THEN CAST(:large AS uuid) ELSE CAST(:rest AS uuid) END, i, stage, state, queue, 1,
    reason, detail, route, at, CASE WHEN state <> 'queued' THEN at + interval '1 hour' END
FROM (SELECT r.*, timestamptz '2026-01-01' + i * interval '30 days' / :images AS at,
    CASE WHEN i % 200 = 7 THEN 'rejected' WHEN route = 'borderline' AND by_hash < 0.01 THEN 'queued' ELSE 'scored' END
        AS state,
    CASE WHEN i % 200 <> 7 THEN NULL WHEN i % 400 = 7 THEN 'truncated' ELSE 'not_an_image' END AS reason,
    CASE WHEN i % 200 = 7 THEN 'the file ends early' END AS detail,
    CASE WHEN route = 'borderline' AND i % 200 <> 7 THEN 'teacher' ELSE 'student' END AS stage,
    CASE WHEN route = 'borderline' AND i % 200 <> 7 THEN 'teacher' ELSE 'bulk' END AS queue
    FROM ({_ROUTED}) AS r) AS decided ORDER BY i
"""
SMALL_ITEMS = """
INSERT INTO items (job_id, image_id, stage, state, queue, attempt, route, created_at, finished_at)
SELECT CAST(:small AS uuid), i, 'student', 'scored', 'bulk', 1, 'clear', now(), now()
FROM generate_series(CAST(:low AS bigint), CAST(:high AS bigint)) AS i WHERE i % 500 = 11 AND i % 200 <> 7
"""
SECOND_ITEMS = """
INSERT INTO items (job_id, image_id, stage, state, queue, attempt, route, created_at, finished_at)
SELECT :second_job, i, 'student', 'scored', 'bulk', 1, 'no_teacher', now(), now()
FROM generate_series(CAST(:low AS bigint), CAST(:high AS bigint)) AS i WHERE i % 10 = 3 AND i % 200 <> 7
"""
COUNTS = """
INSERT INTO job_counts (job_id, stage, state, reason, n)
SELECT job_id, stage, state, coalesce(reason, ''), count(*) FROM items GROUP BY 1, 2, 3, 4
"""
# Indexes that no foreign key refers to, and how to make them again.
SECONDARY = """
SELECT i.tablename, i.indexname, i.indexdef, c.conname IS NOT NULL AND c.contype = 'u' AS is_constraint,
    pg_get_constraintdef(c.oid) AS condef
FROM pg_indexes i LEFT JOIN pg_constraint c ON c.conname = i.indexname AND c.connamespace = 'public'::regnamespace
WHERE i.schemaname = 'public' AND i.tablename IN ('images', 'items', 'scores', 'results')
    AND (c.contype IS NULL OR c.contype = 'u')
"""


@contextmanager
def server(folder: Path, *, memory: str = "2GB") -> Iterator[Postgres]:
    """Run the Postgres of a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o711)  # as root, Postgres runs as `nobody`
    postgres = Postgres(folder / "postgres", folder / "postgres.log", options=SERVER | {"shared_buffers": memory})
    postgres.start()
    try:
        yield postgres
    finally:
        postgres.stop()


def load(engine: Engine, n_results: int) -> None:
    """Fill an empty ledger with about `n_results` results."""
    images = n_results * 200 // 219  # of 200 images 199 have a result, and 20 a second one
    student, teacher = find_card("bundled-student"), find_card("bundled-teacher")
    values = {
        "images": images,
        "student_id": student.scorer_id,
        "teacher_id": teacher.scorer_id,
        "profile": load_profile(PROFILES[0]).id,
        "second_profile": load_profile(PROFILES[1]).id,
        **{name: JOBS[name] for name in ("large", "small", "rest")},
        "second_job": JOBS["second_profile"],
    }
    with transaction(engine) as c:
        c.execute(text("SET session_replication_role = replica"))  # neither triggers nor checks of foreign keys
        add_fixed_rows(c, (student, teacher))
        indexes = c.execute(text(SECONDARY)).all()
        for index in indexes:
            c.execute(text(f"ALTER TABLE {index.tablename} DROP CONSTRAINT {index.indexname}" if index.is_constraint
                           else f"DROP INDEX {index.indexname}"))  # fmt: skip
    for statement in (IMAGES, RESULTS, SECOND_RESULTS, SCORES, ITEMS, SMALL_ITEMS, SECOND_ITEMS):
        started = time.monotonic()
        for low in range(1, images + 1, BATCH):
            with transaction(engine) as c:
                c.execute(text("SET LOCAL session_replication_role = replica"))
                names = text(statement).compile().params
                span = {"low": low, "high": min(low + BATCH - 1, images)}
                c.execute(text(statement), {name: (values | span)[name] for name in names})
        print(f"{statement.split()[2]}: {time.monotonic() - started:.0f} s", flush=True)
    with transaction(engine) as c:
        c.execute(text("SELECT setval(pg_get_serial_sequence('images', 'id'), :n)"), {"n": images})
        c.execute(text(COUNTS))
    for index in indexes:
        started = time.monotonic()
        with transaction(engine) as c:
            c.execute(text(f"ALTER TABLE {index.tablename} ADD CONSTRAINT {index.indexname} {index.condef}"
                           if index.is_constraint else index.indexdef))  # fmt: skip
        print(f"{index.indexname}: {time.monotonic() - started:.0f} s", flush=True)


def add_fixed_rows(c: Connection, cards: tuple[ModelCard, ModelCard]) -> None:
    """Add scorers, profiles and jobs."""
    for card in cards:
        c.execute(
            text("INSERT INTO scorers (id, card) VALUES (:id, CAST(:card AS jsonb))"),
            {"id": card.scorer_id, "card": json.dumps(card.model_dump(mode="json"))},
        )
    profiles = [load_profile(name) for name in PROFILES]
    for profile in profiles:
        c.execute(
            text("INSERT INTO profiles (id, definition) VALUES (:id, CAST(:definition AS jsonb))"),
            {"id": profile.id, "definition": json.dumps(profile.model_dump(mode="json"))},
        )
    for name, job_id in JOBS.items():
        profile = profiles[name == "second_profile"]
        c.execute(
            text(
                "INSERT INTO jobs (id, kind, bucket, prefix, profile, state, queue, created_at, listed_at) VALUES "
                "(:id, 'prefix', 'archive', '', :profile, 'running', 'bulk', timestamptz '2026-01-01', now())"
            ),
            {"id": job_id, "profile": profile.id},
        )


def count(engine: Engine) -> None:
    """Count the results in the roll-ups: the triggers that do it otherwise were off."""
    started = time.monotonic()
    reset_rollups(engine)
    while count_results(engine):
        pass
    print(f"roll-ups: {time.monotonic() - started:.0f} s", flush=True)


def finish(engine: Engine) -> None:
    """Vacuum, which also marks pages for index-only scans, and collect statistics."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as c:
        c.execute(text("SET maintenance_work_mem = '1GB'"))
        c.execute(text("VACUUM ANALYZE"))
        c.execute(text("CHECKPOINT"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "dpiqa-ledger")
    parser.add_argument("--results", type=int, default=1_000_000)
    options = parser.parse_args()
    started = time.monotonic()
    print(describe())
    with server(options.folder) as postgres:
        schema.upgrade(postgres.url())
        engine = make_engine(postgres.url(), pool_size=1, statement_timeout=STATEMENT_SECONDS)
        load(engine, options.results)
        finish(engine)  # statistics, for the plans of the next step
        count(engine)
        finish(engine)
        with transaction(engine) as c:
            n, size = c.execute(text("SELECT count(*), pg_database_size(current_database()) FROM results")).one()
        engine.dispose()
    print(f"{n} results, {size / 2**30:.1f} GiB, in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
