"""`python -m support.killed_lister URL JOB OBJECTS`: a lister of objects that do not exist, to be killed."""

import sys
import threading
from datetime import UTC, datetime

from dpiqa.pipeline import lister
from dpiqa.settings import load_settings
from dpiqa.storage.engine import make_engine
from dpiqa.types import ImageRef
from support.doorbells import RecordingDoorbell

LEASE_SECONDS = 0.5
T0 = datetime(2026, 1, 1, tzinfo=UTC)


class Listing:
    """A bucket of numbered objects."""

    def __init__(self, n):
        self._n = n

    def list(self, bucket, prefix, start_after=None):
        """Yield pages of a hundred, after a key."""
        first = 0 if start_after is None else int(start_after) + 1
        for start in range(first, self._n, 100):
            numbers = range(start, min(start + 100, self._n))
            yield [ImageRef(bucket=bucket, key=f"{n:08}", etag=f"e{n}", last_modified=T0) for n in numbers]


def list_job(url, job_id, n):
    """List the job until it is done or this process dies."""
    lister.BATCH_REFS = 400
    engine = make_engine(url, pool_size=2)
    settings = load_settings(lease_seconds=LEASE_SECONDS)
    lister.Lister(engine, Listing(n), RecordingDoorbell(), settings, threading.Event()).list_job(job_id)
    engine.dispose()


if __name__ == "__main__":
    list_job(sys.argv[1], sys.argv[2], int(sys.argv[3]))
