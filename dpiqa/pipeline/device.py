"""The one thread that owns the device. It batches what several chunks and jobs bring, separately for each scorer."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import structlog

from dpiqa.models.base import Scorer
from dpiqa.pipeline import metrics
from dpiqa.pipeline.batches import DeviceBrokenError, score_images
from dpiqa.pipeline.watchdog import DEVICE_BROKEN, Watchdog

log = structlog.get_logger()


@dataclass(eq=False, slots=True)
class Model:
    """A scorer in memory, with the batch size that fits."""

    scorer: Scorer
    max_batch: int  #: images; becomes smaller when the device runs out of memory
    batch_seconds: float = 0.0  #: that a batch may take on a slow device, where the device's own limit is less

    @property
    def scorer_id(self) -> str:
        """Identity of the scorer."""
        return self.scorer.card.scorer_id


@dataclass(eq=False, slots=True)
class _Work:
    pixels: np.ndarray
    answer: "Future[float]" = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)


class Device:
    """Scores prepared images in batches.

    A batch starts when it is full, or when its first image has waited `max_wait` seconds. When the device is lost or a
    batch takes longer than `batch_seconds`, the process ends: the leases give its work to another.
    """

    def __init__(
        self,
        *,
        max_wait: float = 0.02,
        batch_seconds: float = 60.0,
        exit_process: Callable[[int], object] = os._exit,
    ) -> None:
        self._max_wait, self._exit = max_wait, exit_process
        self._waiting: dict[Model, deque[_Work]] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._watchdog = Watchdog(batch_seconds, exit_process)
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)
        self._thread.start()

    def submit(self, model: Model, pixels: np.ndarray) -> "Future[float]":
        """Score one image of (H, W, 3) uint8. The future ends in a finite score, `ImageRejected` or what went wrong."""
        work = _Work(pixels)
        with self._changed:
            if self._closed:
                raise RuntimeError("the device is closed")
            self._waiting.setdefault(model, deque()).append(work)
            self._changed.notify()
        return work.answer

    def close(self) -> None:
        """End the thread after its current batch; what still waits is cancelled."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        self._watchdog.close()
        for queue in self._waiting.values():
            for work in queue:
                work.answer.cancel()

    def _run(self) -> None:
        try:
            while (batch := self._next_batch()) is not None:
                model, works = batch
                running = [work for work in works if work.answer.set_running_or_notify_cancel()]
                if running:
                    self._score(model, running)
        except BaseException:  # without this thread the process would hold its leases for ever and score nothing
            log.critical("device_thread_died", exit_code=DEVICE_BROKEN, exc_info=True)
            self._exit(DEVICE_BROKEN)
            raise

    def _next_batch(self) -> tuple[Model, list[_Work]] | None:
        with self._changed:
            while not self._closed:
                model = self._oldest()
                if model is None:
                    self._changed.wait()
                    continue
                queue = self._waiting[model]
                left = queue[0].arrived + self._max_wait - time.monotonic()
                if len(queue) >= model.max_batch or left <= 0:
                    return model, [queue.popleft() for _ in range(min(len(queue), model.max_batch))]
                self._changed.wait(left)
        return None

    def _oldest(self) -> Model | None:
        """Model whose first image has waited longest."""
        waiting = [(queue[0].arrived, model) for model, queue in self._waiting.items() if queue]
        return min(waiting, key=lambda pair: pair[0])[1] if waiting else None

    def _score(self, model: Model, works: list[_Work]) -> None:
        try:
            with self._watchdog.watch(model.batch_seconds), metrics.stage("score"):
                scores = score_images(model.scorer, [work.pixels for work in works])
        except DeviceBrokenError as error:
            log.critical("device_broken", error=str(error), exit_code=DEVICE_BROKEN)
            self._exit(DEVICE_BROKEN)
            for work in works:
                work.answer.set_exception(error)
            return
        metrics.BATCH_SIZE.observe(len(works))
        if scores.fitted < len(works):
            model.max_batch = max(1, scores.fitted)
            log.warning("batch_shrunk", scorer=model.scorer_id, max_batch=model.max_batch)
        for work, answer in zip(works, scores.answers, strict=True):
            if isinstance(answer, Exception):
                work.answer.set_exception(answer)
            else:
                work.answer.set_result(answer)
