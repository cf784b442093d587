"""Migrations of a populated ledger while the previous release works on it.

python benchmarks/migrations.py --rows 1000000 --release af4b4c1 --json figures.json

Loads images, items and results at the last migration of the release (`--from`), runs the release's own code from the
repository's history in another process (it adds, announces, claims, records and reads), and upgrades meanwhile. It
reports, for each migration, its time and the longest transaction of the release's code, and every error of that code.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from alembic.script import ScriptDirectory
from machine import describe, end_on_sigterm
from sqlalchemy import Engine, text
from submit import database

from dpiqa.storage import schema
from dpiqa.storage.engine import make_engine, transaction

REPOSITORY = Path(__file__).parents[1]
#: Half of the items have ended; results have the shape of a student's. Every statement fits the schema of 0005.
LOAD = """
INSERT INTO profiles (id, definition) VALUES ('p@1', '{}');
INSERT INTO scorers (id, card) VALUES ('student:aaaa:w:float32', '{"score_scale": [0, 1]}');
INSERT INTO jobs (id, kind, bucket, prefix, profile, state, queue, listed_at)
    VALUES ('00000000-0000-0000-0000-000000000001', 'prefix', 'archive', '', 'p@1', 'running', 'bulk', now());
INSERT INTO images (bucket, key, etag, size, last_modified, news_at, current)
    SELECT 'archive', '2026/' || lpad((n / 10000)::text, 5, '0') || '/photo-' || lpad(n::text, 9, '0') || '.jpg',
        md5(n::text), 300000, '2026-01-01', '2026-01-01', true
    FROM generate_series(1, {rows}) n;
INSERT INTO items (job_id, image_id, stage, state, queue, attempt, route, finished_at)
    SELECT j.id, m.id, 'student', CASE WHEN mod(m.id, 2) = 0 THEN 'scored' ELSE 'queued' END, 'bulk', 1, 'clear',
        CASE WHEN mod(m.id, 2) = 0 THEN now() END
    FROM images m, jobs j;
INSERT INTO scores (image_id, scorer_id, score, etag, attempt, job_id)
    SELECT m.id, 'student:aaaa:w:float32', random(), m.etag, 1, j.id FROM images m, jobs j WHERE mod(m.id, 2) = 0;
INSERT INTO results (image_id, profile, score, scorer_id, stage, status, route, student_score, bucket, key, etag,
        current, job_id)
    SELECT m.id, 'p@1', s.score, s.scorer_id, 'student', 'final', 'clear', s.score, m.bucket, m.key, m.etag, true,
        s.job_id
    FROM scores s JOIN images m ON m.id = s.image_id;
ANALYZE;
"""
#: Runs on the release's modules. Prints a JSON line for every transaction: its name, start and seconds, or its error.
WORK = """
import json, sys, threading, time
from dpiqa.doorbell import Queue
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.models.base import ModelCard
from dpiqa.profiles import Profile
from dpiqa.routing import decide
from dpiqa.storage import claims, feed, results
from dpiqa.storage.engine import make_engine, transaction
from dpiqa.storage.images import add_images
from dpiqa.storage.items import Scored
from dpiqa.storage.job_queries import get_job
from dpiqa.storage.jobs import ensure_watch
from dpiqa.storage.scores import ScoreFilter, list_scores
from dpiqa.types import ImageRef, ModelKind, Stage

engine, stop, print_lock = make_engine(sys.argv[1], pool_size=8), threading.Event(), threading.Lock()
profile = Profile(name="p", version=1, student="student")
watched = Profile(name="w", version=1, student="student")
card = ModelCard(name="student", kind=ModelKind.PIXELS, sha256="a" * 64,
                 preprocessing=Preprocessing(width=8, height=8), licence="none")
job_id = "00000000-0000-0000-0000-000000000001"

def timed(name, function):
    began = time.time()
    try:
        with transaction(engine) as c:
            value = function(c)
    except Exception as error:
        value, line = None, {"name": name, "at": began, "error": f"{type(error).__name__}: {error}"[:300]}
    else:
        line = {"name": name, "at": began, "seconds": time.time() - began}
    with print_lock:
        print(json.dumps(line), flush=True)
    return value

def events():
    n = 0
    watch = timed("watch", lambda c: ensure_watch(c, "events", "", watched))
    while not stop.wait(0.02):
        n += 1
        ref = ImageRef(bucket="events", key=f"k{n}", etag="e")
        if watch is None:
            watch = timed("watch", lambda c: ensure_watch(c, "events", "", watched))
        else:
            timed("add", lambda c: add_images(c, watch, [ref]))

def work():
    while not stop.wait(0.02):
        rings = timed("feed", lambda c: feed.feed(c, window=64, rering_seconds=1, chunk=32, empty_queues=set(Queue)))
        for _, ids in rings or ():
            scorers = {"p@1": card.scorer_id, "w@1": card.scorer_id}
            held = timed("claim", lambda c: claims.claim(c, ids, stage=Stage.STUDENT, owner="w", lease_seconds=60,
                                                         scorer_ids=scorers))
            outcomes = [Scored(one, 0.5, one.ref.etag) for one in held or ()]
            of = watched if outcomes and outcomes[0].claim.profile_id == "w@1" else profile
            timed("record", lambda c: results.record(c, Stage.STUDENT, of, card, outcomes, decide=decide))

def read():
    while not stop.wait(0.05):
        timed("read", lambda c: get_job(c, job_id))
        timed("scores", lambda c: list_scores(c, ScoreFilter(profile="p@1", bucket="archive"), limit=10))

threads = [threading.Thread(target=target) for target in (events, work, read)]
for thread in threads:
    thread.start()
sys.stdin.read()
stop.set()
for thread in threads:
    thread.join()
"""


class Release:
    """The code of an earlier release at work, in a process of its own."""

    def __init__(self, commit: str, url: str, folder: Path) -> None:
        archive = subprocess.run(["git", "archive", commit], cwd=REPOSITORY, check=True, capture_output=True)
        subprocess.run(["tar", "x"], cwd=folder, input=archive.stdout, check=True)
        self._log = folder / "work.log"
        self._errors = folder / "work.err"
        env = {**os.environ, "PYTHONPATH": str(folder)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORK, url],
            cwd=folder,
            env=env,
            stdin=subprocess.PIPE,
            stdout=self._log.open("w"),
            stderr=self._errors.open("w"),
        )

    def wait_until_busy(self) -> None:
        """Wait until it has recorded something."""
        deadline = time.monotonic() + 120
        while '"record"' not in self._log.read_text():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the release's code does not work: {self._errors.read_text()[-2000:]}")
            time.sleep(0.2)

    def stop(self) -> list[dict[str, Any]]:
        """End it; return its transactions."""
        self._process.communicate()
        return [json.loads(line) for line in self._log.read_text().splitlines()]


@contextmanager
def ledger(start: str, url: str | None) -> Iterator[tuple[str, Engine]]:
    """Give the URL of an empty ledger and its engine: of the embedded Postgres, or in the database of a URL."""
    if url is None:
        with database(start) as (server, engine):
            yield server.url(), engine
        return
    schema.upgrade(url, start)
    engine = make_engine(url, pool_size=4)
    yield url, engine
    engine.dispose()


def measure(rows: int, release: str, start: str, database_url: str | None) -> dict[str, Any]:
    """Load, upgrade and return the figures of each migration."""
    with ledger(start, database_url) as (url, engine), tempfile.TemporaryDirectory(prefix="dpiqa-release-") as folder:
        # Without the limits of the program's own connections: a statement takes a minute.
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as loading:
            for statement in LOAD.replace("{rows}", str(rows)).split(";\n"):
                if statement:
                    loading.execute(statement)
        old = Release(release, url, Path(folder))
        old.wait_until_busy()
        config = schema._config(None)
        scripts = ScriptDirectory.from_config(config).iterate_revisions("head", start)
        steps: list[dict[str, Any]] = []
        for revision in reversed([script.revision for script in scripts]):
            began = time.time()
            schema.upgrade(url, revision)
            steps.append({"revision": revision, "began": began, "ended": time.time()})
        time.sleep(5)  # the release's code on the new schema
        steps.append({"revision": "afterwards", "began": steps[-1]["ended"], "ended": time.time()})
        done = old.stop()
        with transaction(engine) as c:
            version = str(c.execute(text("SHOW server_version")).scalar_one())
            steps[-1]["counts_are_right"] = c.execute(text(COUNTS)).scalar_one() == 0
    for step in steps:
        during = [one for one in done if one["at"] < step["ended"] and _end(one) > step["began"]]
        longest = max((one for one in during if "seconds" in one), key=_seconds, default=None)
        step |= {
            "seconds": step["ended"] - step["began"],
            "transactions": len(during),
            "longest": longest and {"name": longest["name"], "seconds": longest["seconds"]},
            "errors": sorted({one["error"] for one in during if "error" in one}),
        }
    return {"postgres": version, "rows": rows, "release": release, "steps": steps}


COUNTS = """
    SELECT count(*) FROM (
        SELECT state, count(*) AS n FROM items GROUP BY 1) AS real
    FULL JOIN (
        SELECT state, sum(n) AS n FROM (SELECT state, n FROM job_counts UNION ALL SELECT state, n FROM count_changes) k
        GROUP BY 1 HAVING sum(n) <> 0) AS kept USING (state)
    WHERE real.n IS DISTINCT FROM kept.n
"""


def _seconds(one: dict[str, Any]) -> float:
    return float(one["seconds"])


def _end(one: dict[str, Any]) -> float:
    return float(one["at"] + one.get("seconds", 0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="images and items; half as many results")
    parser.add_argument("--release", default="af4b4c1", help="commit of the release whose code works meanwhile")
    parser.add_argument("--from", dest="start", default="0005", help="last migration of that release")
    parser.add_argument("--database", help="URL of an empty database; by default the embedded Postgres")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    end_on_sigterm()
    figures = {"machine": describe(), **measure(options.rows, options.release, options.start, options.database)}
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    print(figures["machine"])
    print(f"{options.rows} images and items; {options.release} at work; Postgres {figures['postgres']}")
    for step in figures["steps"]:
        longest = step["longest"] or {"name": "-", "seconds": 0.0}
        print(f"{step['revision']:12}{step['seconds']:8.2f} s{step['transactions']:7} transactions, longest "
              f"{longest['seconds']:6.2f} s ({longest['name']}){'  ' + '; '.join(step['errors'])}")  # fmt: skip
    print(f"counts are right: {figures['steps'][-1]['counts_are_right']}")


if __name__ == "__main__":
    main()
