"""The speed of a submission: a lister adds objects to an embedded Postgres, as a worker does.

python benchmarks/submit.py --items 200000 --repeats 3 --json figures.json

Each round begins with an empty ledger: a listing (`listing`), the same objects for a second job (`again`), a CSV with
other ones (`manifest`), and others while events of the same bucket arrive (`beside events`), which wait for the bucket.
Processor time of this process and of all processes of Postgres. The server has its defaults: commits are on disk.
"""

import argparse
import json
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import psutil
from machine import describe
from sqlalchemy import Engine, text

from dpiqa.doorbell import Queue
from dpiqa.events import Parsed
from dpiqa.local.postgres import Postgres
from dpiqa.objects.store import ObjectStore
from dpiqa.pipeline.ingest import ingest
from dpiqa.pipeline.lister import Lister
from dpiqa.profiles import Profile
from dpiqa.settings import load_settings
from dpiqa.sources.spec import SourceSpec
from dpiqa.storage import schema
from dpiqa.storage.engine import make_engine, transaction
from dpiqa.storage.jobs import create_job
from dpiqa.types import ImageRef, JobKind

PROFILE = Profile(name="benchmark", version=1, student="student")
BUCKET = "archive"
PAGE = 1000  #: objects in a page of S3
EVENT_SECONDS = 0.1  #: between two events
T0 = datetime(2026, 1, 1, tzinfo=UTC)


class Listing:
    """A store that lists objects which do not exist."""

    def __init__(self, prefix: str, n: int) -> None:
        self._prefix, self._n = prefix, n

    def list(self, bucket: str, *_: object, **__: object) -> Iterator[list[ImageRef]]:
        """Yield pages of objects with distinct keys and ETags, in order."""
        for start in range(0, self._n, PAGE):
            yield [self.ref(bucket, n) for n in range(start, min(start + PAGE, self._n))]

    def ref(self, bucket: str, n: int) -> ImageRef:
        """Return one of the objects."""
        key = f"{self._prefix}2026/{n // 10_000:05}/photo-{n:09}.jpg"
        return ImageRef(
            bucket=bucket, key=key, etag=f"{n:032x}", size=300_000 + n, last_modified=T0 + timedelta(seconds=n)
        )


class Manifest(Listing):
    """A store with a manifest of such objects: CSV with bucket, key, ETag and size."""

    def __init__(self, prefix: str, n: int) -> None:
        super().__init__(prefix, n)
        self._file = tempfile.TemporaryFile(dir="/var/tmp")  # noqa: SIM115 - kept open
        self._file.write(b"bucket,key,etag,size\n")
        refs = (self.ref(BUCKET, number) for number in range(n))
        self._file.writelines(f"{ref.bucket},{ref.key},{ref.etag},{ref.size}\n".encode() for ref in refs)
        self._n_bytes = self._file.tell()

    def head(self, bucket: str, key: str, *_: object) -> ImageRef:
        """Look the manifest up."""
        return ImageRef(bucket=bucket, key=key, etag="m", size=self._n_bytes)

    def read_part(self, _ref: ImageRef, start: int, n_bytes: int) -> bytes:
        """Read a part of it."""
        self._file.seek(start)
        return self._file.read(n_bytes)


class Silent:
    """A doorbell that nobody hears."""

    def ring(self, *_args: object, **_more: object) -> None:
        """Do nothing."""

    def __getattr__(self, _name: str) -> Any:
        return self.ring


@contextmanager
def database(revision: str = "head") -> Iterator[tuple[Postgres, Engine]]:
    """Give an engine for an empty ledger."""
    with tempfile.TemporaryDirectory(prefix="dpiqa-benchmark-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o711)  # as root, Postgres runs as `nobody`
        server = Postgres(Path(folder) / "postgres", Path(folder) / "postgres.log")
        server.start()
        try:
            schema.upgrade(server.url(), revision)
            engine = make_engine(server.url(), pool_size=4)
            yield server, engine
            engine.dispose()
        finally:
            server.stop()


def server_seconds(server: Postgres) -> float:
    """Return the processor time of all processes of the server, ended ones included."""
    assert server.process is not None
    parent = psutil.Process(server.process.pid)
    total = float(sum(parent.cpu_times()[:4]))
    for child in parent.children(recursive=True):
        try:
            total += sum(child.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
    return float(total)


class Events:
    """Events of a bucket, one at a time, timed."""

    def __init__(self, engine: Engine, settings: Any) -> None:
        self._engine, self._settings = engine, settings
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self.seconds: list[float] = []

    def __enter__(self) -> "Events":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _send(self) -> None:
        source = Listing("event-", 0)
        n = 0
        while not self._ended.wait(EVENT_SECONDS):
            began = time.perf_counter()
            events = [Parsed(images=[source.ref(BUCKET, n)])]
            ingest(self._engine, cast("Any", Silent()), events, self._settings, PROFILE)
            self.seconds.append(time.perf_counter() - began)
            n += 1


def submit(server: Postgres, engine: Engine, settings: Any, source: Listing, n: int) -> dict[str, float]:
    """Submit and list one job; return its figures."""
    with transaction(engine) as c:
        is_manifest = isinstance(source, Manifest)
        job = create_job(
            c,
            kind=JobKind.MANIFEST if is_manifest else JobKind.PREFIX,
            bucket=BUCKET,
            prefix="",
            profile=PROFILE,
            queue=Queue.BULK,
            source=SourceSpec(address=f"s3://{BUCKET}/manifest.csv" if is_manifest else None),
        )
    store, doorbell = cast("ObjectStore", source), cast("Any", Silent())
    lister = Lister(engine, store, doorbell, settings, threading.Event())
    wall, cpu, backend = time.perf_counter(), time.process_time(), server_seconds(server)
    lister.list_job(str(job.id))
    seconds = time.perf_counter() - wall
    figures = {
        "items_per_second": n / seconds,
        "lister_ms": 1000 * (time.process_time() - cpu) / n,
        "postgres_ms": 1000 * (server_seconds(server) - backend) / n,
    }
    with transaction(engine) as c:
        stored = c.execute(text("SELECT count(*) FROM items WHERE job_id = :job"), {"job": job.id}).scalar_one()
    if stored != n:
        raise SystemExit(f"{n} objects made {stored} items")
    return figures


def measure(n: int, *, only_manifest: bool) -> dict[str, dict[str, float]]:
    """Run one round with an empty ledger."""
    settings = load_settings()
    with database() as (server, engine):
        if only_manifest:
            return {"manifest": submit(server, engine, settings, Manifest("named-", n), n)}
        ledger = {"listing": submit(server, engine, settings, Listing("", n), n)}
        ledger["again"] = submit(server, engine, settings, Listing("", n), n)
        ledger["manifest"] = submit(server, engine, settings, Manifest("named-", n), n)
        with Events(engine, settings) as events:
            ledger["beside events"] = submit(server, engine, settings, Listing("other-", n), n)
        waits = sorted(events.seconds)
        ledger["beside events"] |= {
            "events": len(waits),
            "event_median_ms": 1000 * statistics.median(waits),
            "event_p95_ms": 1000 * waits[int(0.95 * len(waits))],
            "event_max_ms": 1000 * waits[-1],
        }
    return ledger


def summary(rounds: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, list[float]]]:
    """Return median, lowest and highest of the rounds, by part and figure."""
    return {
        part: {
            name: [statistics.median(values := [turn[part][name] for turn in rounds]), min(values), max(values)]
            for name in figures
        }
        for part, figures in rounds[0].items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=200_000, help="objects of each submission")
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    parser.add_argument("--only-manifest", action="store_true", help="leave out the other parts")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rounds = [measure(options.items, only_manifest=options.only_manifest) for _ in range(options.repeats)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {
        "machine": describe(),
        "items": options.items,
        "repeats": options.repeats,
        "rss_mb": {"before": before, "peak": peak},
        "median_lowest_highest": summary(rounds),
    }
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    print(figures["machine"])
    print(f"{options.items} objects, median (lowest to highest) of {options.repeats} rounds")
    for part, values in figures["median_lowest_highest"].items():
        print(part)
        for name, (median, lowest, highest) in values.items():
            print(f"  {name:18}{median:12.4g} ({lowest:.4g} to {highest:.4g})")
    print(f"memory of this process: {before:.0f} MB before, {peak:.0f} MB at most")


if __name__ == "__main__":
    main()
