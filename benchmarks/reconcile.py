"""The speed and the memory of a reconciliation: a long listing is compared with a ledger in an embedded Postgres.

python benchmarks/reconcile.py --items 100000 1000000 --json figures.json

The ledger holds a final result for each image. Of the listing, every thousandth object is missing from the ledger,
every thousandth one was overwritten, and every thousandth image is gone. Then the same again, where nothing differs.
Processor time of this process and of all processes of Postgres; memory as the largest resident size of this process.
"""

import argparse
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import psutil
from machine import describe
from sqlalchemy import Engine, text
from submit import BUCKET, PAGE, PROFILE, Listing, Silent, database, server_seconds

from dpiqa.addresses import S3Address
from dpiqa.local.postgres import Postgres
from dpiqa.objects.store import ObjectStore
from dpiqa.pipeline.reconciler import Reconciler
from dpiqa.settings import load_settings
from dpiqa.storage.engine import transaction
from dpiqa.storage.profiles import remember_profile
from dpiqa.storage.reconciliations import Reconciliation, ReconciliationRequest, request_reconciliation
from dpiqa.types import ImageRef

FEW = 1000  #: one object in this many is of each kind of difference
LOAD = (
    "INSERT INTO scorers (id, card) VALUES ('s', '{}')",
    """
    INSERT INTO jobs (id, kind, bucket, prefix, profile, state, queue)
    VALUES (gen_random_uuid(), 'prefix', :bucket, '', :profile, 'complete', 'bulk')
    """,
    """
    INSERT INTO images (bucket, key, etag, size, last_modified, news_at, current)
    SELECT :bucket, format('2026/%s/photo-%s.jpg', lpad((n / 10000)::text, 5, '0'), lpad(n::text, 9, '0')),
        CASE WHEN n % :few = 1 THEN 'old' ELSE lpad(to_hex(n), 32, '0') END, 300000 + n, at, at, true
    FROM generate_series(0, :n - 1) AS s (n) CROSS JOIN LATERAL (SELECT timestamptz '2026-01-01Z' + n * interval '1 s')
        AS t (at)
    WHERE n % :few <> 2
    """,
    """
    INSERT INTO results
        (image_id, profile, score, scorer_id, stage, status, route, bucket, key, etag, current, job_id)
    SELECT i.id, :profile, 0.5, 's', 'student', 'final', 'clear', i.bucket, i.key, i.etag, true, j.id
    FROM images i, jobs j
    """,
)


class Thinned(Listing):
    """The listing without the objects that are gone."""

    def list(self, bucket: str, *_: object, **__: object) -> Iterator[list[ImageRef]]:
        """Yield pages of at most a thousand objects."""
        for page in super().list(bucket):
            yield [ref for ref in page if int(ref.key[-13:-4]) % FEW]


def load(engine: Engine, n: int) -> None:
    """Fill the ledger with `n` images and their results."""
    with transaction(engine) as c:
        remember_profile(c, PROFILE)
        for statement in LOAD:
            c.execute(text(statement), {"bucket": BUCKET, "profile": PROFILE.id, "n": n, "few": FEW})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as c:
        c.execute(text("VACUUM ANALYZE"))


def reconcile(server: Postgres, engine: Engine, n: int) -> dict[str, Any]:
    """Reconcile once; return the figures."""
    with transaction(engine) as c:
        request = ReconciliationRequest(address=S3Address(BUCKET, ""), profile=PROFILE.id)
        row_id = request_reconciliation(c, request).id
    memory, largest = psutil.Process().memory_info, 0

    def watch(_: Reconciliation) -> None:
        nonlocal largest
        largest = max(largest, memory().rss)

    store, doorbell = cast("ObjectStore", Thinned("", n)), cast("Any", Silent())
    worker = Reconciler(engine, store, doorbell, load_settings(), threading.Event(), progress=watch)
    before, wall, cpu, backend = memory().rss, time.perf_counter(), time.process_time(), server_seconds(server)
    ended = worker.run(row_id)
    seconds = time.perf_counter() - wall
    if ended.error:
        raise SystemExit(ended.error)
    return {
        "objects": n,
        "objects_per_second": n / seconds,
        "process_ms_per_1000": 1e6 * (time.process_time() - cpu) / n,
        "postgres_ms_per_1000": 1e6 * (server_seconds(server) - backend) / n,
        "grown_mib": (largest - before) / 2**20,
        "counts": ended.counts,
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[10 * PAGE, 100 * PAGE])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rounds = []
    for n in arguments.items:
        with database() as (server, engine):
            load(engine, n)
            rounds += [{"round": name, **reconcile(server, engine, n)} for name in ("differences", "none")]
            for figures in rounds[-2:]:
                print(json.dumps(figures))
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": describe(), "rounds": rounds}, indent=2) + "\n")


if __name__ == "__main__":
    main()
