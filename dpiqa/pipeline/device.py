"""The device and its threads. Images of several chunks and jobs share batches, one scorer each.

While a batch is on the device, the next one is copied into a buffer, and the scores of the last one are answered: the
device waits for neither. A batch has one result per image: an error of some images leaves the others alone.
"""

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from queue import SimpleQueue
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
    row: int | None = None  #: of the buffer, that it is or will be copied to
    is_copied: bool = False


@dataclass(frozen=True, slots=True)
class _Batch:
    """Images that are copied and go to the device together."""

    queue: "_ScorerQueue"
    requests: list[_Request]
    buffer: np.ndarray  #: (rows, H, W, 3) uint8; the images are in the first rows, in any order


class _ScorerQueue:
    """The images that wait for one scorer, urgent ones first, and the buffer of its next batch.

    The first images, as many as a batch takes, have a row each. One that an urgent image pushes out loses its row.
    """

    def __init__(self, scorer: LoadedScorer) -> None:
        self.scorer = scorer
        self._waiting: deque[_Request] = deque()
        self._with_row: list[_Request] = []
        self._buffer: np.ndarray | None = None
        self._free: list[np.ndarray] = []  # buffers; there are two at most: one is filled while one is on the device

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def order(self) -> tuple[bool, float]:
        """Key that is the least for the queue whose turn it is: of an urgent image, then of the one that waits most."""
        return not self._waiting[0].urgent, self._waiting[0].arrived

    def add(self, request: _Request) -> None:
        """Let an image wait."""
        if request.urgent:
            first_other = next((at for at, other in enumerate(self._waiting) if not other.urgent), len(self._waiting))
            self._waiting.insert(first_other, request)
        else:
            self._waiting.append(request)

    def due_in(self, max_wait: float) -> float:
        """Return the seconds until a batch should start; none where it is full."""
        if len(self._waiting) >= self.scorer.max_batch:
            return 0.0
        return max(0.0, self._waiting[0].arrived + max_wait - time.monotonic())

    def to_copy(self) -> list[tuple[np.ndarray, _Request]]:
        """Give each image of the next batch a row; return the rows that are to be filled, with their images."""
        first = self._first()
        if all(request.is_copied for request in first):
            return []
        for request in set(self._with_row).difference(first):
            request.row, request.is_copied = None, False
        if self._buffer is None:
            self._buffer = self._free.pop() if self._free else self.scorer.buffer()
        taken = {request.row for request in first if request.row is not None}
        rows = (row for row in range(self.scorer.max_batch) if row not in taken)
        for request in first:
            if request.row is None:
                request.row = next(rows)
        self._with_row = first
        return [(self._buffer[request.row], request) for request in first if not request.is_copied]

    def take(self) -> _Batch | None:
        """Take the next batch, unless some of it must still be copied."""
        first, buffer = self._first(), self._buffer
        if buffer is None or not all(request.is_copied for request in first):
            return None
        for request in first:
            self._waiting.popleft()
            request.pixels = buffer[:0]  # frees them while the batch is on the device
        self._buffer, self._with_row = None, []
        return _Batch(self, first, buffer)

    def put_back(self, buffer: np.ndarray) -> None:
        """Use the buffer again."""
        self._free.append(buffer)

    def shrink(self, max_batch: int) -> None:
        """Take fewer images per batch from now on."""
        self.scorer.max_batch = max_batch
        for request in self._waiting:
            request.row, request.is_copied = None, False

    def cancel(self) -> None:
        """Cancel what waits."""
        for request in self._waiting:
            request.score.cancel()

    def _first(self) -> list[_Request]:
        return list(islice(self._waiting, self.scorer.max_batch))


class Device:
    """Scores prepared images in batches.

    A batch starts when it is full, or when its first image has waited `max_wait` seconds. When the device is lost or a
    batch takes longer than `batch_seconds`, the process ends: its leases run out, and other workers take its items.
    Its attribute `on_batch` is called when a batch has left the queue.
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
        self.on_batch: Callable[[], object] = lambda: None
        self._queues: dict[LoadedScorer, _ScorerQueue] = {}
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)  # images to be copied
        self._copied = threading.Condition(self._lock)
        self._closed = False
        self._watchdog, self._batch_seconds = watchdog, batch_seconds
        self._answers: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        names = {"device": self._score_all, "batch-copies": self._copy_all, "batch-answers": self._answer_all}
        self._threads = [
            threading.Thread(target=self._run, args=(work,), name=name, daemon=True) for name, work in names.items()
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, scorer: LoadedScorer, pixels: np.ndarray, *, urgent: bool = False) -> "Future[float]":
        """Score one image of (H, W, 3) uint8, an urgent one before those that wait.

        The future ends in a finite score or an error. Raises `ValueError` for pixels of another shape or type than the
        scorer's.
        """
        if pixels.shape != scorer.image_shape or pixels.dtype != np.uint8:
            raise ValueError(f"expected {scorer.image_shape} uint8, got {pixels.shape} {pixels.dtype}")
        request = _Request(pixels, urgent=urgent)
        with self._lock:
            if self._closed:
                raise RuntimeError("the device is closed")
            if scorer not in self._queues:
                self._queues[scorer] = _ScorerQueue(scorer)
            self._queues[scorer].add(request)
            self._arrived.notify()
        return request.score

    def backlog(self) -> int:
        """Return how many images wait for their batch."""
        return sum(map(len, list(self._queues.values())))

    def close(self) -> None:
        """End the threads after the current batch is answered; waiting images are cancelled."""
        with self._lock:
            self._closed = True
            self._arrived.notify()
            self._copied.notify()
        for thread in self._threads:
            thread.join()
        for queue in self._queues.values():
            queue.cancel()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException:  # without this thread the process would hold its leases forever and score nothing
            log.critical("device_thread_died", exit_code=WorkerExitCode.DEVICE_BROKEN, exc_info=True)
            self._exit(WorkerExitCode.DEVICE_BROKEN)
            raise

    def _copy_all(self) -> None:
        """Copy images to the buffers of their next batches, as they come."""
        while True:
            with self._lock:
                while not (copies := [copy for queue in self._queues.values() for copy in queue.to_copy()]):
                    if self._closed:
                        return
                    self._arrived.wait()
            with STAGES.time(Step.TRANSFER, images=len(copies)):
                for row, request in copies:
                    np.copyto(row, request.pixels)
            with self._lock:
                for _, request in copies:
                    request.is_copied = request.row is not None
                self._copied.notify()

    def _score_all(self) -> None:
        """Score batch after batch."""
        try:
            while (batch := self._next_batch()) is not None:
                self._answers.put(self.on_batch)
                self._score(batch)
        finally:
            self._answers.put(None)

    def _next_batch(self) -> _Batch | None:
        """Wait for the next batch that is due; None once closed."""
        with self._lock:
            while not self._closed:
                waiting = sorted(filter(None, self._queues.values()), key=lambda queue: queue.order)
                delays = [queue.due_in(self._max_wait) for queue in waiting]
                due = next((queue for queue, delay in zip(waiting, delays, strict=True) if delay <= 0), None)
                if due is not None and (batch := due.take()) is not None:
                    self._arrived.notify()  # the images after them have places now
                    return batch
                self._copied.wait(None if due is not None else min(delays, default=None))
        return None

    def _score(self, batch: _Batch) -> None:
        scorer, n_images = batch.queue.scorer, len(batch.requests)
        running = [request for request in batch.requests if request.score.set_running_or_notify_cancel()]
        seconds = max(self._batch_seconds, scorer.batch_seconds)
        now = time.monotonic()
        waited = sum(now - request.arrived for request in batch.requests)
        STAGES.add_batch(images=n_images, places=max(scorer.max_batch, n_images), queue_seconds=waited)
        try:
            watched = self._watchdog.watch("device", seconds, WorkerExitCode.DEVICE_HANGS)
            with watched, STAGES.time(Step.MODEL, images=n_images):
                scores = score_images(scorer.scorer, batch.buffer[:n_images])
        except DeviceBrokenError as error:
            log.critical("device_broken", error=str(error), exit_code=WorkerExitCode.DEVICE_BROKEN)
            self._exit(WorkerExitCode.DEVICE_BROKEN)
            scores = BatchScores([error] * n_images, n_images)
        with self._lock:
            batch.queue.put_back(batch.buffer)
            if scores.fitted < n_images:
                batch.queue.shrink(max(1, scores.fitted))
                self._arrived.notify()  # their copies are void
                log.warning("batch_shrunk", scorer=scorer.card.scorer_id, max_batch=scorer.max_batch)
        self._answers.put(partial(_answer, running, scores))

    def _answer_all(self) -> None:
        """Make the calls that the device does not wait for."""
        while (answer := self._answers.get()) is not None:
            answer()


def _answer(requests: list[_Request], batch: "BatchScores") -> None:
    """Give the images of a batch their scores."""
    for request in requests:
        score = batch.scores[request.row or 0]
        if isinstance(score, Exception):
            request.score.set_exception(score)
        else:
            request.score.set_result(score)


@dataclass(frozen=True, slots=True)
class BatchScores:
    """Results of one batch."""

    scores: list[float | Exception]  #: one per image: a finite score, or why there is none
    fitted: int  #: images per call that the device had memory for


def score_images(scorer: Scorer, images: np.ndarray | Sequence[np.ndarray]) -> BatchScores:
    """Score images of (H, W, 3) uint8, or (N, H, W, 3).

    A batch that does not fit is halved; one that fails is tried image by image, as is an image whose score is not
    finite. Raises `DeviceBrokenError` when the process must end.
    """
    pixels = np.asarray(images)
    scores: dict[int, float | Exception] = {}
    fitted = len(images)
    parts = [list(range(len(images)))]
    while parts:
        part = parts.pop()
        result = _try_batch(scorer, pixels if len(part) == len(pixels) else pixels[part])
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


def _try_batch(scorer: Scorer, pixels: np.ndarray) -> np.ndarray | Exception:
    """Return the scores (N,) float64, or the error: a raised one's traceback would keep the batch in memory."""
    try:
        scores = np.asarray(scorer.score(pixels), dtype=np.float64)
        if scores.shape != (len(pixels),):
            raise ValueError(f"expected {len(pixels)} scores, the scorer answered shape {scores.shape}")
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
