"""Prometheus metrics of workers and listener, served on DPIQA_METRICS_PORT."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Gauge, Histogram

IMAGES = Counter("dpiqa_images_total", "Images by their outcome in this worker", ["stage", "outcome"])
ESCALATIONS = Counter("dpiqa_escalations_total", "Images sent to the teacher")
STALE_WRITES = Counter("dpiqa_stale_writes_total", "Outcomes refused because their lease was lost")
EVENTS = Counter("dpiqa_events_total", "Event messages by outcome", ["outcome"])
DROPPED_MESSAGES = Counter("dpiqa_messages_dropped_total", "Messages that were no doorbells", ["queue", "reason"])
BATCH_SIZE = Histogram("dpiqa_batch_images", "Images per batch on the device", buckets=(1, 2, 4, 8, 16, 32, 64, 128))
SECONDS = Histogram(
    "dpiqa_stage_seconds",
    "Seconds per step: fetch and decode of one image, score of one batch, record of one transaction",
    ["step"],
    buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60),
)
POSTPONEMENTS = Counter(
    "dpiqa_bucket_postponements_total", "Times that this worker postponed a bucket whose fetches failed", ["bucket"]
)
POSTPONED = Gauge("dpiqa_bucket_postponed", "1: no worker reads this bucket at the moment", ["bucket"])
SLOW = Gauge("dpiqa_bucket_slow", "1: this worker works on this bucket apart from the others", ["bucket"])


def show_only(gauge: Gauge, buckets: Iterable[str]) -> None:
    """Set the gauge to 1 for these buckets, and remove all others from it."""
    gauge.clear()
    for bucket in buckets:
        gauge.labels(bucket).set(1)


@contextmanager
def stage(step: str) -> Iterator[None]:
    """Time the body."""
    started = time.perf_counter()
    try:
        yield
    finally:
        SECONDS.labels(step).observe(time.perf_counter() - started)
