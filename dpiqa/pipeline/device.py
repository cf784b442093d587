"""The device, its one thread and its watchdog. Images of several chunks and jobs share batches, one scorer each."""

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import structlog

from dpiqa.errors import DeviceBrokenError
from dpiqa.exit_codes import WorkerExitCode
from dpiqa.pipeline import metrics
from dpiqa.pipeline.batches import score_images
from dpiqa.pipeline.scorers import LoadedScorer

log = structlog.get_logger()


@dataclass(eq=False, slots=True)
class _Request:
    """One image that waits for its batch."""

    pixels: np.ndarray
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
    ) -> None:
        self._max_wait, self._exit = max_wait, exit_process
        self._waiting: dict[LoadedScorer, deque[_Request]] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._watchdog = Watchdog(batch_seconds, exit_process)
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)
        self._thread.start()

    def submit(self, scorer: LoadedScorer, pixels: np.ndarray) -> "Future[float]":
        """Score one image of (H, W, 3) uint8. The future ends in a finite score or an error."""
        request = _Request(pixels)
        with self._changed:
            if self._closed:
                raise RuntimeError("the device is closed")
            self._waiting.setdefault(scorer, deque()).append(request)
            self._changed.notify()
        return request.score

    def close(self) -> None:
        """End the thread after its current batch; waiting images are cancelled."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        self._watchdog.close()
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
        with self._changed:
            while not self._closed:
                scorer = self._oldest()
                if scorer is None:
                    self._changed.wait()
                    continue
                queue = self._waiting[scorer]
                left = queue[0].arrived + self._max_wait - time.monotonic()
                if len(queue) >= scorer.max_batch or left <= 0:
                    return scorer, [queue.popleft() for _ in range(min(len(queue), scorer.max_batch))]
                self._changed.wait(left)
        return None

    def _oldest(self) -> LoadedScorer | None:
        """Return the scorer whose first image has waited longest."""
        waiting = [(queue[0].arrived, scorer) for scorer, queue in self._waiting.items() if queue]
        return min(waiting, key=lambda pair: pair[0])[1] if waiting else None

    def _score(self, scorer: LoadedScorer, requests: list[_Request]) -> None:
        try:
            with self._watchdog.watch(scorer.batch_seconds), metrics.stage("score"):
                batch = score_images(scorer.scorer, [request.pixels for request in requests])
        except DeviceBrokenError as error:
            log.critical("device_broken", error=str(error), exit_code=WorkerExitCode.DEVICE_BROKEN)
            self._exit(WorkerExitCode.DEVICE_BROKEN)
            for request in requests:
                request.score.set_exception(error)
            return
        metrics.BATCH_SIZE.observe(len(requests))
        if batch.fitted < len(requests):
            scorer.max_batch = max(1, batch.fitted)
            log.warning("batch_shrunk", scorer=scorer.card.scorer_id, max_batch=scorer.max_batch)
        for request, score in zip(requests, batch.scores, strict=True):
            if isinstance(score, Exception):
                request.score.set_exception(score)
            else:
                request.score.set_result(score)


class Watchdog:
    """Ends the process, with exit code 71, when one watched step takes longer than `seconds`.

    No call into a hung kernel ever returns; the leases of the process run out, and other workers take its items.
    """

    def __init__(self, seconds: float, exit_process: Callable[[int], object] = os._exit) -> None:
        self._seconds, self._exit = seconds, exit_process
        self._deadline = math.inf
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    @contextmanager
    def watch(self, seconds: float = 0.0) -> Iterator[None]:
        """Watch the body, which may take `seconds` if that is more than the usual limit. One body at a time."""
        self._deadline = time.monotonic() + max(self._seconds, seconds)
        try:
            yield
        finally:
            self._deadline = math.inf

    def close(self) -> None:
        """Stop watching."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(min(1.0, self._seconds / 4)):
            if time.monotonic() > self._deadline:
                log.critical("device_hangs", exit_code=WorkerExitCode.DEVICE_HANGS)
                self._exit(WorkerExitCode.DEVICE_HANGS)
                return
