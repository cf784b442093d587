"""A lister that is killed with -9 again and again: the next one continues, and nothing is added twice."""

import subprocess
import sys
import time
from pathlib import Path

import support
from sqlalchemy import text
from support.killed_lister import LEASE_SECONDS, list_job
from support.ledger import ALONE

from dpiqa.doorbell import Queue
from dpiqa.storage.engine import make_engine, transaction
from dpiqa.storage.jobs import create_job
from dpiqa.types import JobKind

N = 15_000


def test_every_object_is_added_once_though_three_listers_are_killed(database_url):
    engine = make_engine(database_url)
    with transaction(engine) as c:
        job = create_job(c, kind=JobKind.PREFIX, bucket="b", prefix="", profile=ALONE, queue=Queue.BULK)

    def count():
        with transaction(engine) as c:
            return c.execute(text("SELECT count(*), count(DISTINCT image_id) FROM items")).one()

    argv = [sys.executable, "-m", "support.killed_lister", database_url, str(job.id), str(N)]
    seen = [0]
    for _ in range(3):
        process = subprocess.Popen(argv, cwd=Path(support.__file__).parents[1])
        deadline = time.monotonic() + 60
        while count()[0] <= seen[-1] and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
        process.wait()
        seen.append(count()[0])
        time.sleep(LEASE_SECONDS)  # its lease runs out
    assert 0 < seen[1] < seen[2] < seen[3] < N  # each continued, and died before the end
    list_job(database_url, str(job.id), N)
    assert count() == (N, N)
    with transaction(engine) as c:
        state, tally = c.execute(text("SELECT state, tally FROM jobs")).one()
        current = c.execute(text("SELECT count(*) FROM images WHERE current")).scalar_one()
    assert (state, tally["taken"], current) == ("running", N, N)
    engine.dispose()
