"""The broker's memory, the latency of live events beside a large job, and the shares of jobs by priority.

python benchmarks/window.py --large 1000000 --seconds 30 --json figures.json      # the long form

Embedded Postgres and Valkey, and one real worker process of Celery. Its model is simulated: it takes 1 / rate seconds
an image, in batches of 16 that the worker's own queue of the device makes, and nothing is fetched. Jobs are written to
the ledger by SQL.

- `small`, `large`: while a job of this many items is worked on, the largest memory of the broker, and what of it is
  above that of the idle worker; the items that ended in the first 5 seconds, in which the window grows, and the rate
  after that; the seconds from the record of an event to its result, one event a second; and the feeder's looks at this
  ledger, in milliseconds and in milliseconds of Postgres's processor time.
- `shares`: items that two jobs of priority 0 and 2 ended in the same time; 2 means four times the share.

`--rate 0`: the model takes no time, so that the ledger alone bounds the rate.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import redis
from machine import describe, end_on_sigterm
from sqlalchemy import Engine, text

from dpiqa import routing
from dpiqa.doorbell import Queue, load_doorbell
from dpiqa.errors import Conflict
from dpiqa.events import Parsed
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.local.postgres import Postgres
from dpiqa.local.valkey import Valkey
from dpiqa.models.base import ModelCard
from dpiqa.pipeline.device import Device
from dpiqa.pipeline.feeder import Feeder
from dpiqa.pipeline.ingest import ingest
from dpiqa.pipeline.scorers import LoadedScorer
from dpiqa.pipeline.slots import CHUNKS_AT_ONCE, SPARE_THREADS, Slots
from dpiqa.profiles import Profile
from dpiqa.settings import Settings, load_settings
from dpiqa.storage import schema, steering
from dpiqa.storage.claims import claim
from dpiqa.storage.engine import make_engine, transaction
from dpiqa.storage.feed import feed
from dpiqa.storage.items import Scored
from dpiqa.storage.job_queries import get_job
from dpiqa.storage.jobs import create_job, ensure_watch
from dpiqa.storage.results import record
from dpiqa.types import ImageRef, JobKind, ModelKind, Stage

PROFILE = Profile(name="benchmark", version=1, student="student")
CARD = ModelCard(
    name="student",
    kind=ModelKind.PIXELS,
    sha256="a" * 64,
    preprocessing=Preprocessing(width=8, height=8),
    licence="none",
)
BUCKET, RATE = "archive", "DPIQA_BENCHMARK_RATE"
BATCH, PIXELS = 16, np.zeros((8, 8, 3), np.uint8)
ADD_IMAGES = """
    INSERT INTO images (bucket, key, etag, size, current)
    SELECT :bucket, :prefix || lpad(n::text, 9, '0') || '.jpg', md5(n::text), 300000, true FROM generate_series(1, :n) n
"""
ADD_ITEMS = """
    INSERT INTO items (job_id, image_id, stage, state, queue) SELECT :job, id, 'student', 'queued', 'bulk' FROM images
    WHERE bucket = :bucket AND starts_with(key, :prefix) ORDER BY id
"""


class SimulatedModel:
    """A scorer that takes a set time for an image and holds no processor."""

    def __init__(self, rate: float) -> None:
        self.card, self._rate = CARD, rate

    def score(self, images: np.ndarray) -> np.ndarray:
        """Wait; (B, H, W, 3) -> (B,)."""
        if self._rate:
            time.sleep(len(images) / self._rate)
        return np.full(len(images), 0.5)


class SimulatedWorker:
    """The parts of a `Worker` that Celery's side uses."""

    def __init__(self, settings: Settings) -> None:
        assert settings.database_url
        self.stage, self.id = Stage.STUDENT, f"simulated:{os.getpid()}"
        self.engine = make_engine(settings.require_database_url(), application_name="dpiqa-student")
        self.doorbell, self._device = load_doorbell(settings), Device()
        self._scorer = LoadedScorer(SimulatedModel(float(os.environ[RATE])), BATCH)
        self.feeder, self.slots = Feeder(self.engine, self.doorbell, settings), Slots(CHUNKS_AT_ONCE[self.stage])

    def score(self, item_ids: list[int], queue: Queue) -> None:
        """Claim, wait as a device would, and record."""
        with self.slots.hold(queue):
            self._score(item_ids)

    def _score(self, item_ids: list[int]) -> None:
        with transaction(self.engine) as c:
            scorers = {PROFILE.id: CARD.scorer_id}
            claims = claim(c, item_ids, stage=self.stage, owner=self.id, lease_seconds=60, scorer_ids=scorers)
        if claims:
            scores = [self._device.submit(self._scorer, PIXELS, urgent=held.is_urgent) for held in claims]
            outcomes = [Scored(held, score.result(), held.ref.etag) for held, score in zip(claims, scores, strict=True)]
            with transaction(self.engine) as c:
                record(c, self.stage, PROFILE, CARD, outcomes, decide=routing.decide)
            self.feeder.wake()

    def stop(self) -> None:
        """Do nothing: what is claimed is finished."""

    def close(self) -> None:
        """End the feeder and the device."""
        self.feeder.close()
        self._device.close()


def run_worker() -> None:
    """Be the worker process."""
    from dpiqa.workers import app  # noqa: PLC0415 - reads the settings of this process

    app.start_worker = SimulatedWorker
    queues = f"{Queue.LIVE},{Queue.BULK},{Queue.MAINTENANCE}"
    argv = [
        "worker",
        "--pool",
        "threads",
        "--concurrency",
        str(CHUNKS_AT_ONCE[Stage.STUDENT] + SPARE_THREADS),
        "--queues",
        queues,
    ]
    app.app.worker_main([*argv, "--loglevel", "warning", "--without-gossip", "--without-mingle"])


class Memory:
    """The largest memory of the broker within a block."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.most = 0

    def used(self) -> int:
        """Return the bytes in use now."""
        return int(self._client.info("memory")["used_memory"])

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(0.1):
            self.most = max(self.most, self.used())


class Bench:
    """The servers and the worker of one run."""

    def __init__(self, folder: Path, rate: float) -> None:
        self.postgres = Postgres(folder / "postgres", folder / "postgres.log")
        self.valkey = Valkey(folder / "valkey", folder / "valkey.log")
        self.postgres.start()
        self.valkey.start()
        schema.upgrade(self.postgres.url())
        self.engine: Engine = make_engine(self.postgres.url(), pool_size=4)
        self.settings = load_settings(database_url=self.postgres.url(), broker_url=self.valkey.url)
        env = {"DPIQA_DATABASE_URL": self.postgres.url(), "DPIQA_BROKER_URL": self.valkey.url, RATE: str(rate)}
        self.worker = subprocess.Popen([sys.executable, __file__, "--worker"], env=os.environ | env)

    def close(self) -> None:
        """End all."""
        self.worker.terminate()
        self.worker.wait(60)
        self.engine.dispose()
        self.valkey.stop()
        self.postgres.stop()

    def submit(self, n: int, priority: int = 0) -> uuid.UUID:
        """Write a listed job of `n` images into the ledger."""
        with transaction(self.engine) as c:
            job = create_job(c, kind=JobKind.PREFIX, bucket=BUCKET, prefix="", profile=PROFILE, queue=Queue.BULK)
            steering.set_priority(c, job.id, priority)
            values = {"bucket": BUCKET, "prefix": f"{job.id}/", "n": n, "job": job.id}
            for statement in (ADD_IMAGES, ADD_ITEMS):
                c.execute(text(statement), values)
            c.execute(text("UPDATE jobs SET state = 'running', listed_at = clock_timestamp() WHERE id = :job"), values)
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as c:
            c.execute(text("VACUUM ANALYZE images, items"))
        return job.id

    def steer(self, change: Callable[..., Any], job: uuid.UUID) -> None:
        """Change a job."""
        with transaction(self.engine) as c:
            change(c, job)

    def done(self, job: uuid.UUID) -> int:
        """Return how many items of a job have ended."""
        with transaction(self.engine) as c:
            return get_job(c, job).done

    def wait_for_work(self, job: uuid.UUID) -> None:
        """Wait until the worker has begun."""
        before = self.done(job)
        while self.done(job) == before:
            time.sleep(0.2)

    def feed_ms(self, repeats: int = 40) -> tuple[list[float], float]:
        """Return the milliseconds of looks of the feeder, and their mean processor time in Postgres.

        What they announce is not rung, and taken back.
        """
        times = []
        with self.engine.connect() as c:
            server = psutil.Process(c.execute(text("SELECT pg_backend_pid()")).scalar_one())
            before = sum(server.cpu_times()[:2])
            for _ in range(repeats):
                began = time.perf_counter()
                feed(c, window=4096, rering_seconds=60, chunk=32, empty_queues=set())
                times.append(1000 * (time.perf_counter() - began))
                c.rollback()
                time.sleep(0.1)
            return sorted(times), 1000 * (sum(server.cpu_times()[:2]) - before) / repeats

    def live_seconds(self, folder: str, seconds: float) -> list[float]:
        """Record one event a second, of a new key in a folder; return the seconds until each has a result."""
        prefix = f"live/{folder}/"
        with transaction(self.engine) as c:
            ensure_watch(c, BUCKET, "live/", PROFILE)
        doorbell, recorded = load_doorbell(self.settings), {}
        for n in range(round(seconds)):
            began = time.time()
            ref = ImageRef(bucket=BUCKET, key=f"{prefix}{n:06}.jpg", etag=f"{n:032x}", size=1)
            ingest(self.engine, doorbell, [Parsed(images=[ref])], self.settings, PROFILE)
            recorded[ref.key] = began
            time.sleep(max(0.0, 1 - (time.time() - began)))
        query = text("SELECT key, extract(epoch FROM updated_at) AS at FROM results WHERE starts_with(key, :prefix)")
        deadline = time.time() + 60
        while time.time() < deadline:
            with transaction(self.engine) as c:
                ended = {row.key: float(row.at) for row in c.execute(query, {"prefix": prefix})}
            if len(ended) == len(recorded):
                break
            time.sleep(0.5)
        return sorted(ended.get(key, float("inf")) - began for key, began in recorded.items())


def work(bench: Bench, n: int, seconds: float, idle: int) -> tuple[uuid.UUID, dict[str, Any]]:
    """Work on a job of `n` items for some seconds; return the job and the figures."""
    with Memory(bench.valkey.url) as memory:
        job = bench.submit(n)
        bench.wait_for_work(job)
        time.sleep(5)
        began, before = time.perf_counter(), bench.done(job)
        live = bench.live_seconds(str(n), seconds)
        rate = (bench.done(job) - before) / (time.perf_counter() - began)
    times, cpu = bench.feed_ms()
    return job, {
        "items": n,
        "broker_peak_mb": memory.most / 1e6,
        "broker_above_idle_mb": (memory.most - idle) / 1e6,
        "items_in_first_5_s": before,
        "items_per_second": rate,
        "live_median_s": statistics.median(live),
        "live_p95_s": live[int(0.95 * len(live))],
        "live_max_s": live[-1],
        "feed_median_ms": statistics.median(times),
        "feed_max_ms": times[-1],
        "feed_cpu_ms": cpu,
    }


def shares(bench: Bench, seconds: float) -> dict[str, float]:
    """Work on two jobs of different priority at the same time; return what ended of each."""
    low, high = bench.submit(100_000), bench.submit(100_000, priority=2)
    bench.wait_for_work(high)
    time.sleep(12)  # what was announced before the second job came
    before = bench.done(low), bench.done(high)
    time.sleep(seconds)
    n_low, n_high = bench.done(low) - before[0], bench.done(high) - before[1]
    return {"priority_0": n_low, "priority_2": n_high, "ratio": n_high / max(n_low, 1)}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run all parts."""
    with tempfile.TemporaryDirectory(prefix="dpiqa-benchmark-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o711)  # as root, Postgres runs as `nobody`
        bench = Bench(Path(folder), options.rate)
        try:
            first = bench.submit(100)
            bench.wait_for_work(first)
            idle = Memory(bench.valkey.url).used()
            figures: dict[str, Any] = {}
            for name, n in (("small", options.small), ("large", options.large)):
                job, figures[name] = work(bench, n, options.seconds, idle)
                with suppress(Conflict):  # a small job may be complete
                    bench.steer(steering.pause_job, job)
            figures["shares"] = shares(bench, options.seconds)
        finally:
            bench.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=10_000, help="items of the small job")
    parser.add_argument("--large", type=int, default=100_000, help="items of the large job")
    parser.add_argument("--rate", type=float, default=200.0, help="images per second of the simulated model; 0: any")
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds of each part")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        run_worker()
        return
    end_on_sigterm()
    figures = {"machine": describe(), "rate": options.rate} | measure(options)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
