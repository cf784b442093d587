"""The tasks: unpack the message, call the library, return. Nothing that happens in one ever crosses into Celery."""

import threading
from collections.abc import Callable

import structlog
from celery import Celery

from dpiqa.doorbell import Task
from dpiqa.pipeline.lister import expand
from dpiqa.pipeline.worker import Room
from dpiqa.requirements.builder import Workshop
from dpiqa.requirements.pending import prepare_pending
from dpiqa.text import first_line

log = structlog.get_logger()


def register(app: Celery, room: Callable[[], Room]) -> None:
    """Register the tasks. `room`: what this process works with."""

    @app.task(name=Task.SCORE.value)
    def score(item_ids: list[int]) -> None:
        """Score these items, as far as they still wait."""
        _guarded(lambda: room().pipeline.run_chunk([int(item_id) for item_id in item_ids]), items=len(item_ids))

    @app.task(name=Task.EXPAND.value)
    def expand_job(job_id: str) -> None:
        """List this job's objects, if nobody does."""
        _guarded(lambda: _expand(room(), job_id), job=job_id)

    one_at_a_time = threading.Lock()  # each loads a model of its own

    @app.task(name=Task.PREPARE.value)
    def prepare(requirement: int) -> None:
        """Check this requirement, if nobody does. While this process is at another, the feeder rings again."""
        if one_at_a_time.acquire(blocking=False):
            try:
                _guarded(lambda: _prepare(room(), int(requirement)), requirement=requirement)
            finally:
                one_at_a_time.release()


def _prepare(room: Room, requirement: int) -> None:
    shop = Workshop(room.engine, room.decoder, room.settings)
    prepare_pending(shop, requirement, room.store, room.stopping)


def _expand(room: Room, job_id: str) -> None:
    expand(room.engine, room.store, room.doorbell, job_id, room.settings, room.stopping)


def _guarded(step: Callable[[], object], **context: object) -> None:
    """Run a step; log what it raises. A `MemoryError` that crosses a Celery task stops its worker for good.

    Nothing is lost: leases end, and the sweeper rings again.
    """
    try:
        step()
    except BaseException as error:
        log.error("task_failed", error=first_line(error), exc_info=error, **context)
