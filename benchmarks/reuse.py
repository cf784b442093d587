"""The cost of scores that are known, and of several profiles at once: a worker on an embedded Postgres.

python benchmarks/reuse.py --images 600 --repeats 3 --json figures.json

Each round begins with an empty ledger and JPEG files of random pixels in memory. It scores them (`first`), again for a
second job of another profile with the same model (`known`), as copies under other keys (`same bytes`), and under two
profiles of different models in one job (`two at once`) and in two jobs (`two jobs`). Fetches are instant, and the model
is `brightness`: what is compared is the work around it. Processor time of this process, its decode processes, and
Postgres. SHA-256 is measured alone, too.
"""

import argparse
import hashlib
import io
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil
from machine import describe, end_on_sigterm
from PIL import Image
from sqlalchemy import Engine
from submit import Silent, database, server_seconds

from dpiqa.doorbell import Doorbell, Queue
from dpiqa.imaging.decode import Limits
from dpiqa.imaging.pool import DecodePool
from dpiqa.local.postgres import Postgres
from dpiqa.models.brightness import BRIGHTNESS, BrightnessScorer
from dpiqa.models.choice import ModelChoice
from dpiqa.objects.store import Fetched, ObjectStore
from dpiqa.pipeline.scorer_cache import LoadedScorers
from dpiqa.pipeline.worker import Worker
from dpiqa.profiles import Profile
from dpiqa.settings import load_settings
from dpiqa.storage.engine import transaction
from dpiqa.storage.images import add_images
from dpiqa.storage.jobs import create_job
from dpiqa.types import ImageRef, JobKind, Stage

BUCKET = "photos"
SIDE = 512  #: pixels of the square images
CHUNK = 32


class Named(BrightnessScorer):
    """The model `brightness` under another name: another scorer of the same preprocessing."""

    def __init__(self, name: str) -> None:
        self.card = BRIGHTNESS.model_copy(update={"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest()})


class Memory:
    """A store of objects in memory."""

    def __init__(self, images: Mapping[str, bytes]) -> None:
        self.images = images

    def get(self, ref: ImageRef, _max_bytes: int) -> Fetched:
        """See `ObjectStore.get`; the part after the last `/` names the bytes."""
        data = self.images[ref.key.rpartition("/")[2]]
        return Fetched(data=data, etag=ref.etag, version_id=None, last_modified=None)


def make_images(n: int) -> dict[str, bytes]:
    """Return JPEG files of smooth random pixels, some 30 kB each."""
    random = np.random.default_rng(7)
    files = {}
    for number in range(n):
        coarse = Image.fromarray(random.integers(0, 256, (64, 64, 3), dtype=np.uint8))
        file = io.BytesIO()
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
        files[f"{number:06}.jpg"] = file.getvalue()
    return files


class Bench:
    """A ledger and a worker, whose processor time is counted."""

    def __init__(self, server: Postgres, engine: Engine, images: Mapping[str, bytes]) -> None:
        self._server, self._engine, self._keys = server, engine, list(images)
        settings = load_settings(profile="smoke", decode_processes=2, fetch_threads=8, batch_size=16)
        silent = cast("Doorbell", Silent())
        self.worker = Worker(
            settings,
            Stage.STUDENT,
            engine=engine,
            store=cast("ObjectStore", Memory(images)),
            doorbell=silent,
            decoder=DecodePool(settings.decode_processes, Limits.from_settings(settings)),
            scorers=LoadedScorers(settings, Stage.STUDENT, engine, load=self._load),
        )

    @staticmethod
    def _load(choice: ModelChoice) -> Named:
        return Named(choice.model)

    def submit(self, profiles: Sequence[Profile], prefix: str = "") -> list[int]:
        """Create a job and return its waiting items."""
        refs = [ImageRef(bucket=BUCKET, key=prefix + key, etag=f"{prefix}{key}") for key in self._keys]
        with transaction(self._engine) as c:
            job = create_job(
                c, kind=JobKind.LIST, bucket=BUCKET, prefix="", profile=profiles, queue=Queue.BULK, keys=["k"]
            )
            return add_images(c, job, refs)

    def measure(self, *batches: list[int]) -> dict[str, float]:
        """Work on items, chunk by chunk; return processor milliseconds per image and images per second."""
        before, started = self._seconds(), time.perf_counter()
        for ids in batches:
            for start in range(0, len(ids), CHUNK):
                self.worker.score(ids[start : start + CHUNK])
        elapsed, used = time.perf_counter() - started, self._seconds() - before
        n = len(self._keys)
        return {"cpu_ms": 1000 * used / n, "images_per_second": n / elapsed}

    def _seconds(self) -> float:
        own = psutil.Process(os.getpid())
        children = sum(sum(child.cpu_times()[:2]) for child in own.children() if "postgres" not in child.name())
        return float(sum(own.cpu_times()[:2]) + children + server_seconds(self._server))


def one_round(images: Mapping[str, bytes]) -> dict[str, dict[str, float]]:
    """Return the figures of each step, from an empty ledger."""
    first, other, third = (Profile(name=name, version=1, student=model) for name, model in PROFILES)
    with database() as (server, engine):
        bench = Bench(server, engine, images)
        warm_up = Profile(name="warm-up", version=1, student="warm-up")
        bench.measure(bench.submit([warm_up], "warm-up/")[: 2 * CHUNK])
        figures = {
            "first": bench.measure(bench.submit([first])),
            "known": bench.measure(bench.submit([other])),
            "same bytes": bench.measure(bench.submit([first], "copies/")),
        }
        bench.worker.close()
    for name, steps in (("two at once", [[first, third]]), ("two jobs", [[first], [third]])):
        with database() as (server, engine):
            bench = Bench(server, engine, images)
            bench.measure(bench.submit([warm_up], "warm-up/")[: 2 * CHUNK])
            figures[name] = bench.measure(*(bench.submit(profiles) for profiles in steps))
            bench.worker.close()
    return figures


PROFILES = (("first", "a"), ("other", "a"), ("third", "b"))


def hash_milliseconds(n_bytes: int) -> float:
    """Return the processor time of one SHA-256 of bytes in memory."""
    data = os.urandom(n_bytes)
    repeats = max(20, 20_000_000 // n_bytes)
    started = time.process_time()
    for _ in range(repeats):
        hashlib.sha256(data).digest()
    return 1000 * (time.process_time() - started) / repeats


def rows_of(rounds: Sequence[Mapping[str, Mapping[str, float]]]) -> Iterator[tuple[str, list[float], list[float]]]:
    """Yield each step with its figures of all rounds."""
    for step in rounds[0]:
        cpu = [figures[step]["cpu_ms"] for figures in rounds]
        yield step, cpu, [figures[step]["images_per_second"] for figures in rounds]


def main() -> None:
    """Print the figures as a table, or write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    end_on_sigterm()
    images = make_images(options.images)
    rounds = [one_round(images) for _ in range(options.repeats)]
    hashes = {n_bytes: hash_milliseconds(n_bytes) for n_bytes in (30_000, 1_500_000)}
    write: Callable[[str], Any] = print
    n_bytes = statistics.mean(map(len, images.values()))
    write(f"{describe()}; {options.images} images of {n_bytes / 1000:.0f} kB, {options.repeats} rounds\n")
    write("| step | CPU-ms per image, median (range) | images/s, median |\n|---|---|---|")
    for step, cpu, rates in rows_of(rounds):
        spread = f"{statistics.median(cpu):.2f} ({min(cpu):.2f} to {max(cpu):.2f})"
        write(f"| {step} | {spread} | {statistics.median(rates):.0f} |")
    for n, milliseconds in hashes.items():
        write(f"| SHA-256 of {n} bytes | {milliseconds:.3f} | |")
    if options.json:
        options.json.write_text(json.dumps({"machine": describe(), "rounds": rounds, "hash_ms": hashes}, indent=2))


if __name__ == "__main__":
    main()
