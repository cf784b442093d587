"""The tasks: each unpacks its message and calls the library. No error of theirs reaches Celery."""

import threading
from collections.abc import Callable
from typing import Any

import structlog
from celery.app.task import Task as CeleryTask
from celery.worker.request import Request

from dpiqa.doorbell import Task
from dpiqa.exports.reports import write_report
from dpiqa.pipeline.worker import Worker
from dpiqa.requirements.builder import RequirementBuilder
from dpiqa.requirements.pending import prepare_pending
from dpiqa.text import first_line

log = structlog.get_logger()


class UnacknowledgedRequest(Request):  # type: ignore[misc]  # Celery has no types
    """A message that left Redis when it was read (see `broker.celery_settings`): there is nothing to acknowledge.

    Celery acknowledges all the same, and kombu deletes a record that does not exist. Over a connection that was lost
    meanwhile this raises an `AttributeError`, which ends the worker.
    """

    def acknowledge(self) -> None:
        """Count as acknowledged, without contacting Redis."""
        self.acknowledged = True


class DoorbellTask(CeleryTask):  # type: ignore[misc]
    """The class of all tasks.

    Binds `task_id`, `task` and `worker` to the log context of the thread, so that the log lines of one message can be
    joined. The tasks add `items`, `job`, `requirement` or `reconciliation`, and `Worker.score` the jobs of its claims:
    of a scoring task, lines from before the claim (`claim_postponed`) and `task_failed` have no `job`.

    Logs every error of the task: a `MemoryError` that crosses into Celery stops its worker for good, and nothing is
    lost, because leases end and the feeder announces the work again. `SystemExit` and `KeyboardInterrupt` pass.
    """

    Request = UnacknowledgedRequest

    @property
    def worker(self) -> Worker:
        """The worker of this process."""
        worker: Worker = self.app.worker
        return worker

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Run the task."""
        with structlog.contextvars.bound_contextvars(task_id=self.request.id, task=self.name, worker=self.worker.id):
            try:
                self.run(*args, **kwargs)
            except Exception as error:  # MemoryError is one
                log.error("task_failed", error=first_line(error), exc_info=error)


def score(task: DoorbellTask, item_ids: list[int]) -> None:
    """Score these items, as far as they still wait."""
    with structlog.contextvars.bound_contextvars(items=len(item_ids)):
        task.worker.score([int(item_id) for item_id in item_ids])


def expand(task: DoorbellTask, job_id: str) -> None:
    """List this job's objects, unless another worker does."""
    with structlog.contextvars.bound_contextvars(job=job_id):
        task.worker.lister.list_job(job_id)


_preparing = threading.Lock()  # one requirement at a time: each loads a model of its own


def prepare(task: DoorbellTask, requirement: int) -> None:
    """Check this requirement, unless another worker does. While this process checks one, the feeder rings again."""
    if not _preparing.acquire(blocking=False):
        return
    try:
        with structlog.contextvars.bound_contextvars(requirement=requirement):
            worker = task.worker
            builder = RequirementBuilder(worker.engine, worker.decoder, worker.settings)
            prepare_pending(builder, int(requirement), worker.store, worker.stopping)
    finally:
        _preparing.release()


_reconciling = threading.Lock()  # one at a time: it holds a thread for as long as a bucket takes to be listed


def reconcile(task: DoorbellTask, reconciliation: str) -> None:
    """Go on with this reconciliation, unless another process does. While this one works, the feeder rings again."""
    if not _reconciling.acquire(blocking=False):
        return
    try:
        with structlog.contextvars.bound_contextvars(reconciliation=reconciliation):
            task.worker.reconciler.work_on(reconciliation)
    finally:
        _reconciling.release()


def report(task: DoorbellTask, report: int) -> None:
    """Write this report of a job that has ended, unless another worker does."""
    with structlog.contextvars.bound_contextvars(report=report):
        worker = task.worker
        write_report(worker.engine, worker.settings, int(report))


TASKS: dict[Task, Callable[..., None]] = {
    Task.SCORE: score,
    Task.EXPAND: expand,
    Task.PREPARE: prepare,
    Task.RECONCILE: reconcile,
    Task.REPORT: report,
}
