"""Where the time of a process goes: seconds and images by step, batch fill, device-busy share, queue delay.

Totals since the start of the process. The difference of two snapshots describes the time between them.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from dpiqa.pipeline import metrics


class Step(StrEnum):
    """The steps that images go through, in order. Steps of different images overlap."""

    LIST = "list"  #: a page of a source becomes items
    CLAIM = "claim"  #: a chunk is leased
    FETCH = "fetch"  #: an object is read
    DECODE = "decode"  #: bytes become pixels; the time in which they wait for a decode process counts
    TRANSFER = "transfer"  #: pixels are copied into their batch
    MODEL = "model"  #: a batch is on the device
    DECIDE = "decide"  #: the routes of some scores are decided
    RECORD = "record"  #: a transaction stores outcomes, the decision included


@dataclass(frozen=True, slots=True)
class StepTotals:
    """Totals of one step."""

    seconds: float = 0.0  #: of all calls together: threads that work at once add up
    cpu_seconds: float = 0.0  #: of processor time in the threads that worked; of other processes only if they say so
    images: int = 0
    calls: int = 0

    def __add__(self, other: "StepTotals") -> "StepTotals":
        return StepTotals(
            self.seconds + other.seconds,
            self.cpu_seconds + other.cpu_seconds,
            self.images + other.images,
            self.calls + other.calls,
        )

    def __sub__(self, other: "StepTotals") -> "StepTotals":
        return StepTotals(
            self.seconds - other.seconds,
            self.cpu_seconds - other.cpu_seconds,
            self.images - other.images,
            self.calls - other.calls,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Totals of all steps over some seconds."""

    seconds: float  #: that it covers
    steps: dict[Step, StepTotals]
    batch_places: int  #: images that the batches had room for
    queue_seconds: float  #: that decoded images waited for their batch, together

    def __sub__(self, earlier: "Snapshot") -> "Snapshot":
        """Return what came after an earlier snapshot."""
        return Snapshot(
            seconds=self.seconds - earlier.seconds,
            steps={step: totals - earlier.steps[step] for step, totals in self.steps.items()},
            batch_places=self.batch_places - earlier.batch_places,
            queue_seconds=self.queue_seconds - earlier.queue_seconds,
        )

    @property
    def batch_fill(self) -> float | None:
        """Share of the batches' places that were taken, 0-1; None without a batch."""
        return self.steps[Step.MODEL].images / self.batch_places if self.batch_places else None

    @property
    def device_busy(self) -> float:
        """Share of the time in which a batch was on the device, 0-1; a batch counts when it ends."""
        return self.steps[Step.MODEL].seconds / self.seconds if self.seconds > 0 else 0.0

    @property
    def queue_delay(self) -> float | None:
        """Mean seconds that a decoded image waited for its batch; None without an image."""
        n_images = self.steps[Step.MODEL].images
        return self.queue_seconds / n_images if n_images else None

    def figures(self) -> dict[str, float]:
        """Return what a log line says: images per second, shares of the device, and milliseconds per image by step."""
        fill, delay = self.batch_fill, self.queue_delay
        shares = {"device_busy": self.device_busy} | ({} if fill is None else {"batch_fill": fill})
        waits = {} if delay is None else {"queue_delay_ms": 1000 * delay}
        steps = {f"{step}_ms": 1000 * of.seconds / of.images for step, of in self.steps.items() if of.images}
        rate = {"images_per_second": self.steps[Step.MODEL].images / self.seconds if self.seconds > 0 else 0.0}
        return {name: round(value, 3) for name, value in (rate | shares | waits | steps).items()}


@dataclass(slots=True)
class StageTimes:
    """Collects the times of one process, for its metrics too. Thread-safe."""

    _began: float = field(default_factory=time.monotonic)
    _steps: dict[Step, StepTotals] = field(default_factory=lambda: {step: StepTotals() for step in Step})
    _batch_places: int = 0
    _queue_seconds: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, step: Step, seconds: float, *, images: int = 1, cpu_seconds: float = 0.0) -> None:
        """Count one call of a step."""
        metrics.SECONDS.labels(step.value).observe(seconds)
        metrics.STEP_IMAGES.labels(step.value).inc(images)
        with self._lock:
            self._steps[step] += StepTotals(seconds, cpu_seconds, images, 1)

    @contextmanager
    def time(self, step: Step, *, images: int = 1) -> Iterator[None]:
        """Count the body as one call of a step; also if it raises."""
        began, cpu_began = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            cpu_seconds = time.thread_time() - cpu_began
            self.add(step, time.perf_counter() - began, images=images, cpu_seconds=cpu_seconds)

    def add_batch(self, *, images: int, places: int, queue_seconds: float) -> None:
        """Count a batch that goes to the device; `queue_seconds`: how long its images waited, together."""
        metrics.BATCH_SIZE.observe(images)
        metrics.BATCH_PLACES.inc(places)
        metrics.QUEUE_SECONDS.inc(queue_seconds)
        with self._lock:
            self._batch_places += places
            self._queue_seconds += queue_seconds

    def snapshot(self) -> Snapshot:
        """Return the totals since the start of the process."""
        with self._lock:
            return Snapshot(
                seconds=time.monotonic() - self._began,
                steps=dict(self._steps),
                batch_places=self._batch_places,
                queue_seconds=self._queue_seconds,
            )


STAGES = StageTimes()  #: of this process
