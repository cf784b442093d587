"""The device and its one thread. Images of several chunks and jobs share batches, one scorer each.

A batch has one result per image: an error of some images leaves the others alone.
"""

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import numpy as np
import structlog

from dpiqa.errors import DeviceBrokenError, DeviceMemoryError, ImageRejected
from dpiqa.exit_codes import WorkerExitCode
from dpiqa.models.base import Scorer
from dpiqa.pipeline.scorers import LoadedScorer
from dpiqa.pipeline.stage_times import STAGES, Step
from dpiqa.text import first_line
from dpiqa.types import Reason
from dpiqa.watchdog import WATCHDOG, Watchdog

log = structlog.get_logger()
T = TypeVar("T")

#: Parts of the messages of CUDA, cuDNN, cuBLAS and HIP when their context can no longer be used.
_BROKEN = ("CUDA error", "cuDNN error", "CUBLAS_STATUS", "HIP error")


@dataclass(eq=False, slots=True)
class _Request:
    """One image that waits for its batch."""

    pixels: np.ndarray
    urgent: bool = False
    score: "Future[float]" = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)


class Device:
    """Scores prepared images in batches.

    A batch starts when it is full, or when its first image has waited `max_wait` seconds. When the device is lost or a
    batch takes longer than `batch_seconds`, the process ends: its leases run out, and other workers take its items.
    """

    def __init__(
        self,
        *,
        max_wait: float = 0.02,
        batch_seconds: float = 60.0,
        exit_process: Callable[[int], object] = os._exit,
        watchdog: Watchdog = WATCHDOG,
    ) -> None:
        self._max_wait, self._exit = max_wait, exit_process
        self._waiting: dict[LoadedScorer, deque[_Request]] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._watchdog, self._batch_seconds = watchdog, batch_seconds
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)
        self._thread.start()

    def submit(self, scorer: LoadedScorer, pixels: np.ndarray, *, urgent: bool = False) -> "Future[float]":
        """Score one image of (H, W, 3) uint8, an urgent one before those that wait.

        The future ends in a finite score or an error.
        """
        request = _Request(pixels, urgent=urgent)
        with self._changed:
            if self._closed:
                raise RuntimeError("the device is closed")
            queue = self._waiting.setdefault(scorer, deque())
            if urgent:
                queue.insert(next((at for at, other in enumerate(queue) if not other.urgent), len(queue)), request)
            else:
                queue.append(request)
            self._changed.notify()
        return request.score

    def close(self) -> None:
        """End the thread after its current batch; waiting images are cancelled."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        for queue in self._waiting.values():
            for request in queue:
                request.score.cancel()

    def _run(self) -> None:
        try:
            while (batch := self._next_batch()) is not None:
                scorer, requests = batch
                running = [request for request in requests if request.score.set_running_or_notify_cancel()]
                if running:
                    self._score(scorer, running)
        except BaseException:  # without this thread the process would hold its leases forever and score nothing
            log.critical("device_thread_died", exit_code=WorkerExitCode.DEVICE_BROKEN, exc_info=True)
            self._exit(WorkerExitCode.DEVICE_BROKEN)
            raise

    def _next_batch(self) -> tuple[LoadedScorer, list[_Request]] | None:
        """Wait for the next batch: of the scorer whose first image is urgent or waits longest. None once closed."""
        with self._changed:
            while not self._closed:
                waiting = [
                    ((not queue[0].urgent, queue[0].arrived), scorer)
                    for scorer, queue in self._waiting.items()
                    if queue
                ]
                if not waiting:
                    self._changed.wait()
                    continue
                _, scorer = min(waiting, key=lambda pair: pair[0])
                queue = self._waiting[scorer]
                left = queue[0].arrived + self._max_wait - time.monotonic()
                if len(queue) >= scorer.max_batch or left <= 0:
                    return scorer, [queue.popleft() for _ in range(min(len(queue), scorer.max_batch))]
                self._changed.wait(left)
        return None

    def _score(self, scorer: LoadedScorer, requests: list[_Request]) -> None:
        seconds = max(self._batch_seconds, scorer.batch_seconds)
        now = time.monotonic()
        waited = sum(now - request.arrived for request in requests)
        STAGES.add_batch(images=len(requests), places=max(scorer.max_batch, len(requests)), queue_seconds=waited)
        try:
            with (
                self._watchdog.watch("device", seconds, WorkerExitCode.DEVICE_HANGS),
                STAGES.time(Step.MODEL, images=len(requests)),
            ):
                batch = score_images(scorer.scorer, [request.pixels for request in requests])
        except DeviceBrokenError as error:
            log.critical("device_broken", error=str(error), exit_code=WorkerExitCode.DEVICE_BROKEN)
            self._exit(WorkerExitCode.DEVICE_BROKEN)
            for request in requests:
                request.score.set_exception(error)
            return
        if batch.fitted < len(requests):
            scorer.max_batch = max(1, batch.fitted)
            log.warning("batch_shrunk", scorer=scorer.card.scorer_id, max_batch=scorer.max_batch)
        for request, score in zip(requests, batch.scores, strict=True):
            if isinstance(score, Exception):
                request.score.set_exception(score)
            else:
                request.score.set_result(score)


@dataclass(frozen=True, slots=True)
class BatchScores:
    """Results of one batch."""

    scores: list[float | Exception]  #: one per image: a finite score, or why there is none
    fitted: int  #: images per call that the device had memory for


def score_images(scorer: Scorer, images: Sequence[np.ndarray]) -> BatchScores:
    """Score images of (H, W, 3) uint8.

    A batch that does not fit is halved; one that fails is tried image by image, as is an image whose score is not
    finite. Raises `DeviceBrokenError` when the process must end.
    """
    scores: dict[int, float | Exception] = {}
    fitted = len(images)
    parts = [list(range(len(images)))]
    while parts:
        part = parts.pop()
        result = _try_batch(scorer, [images[index] for index in part])
        is_memory_error = isinstance(result, DeviceMemoryError | MemoryError)
        if is_memory_error and len(part) > 1:
            half = len(part) // 2
            fitted = min(fitted, half)
            parts += [part[half:], part[:half]]
        elif isinstance(result, Exception) and len(part) > 1:
            parts += [[index] for index in part]
        elif isinstance(result, Exception):
            scores[part[0]] = ImageRejected(Reason.DEVICE_MEMORY, first_line(result)) if is_memory_error else result
        else:
            for index, score in zip(part, result.tolist(), strict=True):
                if math.isfinite(score):
                    scores[index] = score
                elif len(part) == 1:
                    scores[index] = ImageRejected(Reason.NON_FINITE_SCORE, f"the model answered {score}")
                else:
                    parts.append([index])
    return BatchScores([scores[index] for index in range(len(images))], fitted)


def _try_batch(scorer: Scorer, images: list[np.ndarray]) -> np.ndarray | Exception:
    """Return the scores (N,) float64, or the error: a raised one's traceback would keep the batch in memory."""
    try:
        with STAGES.time(Step.TRANSFER, images=len(images)):
            pixels = np.stack(images)
        scores = np.asarray(scorer.score(pixels), dtype=np.float64)
        if scores.shape != (len(images),):
            raise ValueError(f"expected {len(images)} scores, the scorer answered shape {scores.shape}")
    except Exception as error:
        if is_broken(error):
            raise DeviceBrokenError(f"the device failed: {first_line(error)}") from error
        return error.with_traceback(None)
    return scores


def is_broken(error: BaseException) -> bool:
    """Return whether the error says that the device's context is lost (out of memory does not)."""
    if isinstance(error, DeviceMemoryError | MemoryError):
        return False
    return type(error).__name__ == "AcceleratorError" or any(text in str(error) for text in _BROKEN)


def batched(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of up to `size` values. `itertools.batched` from Python 3.12 on."""
    iterator = iter(values)
    while batch := list(islice(iterator, size)):
        yield batch
