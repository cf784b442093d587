"""The weight of tables and indexes per million items, and what updates leave behind, on an embedded Postgres.

python benchmarks/growth.py --items 200000 --json figures.json

Objects are listed, announced, claimed and recorded as workers do it, in chunks of 256; a twentieth is rejected and a
tenth goes to the teacher as well. Autovacuum runs as the tables are set. Then a second job lists the same objects.
`--set` changes the settings of tables, to compare: `--set "items: autovacuum_vacuum_scale_factor = 0.2"`.
"""

import argparse
import json
import threading
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any, cast

from machine import describe
from sqlalchemy import Engine, text
from submit import BUCKET, Listing, Silent, database

from dpiqa.doorbell import Queue
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.models.base import ModelCard
from dpiqa.objects.store import ObjectStore
from dpiqa.pipeline.lister import Lister
from dpiqa.profiles import Cutoff, Profile
from dpiqa.routing import decide
from dpiqa.settings import load_settings
from dpiqa.storage.claims import claim
from dpiqa.storage.counts import fold_counts
from dpiqa.storage.engine import transaction
from dpiqa.storage.feed import feed
from dpiqa.storage.items import Claim, Outcome, Rejected, Scored
from dpiqa.storage.jobs import create_job
from dpiqa.storage.results import record
from dpiqa.storage.rollups import fold_results
from dpiqa.types import JobKind, ModelKind, Reason, Stage

CHUNK = 256
ROUTED = Profile(
    name="routed",
    version=1,
    student="student",
    teacher="teacher",
    cutoffs=(Cutoff(at=0.5, margin=0.05),),
    max_escalated_share=1.0,
)
STUDENT = ModelCard(
    name="student",
    kind=ModelKind.PIXELS,
    sha256="a" * 64,
    preprocessing=Preprocessing(width=8, height=8),
    licence="none",
)
TEACHER = STUDENT.model_copy(update={"name": "teacher", "sha256": "b" * 64})
SIZES = text(
    """
    SELECT c.relname AS name, CASE c.relkind WHEN 'i' THEN x.indrelid::regclass::text END AS of_table,
        pg_total_relation_size(c.oid) AS n_bytes, s.n_live_tup AS live, s.n_dead_tup AS dead, s.n_tup_upd AS updates,
        s.n_tup_hot_upd AS hot, s.autovacuum_count AS vacuums
    FROM pg_class c LEFT JOIN pg_index x ON x.indexrelid = c.oid LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'i')
        AND coalesce(x.indrelid, c.oid)::regclass::text = ANY (:tables)
    ORDER BY coalesce(x.indrelid::regclass::text, c.relname), c.relkind DESC, c.relname
    """
)
TABLES = [
    "images", "items", "scores", "results", "count_changes", "job_counts", "result_changes", "result_counts",
    "result_groups",
]  # fmt: skip
ROUNDS = 15  #: of 4,096 items, between two sweeps: a minute at 1,000 items/s


def list_objects(engine: Engine, n: int) -> None:
    """Submit the objects as a job and list them."""
    with transaction(engine) as c:
        job = create_job(c, kind=JobKind.PREFIX, bucket=BUCKET, prefix="", profile=ROUTED, queue=Queue.BULK)
    store, doorbell = cast("ObjectStore", Listing("", n)), cast("Any", Silent())
    Lister(engine, store, doorbell, load_settings(), threading.Event()).list_job(str(job.id))
    with transaction(engine) as c:
        c.execute(text("UPDATE items SET rung_at = NULL WHERE rung_at IS NOT NULL"))  # the doorbell is silent


def outcome(held: Claim, stage: Stage) -> Outcome:
    """Return what a worker would: by the image's id."""
    if stage is Stage.STUDENT and held.image_id % 20 == 0:
        return Rejected(held, Reason.CORRUPT, "the decoder refused the data")
    return Scored(held, (held.image_id * 7919 % 100_000) / 100_000, held.ref.etag)


def work(engine: Engine) -> int:
    """Score what waits, to the end; return the number of outcomes."""
    n = 0
    for turn in count():
        if turn % ROUNDS == 0:
            sweep(engine)
        with transaction(engine) as c:
            rings = feed(c, window=4096, rering_seconds=60, chunk=CHUNK, empty_queues=set())
        if not rings:
            break
        for queue, ids in rings:
            stage, card = (Stage.TEACHER, TEACHER) if queue is Queue.TEACHER else (Stage.STUDENT, STUDENT)
            scorer_ids = {ROUTED.id: card.scorer_id}
            with transaction(engine) as c:
                held = claim(c, ids, stage=stage, owner="w", lease_seconds=60, scorer_ids=scorer_ids)
            with transaction(engine) as c:
                outcomes = [outcome(one, stage) for one in held]
                n += record(c, stage, ROUTED, card, outcomes, decide=decide).n_recorded
    sweep(engine)
    return n


def sweep(engine: Engine) -> None:
    """Fold the changes of counts into them, as a sweeper does every minute."""
    with transaction(engine) as c:
        fold_counts(c, older_than=0)
        fold_results(c)


def sizes(engine: Engine, n: int) -> list[dict[str, Any]]:
    """Return bytes per item and the statistics of every table and index."""
    with transaction(engine) as c:
        rows = c.execute(SIZES, {"tables": TABLES}).mappings().all()
    return [{**row, "mb_per_million": row["n_bytes"] / n} for row in rows]


def measure(n: int, options: Sequence[str]) -> dict[str, Any]:
    """Run the whole of it; return the sizes after each step."""
    with database() as (_, engine):
        for option in options:
            table, setting = option.split(":", 1)
            with engine.begin() as c:
                c.execute(text(f"ALTER TABLE {table.strip()} SET ({setting.strip()})"))
        list_objects(engine, n)
        steps = {"listed": sizes(engine, n)}
        outcomes = work(engine)
        steps["scored"] = sizes(engine, n)
        list_objects(engine, n)
        steps["listed again"] = sizes(engine, n)
    return {"outcomes": outcomes, "steps": steps}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--set", action="append", default=[], help="'TABLE: SETTING = VALUE', any number of times")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    figures = {"machine": describe(), "items": options.items, **measure(options.items, options.set)}
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2, default=str) + "\n", "utf-8")
    print(figures["machine"])
    for step, rows in figures["steps"].items():
        print(f"\n{step}: MB per million items; rows dead, updated, of those HOT, vacuums")
        for row in rows:
            if row["of_table"]:
                print(f"  {row['name']:42}{row['mb_per_million']:9.1f}")
            else:
                counts = f"{row['dead']:>10}{row['updates']:>10}{row['hot']:>10}{row['vacuums']:>4}"
                print(f"{row['name']:20}{'in all':24}{row['mb_per_million']:9.1f}{counts}")


if __name__ == "__main__":
    main()
