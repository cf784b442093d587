"""The running system for acceptance tests: real worker and listener processes on the embedded servers."""

import os
import signal
import time
from pathlib import Path

import httpx
from sqlalchemy import text

from dpiqa.doorbell import Queue, load_doorbell
from dpiqa.local.commands import api_command, listen_command, worker_command
from dpiqa.local.process import Command, Process, free_port, spawn
from dpiqa.profiles import load_profile
from dpiqa.settings import load_settings
from dpiqa.storage.engine import make_engine, transaction
from dpiqa.storage.job_queries import get_job
from dpiqa.storage.jobs import create_job
from dpiqa.types import JobKind

QUICK = {
    "profile": "smoke",
    "lease_seconds": 5,
    "sweep_seconds": 1,
    "rering_seconds": 3,
    "max_crashes": 20,  # a starved machine loses leases of healthy workers
    "decode_processes": 1,
    "fetch_threads": 4,
    "chunk_items": 8,
}


class System:
    """Processes of one test, and queries of its database."""

    def __init__(self, folder: Path, database_url: str, broker_url: str, bucket, /, **settings):
        self.folder, self.bucket = folder, bucket
        values = {"database_url": database_url, "broker_url": broker_url, **bucket.settings, **QUICK, **settings}
        self.settings = load_settings(**values)
        self.engine = make_engine(database_url, pool_size=2)
        self.processes: list[Process] = []

    def worker(self, stage, name=None, **env):
        """Start a worker."""
        argv, extra = worker_command(self.settings, stage, name=name)
        return self.start(name or stage, argv, extra | env)

    def listener(self):
        """Start a listener."""
        argv, extra = listen_command(self.settings)
        return self.start("listener", argv, extra)

    def api(self, **env):
        """Start the HTTP API on a free port; return the process and its URL, once it answers."""
        port = free_port()
        argv, extra = api_command(self.settings)
        process = self.start("api", argv, extra | {"DPIQA_API_PORT": str(port)} | env)
        url = f"http://127.0.0.1:{port}"
        self.wait(lambda: _answers(f"{url}/healthz"), "API")
        return process, url

    def start(self, name, argv, env):
        """Start a command."""
        log = self.folder / f"{name}-{len(self.processes)}.log"
        nice = ["nice", "-n", str(max(0, 10 - os.nice(0)))]
        command = Command(name=name, argv=[*nice, *argv], log=log, env=os.environ | env, cwd=self.folder)
        self.processes.append(spawn(command))
        return self.processes[-1]

    def submit(self, prefix=""):
        """Submit a job of everything under a prefix of the bucket; return it."""
        with transaction(self.engine) as c:
            job = create_job(
                c,
                kind=JobKind.PREFIX,
                bucket=self.bucket.name,
                prefix=prefix,
                profile=load_profile(self.settings.profile),
                queue=Queue.BULK,
            )
        load_doorbell(self.settings).expand(str(job.id))
        return job

    def report(self, job):
        """Return the report of a job."""
        with transaction(self.engine) as c:
            return get_job(c, job.id)

    def rows(self, query, **values):
        """Return the rows of a query."""
        with transaction(self.engine) as c:
            return c.execute(text(query), values).all()

    def value(self, query, **values):
        """Return the one value of a query."""
        return self.rows(query, **values)[0][0]

    def states(self):
        """Return how many items there are by state."""
        return dict(self.rows("SELECT state, count(*) FROM items GROUP BY state"))

    def ended(self):
        """Return how many items ended."""
        return self.value("SELECT count(*) FROM items WHERE state NOT IN ('queued', 'leased')")

    def ready(self, n=1):
        """Wait until `n` workers are ready."""
        self.wait(lambda: self.value("SELECT count(*) FROM workers") >= n, f"{n} ready workers")

    def wait(self, true, what, seconds=120.0):
        """Wait until `true()`; fail with the items' states and the logs."""
        deadline = time.monotonic() + seconds
        while not true():
            if time.monotonic() > deadline:
                raise AssertionError(f"no {what} within {seconds} s: {self.states()}\n{self.logs()}")
            time.sleep(0.1)

    def logs(self):
        """Return the ends of all logs."""
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in sorted(self.folder.glob("*.log"))
        )

    def kill(self):
        """Kill all processes, which takes less time than to end them. Tests of clean ends use `stop`."""
        for process in self.processes:
            process.kill()
        self.engine.dispose()

    def stop(self):
        """End all processes."""
        for process in self.processes:
            process.signal(signal.SIGCONT)
            process.signal(signal.SIGTERM)
        for process in self.processes:
            process.stop()
        self.engine.dispose()


def _answers(url):
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
