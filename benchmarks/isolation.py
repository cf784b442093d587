"""Cost of a slow, forbidden or failing bucket to another one, and to live events, in the same worker.

python benchmarks/isolation.py --items 1000 --repeats 3 --json figures.json

Embedded Postgres and Valkey, one real student worker with its defaults, and an S3 server of this script, whose buckets
behave by their names. Images are 256 x 256 JPEGs of 10 kB, the model is the brightness. Measured per kind of bucket:
the images per second of a job of the bucket `good` from its submission to its last result, alone and beside a job of
the other bucket, which was submitted 10 s before; and the seconds from an event of the bucket `good`, one a second, to
its result. Alone is measured before and after each kind, and the mean of both counts.

- `slow`: bodies and listings come at 1 kB/s
- `forbidden`: listed, and 403 for each object
- `storm`: listed, and 503 for each object
- `silent`: listed, and no answer for any object
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from machine import describe, end_on_sigterm
from PIL import Image
from sqlalchemy import text

from dpiqa.doorbell import Queue, load_doorbell
from dpiqa.events import Parsed
from dpiqa.local.commands import worker_command
from dpiqa.local.postgres import Postgres
from dpiqa.local.valkey import Valkey
from dpiqa.pipeline.ingest import ingest
from dpiqa.profiles import load_profile
from dpiqa.settings import load_settings
from dpiqa.storage import schema
from dpiqa.storage.engine import make_engine, transaction
from dpiqa.storage.jobs import create_job, ensure_watch
from dpiqa.storage.steering import cancel_job
from dpiqa.types import ImageRef, JobKind

KINDS = ("slow", "forbidden", "storm", "silent")
N_BAD = 20_000  #: objects of the other bucket
ETAG = "e" * 32


class Store(BaseHTTPRequestHandler):
    """The part of S3 that a worker uses. The number of objects below a prefix is in its name: `run7-1000/`."""

    protocol_version = "HTTP/1.1"
    bodies: tuple[bytes, ...] = ()

    def do_GET(self) -> None:
        """Answer ListObjectsV2 and GetObject."""
        url = urllib.parse.urlsplit(self.path)
        bucket, _, key = urllib.parse.unquote(url.path).lstrip("/").partition("/")
        query = dict(urllib.parse.parse_qsl(url.query))
        pace = 1000 if bucket == "slow" else None
        if "list-type" in query:
            self.answer(200, _listing(query.get("prefix", ""), query.get("start-after", "")), pace)
        elif bucket == "forbidden":
            self.answer(403, b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>")
        elif bucket == "silent":
            time.sleep(3600)
        elif bucket == "storm":
            self.answer(503, b"<Error><Code>SlowDown</Code><Message>slow down</Message></Error>")
        else:
            self.answer(200, self.bodies[hash(key) % len(self.bodies)], pace)

    def answer(self, status: int, body: bytes, pace: int | None = None) -> None:
        """Send a response, `pace` bytes a second."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{ETAG}"')
        self.end_headers()
        if pace is None:
            self.wfile.write(body)
            return
        for start in range(0, len(body), pace):
            time.sleep(1)
            self.wfile.write(body[start : start + pace])

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def _listing(prefix: str, after: str) -> bytes:
    n = int(prefix.rstrip("/").rpartition("-")[2])
    keys = [key for key in (f"{prefix}{number:06}.jpg" for number in range(n)) if key > after]
    rows = "".join(
        f'<Contents><Key>{escape(key)}</Key><ETag>"{ETAG}"</ETag><Size>10000</Size>'
        "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
        for key in keys[:1000]
    )
    truncated = str(len(keys) > 1000).lower()
    return f"<ListBucketResult><IsTruncated>{truncated}</IsTruncated>{rows}</ListBucketResult>".encode()


def serve(port: int) -> None:
    """Be the S3 server."""
    rng = np.random.default_rng(0)
    bodies = []
    for _ in range(16):
        buffer = io.BytesIO()
        coarse = rng.integers(200, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((256, 256)).save(buffer, "JPEG", quality=92)
        bodies.append(buffer.getvalue())
    Store.bodies = tuple(bodies)
    server = ThreadingHTTPServer(("127.0.0.1", port), Store)
    server.daemon_threads = True
    server.serve_forever()


class Bench:
    """The servers and the worker of one run."""

    def __init__(self, folder: Path, port: int) -> None:
        self.postgres = Postgres(folder / "postgres", folder / "postgres.log")
        self.valkey = Valkey(folder / "valkey", folder / "valkey.log")
        self.postgres.start()
        self.valkey.start()
        schema.upgrade(self.postgres.url())
        self.engine = make_engine(self.postgres.url(), pool_size=4)
        self.settings = load_settings(
            database_url=self.postgres.url(),
            broker_url=self.valkey.url,
            s3_endpoint_url=f"http://127.0.0.1:{port}",
            aws_access_key_id="x",
            aws_secret_access_key="x",
            profile="smoke",
            reuse_bytes=False,
            auto_pause_share=1,
        )
        self.profile = load_profile("smoke")
        self.s3 = subprocess.Popen([sys.executable, __file__, "--serve", str(port)])
        argv, env = worker_command(self.settings, "student")
        self.log = (folder / "worker.log").open("w")
        self.worker = subprocess.Popen(argv, env=os.environ | env, stdout=self.log, stderr=self.log)
        self.doorbell = load_doorbell(self.settings)

    def close(self) -> None:
        """End all."""
        for process in (self.worker, self.s3):
            process.terminate()
            process.wait(60)
        self.engine.dispose()
        self.valkey.stop()
        self.postgres.stop()

    def submit(self, bucket: str, n: int) -> uuid.UUID:
        """Submit a job of so many objects."""
        prefix = f"{uuid.uuid4().hex[:8]}-{n}/"
        with transaction(self.engine) as c:
            job = create_job(
                c, kind=JobKind.PREFIX, bucket=bucket, prefix=prefix, profile=self.profile, queue=Queue.BULK
            )
        self.doorbell.expand(str(job.id))
        return job.id

    def rate(self, n: int) -> float:
        """Return the images per second of a job of the good bucket."""
        began = time.perf_counter()
        job = self.submit("good", n)
        query = text("SELECT count(*) FROM items WHERE job_id = :job AND (state = 'scored' OR stage = 'teacher')")
        while True:
            with transaction(self.engine) as c:
                if c.execute(query, {"job": job}).scalar_one() >= n:
                    return n / (time.perf_counter() - began)
            time.sleep(0.2)

    @contextmanager
    def beside(self, bucket: str) -> Iterator[None]:
        """Work on jobs of another bucket meanwhile: a small one, which is listed soon, and a large one."""
        jobs = [self.submit(bucket, 200), self.submit(bucket, N_BAD)]
        time.sleep(10)
        yield
        with transaction(self.engine) as c:
            for job in jobs:
                cancel_job(c, job)

    @contextmanager
    def live(self) -> Iterator[list[float]]:
        """Send an event a second; the seconds to each result are in the list at the end."""
        prefix, ended = f"live/{uuid.uuid4().hex[:8]}/", threading.Event()
        times: list[float] = []
        with transaction(self.engine) as c:
            ensure_watch(c, "good", "live/", self.profile)
        recorded: dict[str, float] = {}

        def send() -> None:
            while not ended.wait(1):
                ref = ImageRef(bucket="good", key=f"{prefix}{len(recorded):06}.jpg", etag=ETAG, size=10_000)
                recorded[ref.key] = time.time()
                ingest(self.engine, self.doorbell, [Parsed(images=[ref])], self.settings, self.profile)

        thread = threading.Thread(target=send)
        thread.start()
        yield times
        ended.set()
        thread.join()
        query = text("SELECT key, extract(epoch FROM updated_at) AS at FROM results WHERE starts_with(key, :prefix)")
        deadline = time.time() + 120
        found: dict[str, float] = {}
        while len(found) < len(recorded) and time.time() < deadline:
            time.sleep(0.5)
            with transaction(self.engine) as c:
                found = {row.key: float(row.at) for row in c.execute(query, {"prefix": prefix})}
        times += sorted(found.get(key, float("inf")) - began for key, began in recorded.items())


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure every kind `repeats` times."""
    figures: dict[str, Any] = {kind: {"share": [], "alone": [], "beside": [], "live": []} for kind in options.kinds}
    with tempfile.TemporaryDirectory(prefix="dpiqa-benchmark-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o711)  # as root, Postgres runs as `nobody`
        bench = Bench(Path(folder), options.port)
        try:
            bench.rate(200)
            before = bench.rate(options.items)
            for _ in range(options.repeats):
                for kind in options.kinds:
                    with bench.beside(kind), bench.live() as live:
                        rate = bench.rate(options.items)
                    time.sleep(5)
                    after = bench.rate(options.items)
                    alone, before = (before + after) / 2, after
                    of_kind = figures[kind]
                    of_kind["share"].append(rate / alone)
                    of_kind["alone"].append(alone)
                    of_kind["beside"].append(rate)
                    of_kind["live"] += live
                    print(
                        f"{kind}: {rate:.1f}/s beside, {alone:.1f}/s alone, live at most {live[-1]:.1f} s", flush=True
                    )
        finally:
            bench.close()
    for of_kind in figures.values():
        live = sorted(of_kind.pop("live"))
        of_kind |= {
            "share_median": statistics.median(of_kind["share"]),
            "live_events": len(live),
            "live_median_s": statistics.median(live),
            "live_p95_s": live[int(0.95 * len(live))],
            "live_max_s": live[-1],
        }
    return figures


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=600, help="images of each job of the good bucket")
    parser.add_argument("--repeats", type=int, default=1, help="jobs per kind")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="kinds of the other bucket")
    parser.add_argument("--port", type=int, default=18_999, help="TCP port of the S3 server")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    end_on_sigterm()
    figures = {"machine": describe()} | measure(options)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
