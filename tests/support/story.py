"""A story of the fault suite: real processes that are restarted as a supervisor would, random moments, one oracle."""

import hashlib
import json
import random
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

from sqlalchemy.engine import make_url

from dpiqa.local.commands import api_command, listen_command, worker_command
from dpiqa.local.process import free_port
from dpiqa.storage.engine import make_engine
from support.photos import png
from support.system import System

LEVELS = 50  #: distinct images: half of them are on either side of the cut-off of `smoke`, some are borderline


def level_of(key):
    """Return which of the distinct images a key holds."""
    return int(re.search(r"\d+", key)[0]) % LEVELS


def body_of(key):
    """Return the bytes of an uploaded key."""
    return png(level_of(key) / LEVELS)


def etag_of(key):
    """Return the ETag of an uploaded key."""
    return hashlib.md5(body_of(key), usedforsecurity=False).hexdigest()


def reference_scores(folder):
    """Return the score of each distinct image, as the command `dpiqa score` computes it under `smoke`."""
    photographs = folder / "photographs"
    photographs.mkdir()
    for level in range(LEVELS):
        (photographs / f"{level}.png").write_bytes(png(level / LEVELS))
    argv = [sys.executable, "-m", "dpiqa.cli", "score", str(photographs), "--profile", "smoke", "--json"]
    answer = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120)
    rows = json.loads(answer.stdout)
    return {level_of(row["path"].rsplit("/")[-1]): row["score"] for row in rows}


class Kept:
    """A process that is started again when it ends; `planned` counts the ends that the story caused."""

    def __init__(self, name, launch):
        self.name, self.launch = name, launch
        self.process = launch()
        self.planned = 0
        self.ends = []  # exit codes

    def kill(self):
        """Kill it, as the kernel does."""
        self.planned += 1
        self.process.kill()

    def stop(self, launch):
        """End it as a deployment does, and run another command in its place."""
        self.planned += 1
        self.launch = launch
        self.process.stop()

    def tick(self):
        """Start it again if it has ended."""
        if not self.process.alive:
            self.ends.append(self.process.popen.returncode)
            self.process = self.launch()


class Story(System):
    """Processes, uploads and faults of one test; `random` is seeded, and the seed is printed."""

    def __init__(self, folder, database_url, broker_url, bucket, *, seed, scores, oracle_url=None, **settings):
        """`oracle_url`: of the same database, for the story's own questions where the processes' link is faulty."""
        super().__init__(folder, database_url, broker_url, bucket, **settings)
        if oracle_url is not None:
            self.engine = make_engine(oracle_url, pool_size=2)
        self.random = random.Random(seed)
        self.scores = scores  # by level, of `dpiqa score`
        self.kept = {}
        self.keys = []
        self.longest_pause = 0.0  #: seconds between two results, once the oracle was asked
        self._uploads = []
        self._stopped = threading.Event()

    def keep(self, *names, fault=None, **env):
        """Start processes and keep them running: `listener`, `api`, `student`, `teacher`, or `student-2` and so on.

        `fault`: what a worker's device does, see `support.faulty_worker`; once, where that must be.
        """
        for name in names:
            self.kept[name] = Kept(name, self._launch(name, fault, env))

    def replace(self, name, **env):
        """End a process by SIGTERM, and run the one of this release in its place."""
        self.kept[name].stop(self._launch(name, None, env))

    def _launch(self, name, fault, env):
        stage = name.split("-")[0]
        if stage == "listener":
            argv, extra = listen_command(self.settings)
        elif stage == "api":
            argv, extra = api_command(self.settings.model_copy(update={"api_port": free_port()}))
        else:
            argv, extra = worker_command(self.settings, stage, name=name)
        if fault is not None:
            at = argv.index("dpiqa.workers")
            argv[at : at + 1] = ["support.faulty_worker", fault, str(self.folder / f"{name}.{fault}"), "--"]
            env = env | {"PYTHONPATH": str(Path(__file__).parents[1])}
        extra = extra | env
        return lambda: self.start(name, argv, extra)

    def upload(self, n, seconds=0.0):
        """Upload `n` more objects, spread over this time by another thread."""
        keys = [f"{number:05}.png" for number in range(len(self.keys), len(self.keys) + n)]
        self.keys += keys

        def run():
            for key in keys:
                if self._stopped.is_set():
                    return
                for attempt in range(100):  # an outage of S3 is part of some stories
                    try:
                        self.bucket.put(key, body_of(key))
                        break
                    except Exception:
                        if attempt == 99:
                            raise
                        time.sleep(0.2)
                time.sleep(seconds / n)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._uploads.append(thread)

    def kill(self):
        """End the uploads, and kill all processes."""
        self._stopped.set()
        for thread in self._uploads:
            thread.join(10)
        super().kill()

    def wait(self, true, what, seconds=150.0):
        """Wait as `System.wait` does, and start processes again that have ended."""

        def ticked():
            for kept in self.kept.values():
                kept.tick()
            return true()

        super().wait(ticked, what, seconds)

    def pause(self, least, most):
        """Let everything run for a random time in seconds."""
        until = time.monotonic() + self.random.uniform(least, most)
        self.wait(lambda: time.monotonic() > until, "end of a pause")

    def finish(self, *, unscored=None, ends=None, seconds=150.0):
        """Wait until every object ended, then ask the oracle.

        `unscored`: reasons by key; `ends`: exit codes by name of a process, that the fault causes.
        """
        for thread in self._uploads:
            self.wait(lambda thread=thread: not thread.is_alive(), "uploads", seconds)
        unscored = unscored or {}
        self.wait(lambda: self._is_finished(unscored), f"end of all {len(self.keys)} objects", seconds)
        self.assert_holds(unscored, ends or {})

    def _is_finished(self, unscored):
        scored = {key: etag_of(key) for key in self.keys if key not in unscored}
        try:
            results = dict(map(tuple, self.rows("SELECT key, etag FROM results WHERE current AND status = 'final'")))
            is_open = self.value("SELECT count(*) FROM items WHERE state IN ('queued', 'leased')")
            ended = self.value("SELECT count(DISTINCT key) FROM items JOIN images ON images.id = image_id")
        except Exception:  # Postgres may be the one that has just been killed
            self.engine.dispose()
            return False
        return not is_open and ended == len(self.keys) and scored.items() <= results.items()

    def assert_holds(self, unscored, ends):
        """The oracle: what must be true after every fault."""
        question = "SELECT key, score, etag, status FROM results WHERE current ORDER BY key, score"
        results = [tuple(row) for row in self.rows(question)]
        scored = [key for key in self.keys if key not in unscored]
        assert [row[0] for row in results] == scored, "one current result per object"
        assert [(row[2], row[3]) for row in results] == [(etag_of(key), "final") for key in scored]
        wrong = [row for row in results if abs(row[1] - self.scores[level_of(row[0])]) > 1e-6]
        assert wrong == [], "scores of `dpiqa score`"

        question = (
            "SELECT key, items.reason FROM items JOIN images ON images.id = image_id WHERE items.state <> 'scored'"
        )
        assert dict(map(tuple, self.rows(question))) == unscored
        leases = "SELECT count(*) FROM items WHERE lease_until IS NOT NULL"
        assert self.value(leases) == 0, "no lease is left"
        question = """SELECT stage, state, sum(n) FROM (SELECT job_id, stage, state, n FROM job_counts
            UNION ALL SELECT job_id, stage, state, n FROM count_changes) AS counts GROUP BY 1, 2 HAVING sum(n) <> 0"""
        truth = "SELECT stage, state, count(*) FROM items GROUP BY 1, 2"
        assert sorted(map(tuple, self.rows(question))) == sorted(map(tuple, self.rows(truth))), "states add up"

        logs = "\n".join(path.read_text(errors="replace") for path in self.folder.glob("*.log"))
        urls = (self.settings.require_database_url(), self.settings.broker_url.get_secret_value())
        for password in filter(None, (make_url(url).password for url in urls)):
            assert password not in logs, "no secret in any log"
        for name, kept in self.kept.items():
            codes = ends.get(name, [])
            assert len(kept.ends) == kept.planned + len(codes), f"restarts of {name}: {kept.ends}\n{self.logs()}"
            assert sorted(code for code in kept.ends if code > 0) == sorted(codes)
        question = """SELECT max(gap) FROM (SELECT extract(epoch FROM finished_at - lag(finished_at)
            OVER (ORDER BY finished_at)) AS gap FROM items) AS gaps"""
        self.longest_pause = float(self.value(question) or 0)
