"""Prometheus metrics of workers and listener, served on DPIQA_METRICS_PORT."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram

IMAGES = Counter("dpiqa_images_total", "Images by their outcome in this worker", ["stage", "outcome"])
ESCALATIONS = Counter("dpiqa_escalations_total", "Images sent to the teacher")
EXPIRED = Counter("dpiqa_leases_expired_total", "Leases that ran out, as this worker found them")
STALE_WRITES = Counter("dpiqa_stale_writes_total", "Outcomes refused because their lease was lost")
EVENTS = Counter("dpiqa_events_total", "Event messages by outcome", ["outcome"])
LAG = Gauge("dpiqa_listener_lag_seconds", "Age of the oldest event that the listener received last; 0: none waited")
EVENT_QUEUE = Gauge("dpiqa_event_queue_messages", "Messages in the event queue, as SQS estimates, every 30 s")
DROPPED_MESSAGES = Counter("dpiqa_messages_dropped_total", "Messages that were no doorbells", ["queue", "reason"])
SECONDS = Histogram(
    "dpiqa_stage_seconds",
    "Seconds per call of a step: fetch, decode and transfer of one image, model of one batch, claim, decide and record "
    "of one transaction, list of one page",
    ["step"],
    buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60),
)
STEP_IMAGES = Counter("dpiqa_stage_images_total", "Images that a step has worked on", ["step"])
BATCH_SIZE = Histogram("dpiqa_batch_images", "Images per batch on the device", buckets=(1, 2, 4, 8, 16, 32, 64, 128))
BATCH_PLACES = Counter("dpiqa_batch_places_total", "Images that the batches on the device had room for")
QUEUE_SECONDS = Counter("dpiqa_device_queue_seconds_total", "Seconds that decoded images waited for their batch")
POSTPONEMENTS = Counter(
    "dpiqa_bucket_postponements_total", "Times that this worker postponed a bucket whose fetches failed", ["bucket"]
)
POSTPONED = Gauge("dpiqa_bucket_postponed", "1: no worker reads this bucket at the moment", ["bucket"])
SLOW = Gauge("dpiqa_bucket_slow", "1: this worker works on this bucket apart from the others", ["bucket"])

WORKER_READY = Gauge("dpiqa_worker_ready", "1: the worker takes work; 0: its model is loaded or warmed up", ["stage"])
DISK_FREE = Gauge("dpiqa_models_disk_free_bytes", "Free bytes on the disk of this process's folder of models")


def watch_disk(folder: Path) -> None:
    """Show, at each scrape, how much is free where the folder is, or would be made."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    DISK_FREE.set_function(lambda: shutil.disk_usage(existing).free)


def show_only(gauge: Gauge, buckets: Iterable[str]) -> None:
    """Set the gauge to 1 for these buckets, and remove all others from it."""
    gauge.clear()
    for bucket in buckets:
        gauge.labels(bucket).set(1)
