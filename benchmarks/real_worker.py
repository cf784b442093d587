"""A real worker with its servers, for benchmarks: embedded Postgres and Valkey, `static_s3.py`, one worker process.

As a program it is that worker, with a simulated device: `python real_worker.py SECONDS -- WORKER_ARGUMENTS`. The
device takes so many seconds per batch and holds no processor; its images are 512 x 512.
"""

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import psutil
from sqlalchemy import make_url, text

from dpiqa.doorbell import Queue, load_doorbell
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.local.commands import worker_command
from dpiqa.local.postgres import Postgres
from dpiqa.local.process import Process
from dpiqa.local.valkey import Valkey
from dpiqa.models.brightness import BRIGHTNESS, BUILT_IN, BrightnessScorer
from dpiqa.profiles import Profile, load_profile
from dpiqa.settings import load_settings
from dpiqa.storage import schema
from dpiqa.storage.engine import make_engine, transaction
from dpiqa.storage.jobs import create_job
from dpiqa.types import JobKind

SIMULATED = Profile(name="simulated", version=1, student="brightness")


class Proxy(Protocol):
    """A TCP proxy."""

    port: int


class Bench:
    """The servers and the worker of a run; a context manager. Settings are those of the worker."""

    def __init__(
        self,
        s3_url: str,
        *,
        batch_seconds: float | None,
        model: str = "smoke",
        between: Callable[[int], Proxy] | None = None,
        **settings: Any,
    ) -> None:
        """`between`: makes a proxy between the worker and the TCP port of Postgres."""
        self._folder = tempfile.TemporaryDirectory(prefix="dpiqa-benchmark-", dir="/var/tmp")
        folder = Path(self._folder.name)
        folder.chmod(0o711)  # as root, Postgres runs as `nobody`
        self.postgres = Postgres(folder / "postgres", folder / "postgres.log")
        self.valkey = Valkey(folder / "valkey", folder / "valkey.log")
        self.postgres.start()
        self.valkey.start()
        schema.upgrade(self.postgres.url())
        self.engine = make_engine(self.postgres.url(), pool_size=4)
        self.profile = SIMULATED if batch_seconds is not None else load_profile(model)
        url = make_url(self.postgres.url())
        self.proxy = between(url.port or 0) if between else None
        seen = url.set(port=self.proxy.port) if self.proxy else url
        own: dict[str, Any] = {
            "database_url": seen.render_as_string(hide_password=False),
            "broker_url": self.valkey.url,
            "s3_endpoint_url": s3_url,
            "aws_access_key_id": "x",
            "aws_secret_access_key": "x",
            "profile": model,
        }
        self.settings = load_settings(**own | settings)
        self.doorbell = load_doorbell(self.settings)
        self.log = folder / "worker.log"
        self._batch_seconds = batch_seconds
        self.worker = self.start_worker()

    def start_worker(self) -> psutil.Process:
        """Start a worker and wait until it is ready."""
        argv, env = worker_command(self.settings, "student")
        if self._batch_seconds is not None:
            argv = [sys.executable, __file__, str(self._batch_seconds), "--", *argv[argv.index("dpiqa.workers") + 1 :]]
        with self.log.open("w") as log:
            process = subprocess.Popen(argv, env=os.environ | env, stdout=log, stderr=log)
        for _ in range(1200):
            if "worker_ready" in self.log.read_text():
                return psutil.Process(process.pid)
            if process.poll() is not None:
                break
            time.sleep(0.1)
        raise SystemExit(f"the worker did not start:\n{self.log.read_text()[-2000:]}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.worker.terminate()
        self.worker.wait(60)
        self.engine.dispose()
        self.valkey.stop()
        self.postgres.stop()
        self._folder.cleanup()

    def submit(self, n: int) -> uuid.UUID:
        """Submit a job of so many objects, which are named by its prefix."""
        with transaction(self.engine) as c:
            prefix = f"{uuid.uuid4().hex[:8]}-{n}/"
            job = create_job(
                c, kind=JobKind.PREFIX, bucket="bench", prefix=prefix, profile=self.profile, queue=Queue.BULK
            )
        self.doorbell.expand(str(job.id))
        return job.id

    def n_ended(self, job: uuid.UUID) -> int:
        """Return the number of results of a job."""
        with transaction(self.engine) as c:
            return int(c.execute(text("SELECT count(*) FROM results WHERE job_id = :job"), {"job": job}).scalar_one())

    def wait(self, job: uuid.UUID, n: int, seconds: float = 240) -> Iterator[int]:
        """Yield the number of results, twice a second, until there are all."""
        deadline = time.monotonic() + seconds
        while (ended := self.n_ended(job)) < n:
            if time.monotonic() > deadline:
                raise SystemExit(f"{ended} of {n} images after {seconds:.0f} s:\n{self.log.read_text()[-2000:]}")
            yield ended
            time.sleep(0.5)

    def result_times(self, job: uuid.UUID) -> list[float]:
        """Return when the results of a job were written, in order."""
        query = text("SELECT extract(epoch FROM updated_at) AS at FROM results WHERE job_id = :job ORDER BY 1")
        with transaction(self.engine) as c:
            return [float(at) for at in c.execute(query, {"job": job}).scalars()]

    def metric(self, name: str) -> float:
        """Return the sum of a metric of the worker over its labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.settings.metrics_port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    def cpu_seconds(self, s3: psutil.Process | None = None) -> dict[str, float]:
        """Return the processor time of each part of the system since its start."""
        parts = {
            "worker": [self.worker],
            "decoders": self.worker.children(recursive=True),
            "postgres": _with_children(self.postgres.process),
            "valkey": _with_children(self.valkey.process),
            "s3": [s3] if s3 else [],
        }
        return {name: sum(map(_cpu, processes)) for name, processes in parts.items()}

    def rss(self) -> int:
        """Return the bytes of memory of the worker and its decode processes."""
        return sum(process.memory_info().rss for process in [self.worker, *self.worker.children(recursive=True)])


def _with_children(server: Process | None) -> list[psutil.Process]:
    if server is None:
        return []
    process = psutil.Process(server.pid)
    return [process, *process.children(recursive=True)]


def _cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    # of children that have ended too: Postgres starts one for each connection
    return float(times.user + times.system + times.children_user + times.children_system)


@contextmanager
def simulated(batch_seconds: float) -> Iterator[None]:
    """Let the model `brightness` be a device that takes so long per batch, while no processor works."""
    card = BRIGHTNESS.model_copy(update={"preprocessing": Preprocessing(width=512, height=512)})

    def score(_: BrightnessScorer, pixels: np.ndarray) -> np.ndarray:
        time.sleep(batch_seconds)
        return pixels[:, 0, 0, 0] / 255

    before = BrightnessScorer.score
    BUILT_IN[card.name], BrightnessScorer.score = card, score  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        BUILT_IN[card.name], BrightnessScorer.score = BRIGHTNESS, before  # type: ignore[method-assign]


if __name__ == "__main__":
    from dpiqa.workers.__main__ import main

    with simulated(float(sys.argv[1])):
        del sys.argv[1:3]
        sys.exit(main())
