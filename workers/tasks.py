"""The tasks: each unpacks its message and calls the library. No error of theirs reaches Celery."""

from collections.abc import Callable
from typing import Any

import structlog
from celery.app.task import Task as CeleryTask
from celery.worker.request import Request

from dpiqa.doorbell import Queue, Task
from dpiqa.evaluation.explaining import Student, make_explanation
from dpiqa.exports.reports import write_report
from dpiqa.pipeline.worker import Worker
from dpiqa.requirements.builder import RequirementBuilder
from dpiqa.requirements.pending import prepare_pending
from dpiqa.text import first_line

from .broker import acknowledges

log = structlog.get_logger()


class DoorbellRequest(Request):  # type: ignore[misc]  # Celery has no types
    """A received message. One that left Redis when it was read (see `broker.celery_settings`) is not acknowledged.

    Celery acknowledges all the same, and kombu deletes a record that does not exist. Over a connection that was lost
    meanwhile this raises an `AttributeError`, which ends the worker.
    """

    def acknowledge(self) -> None:
        """Acknowledge to brokers that wait for it."""
        if acknowledges(self.app.conf):
            super().acknowledge()
        else:
            self.acknowledged = True


class DoorbellTask(CeleryTask):  # type: ignore[misc]
    """The class of all tasks.

    Binds `task_id`, `task` and `worker` to the log context of the thread, so that the log lines of one message can be
    joined. The tasks add `items`, `job`, `requirement`, `explanation` or `reconciliation`, and `Worker.score` the jobs
    of its claims: of a scoring task, lines from before the claim (`claim_postponed`) and `task_failed` have no `job`.

    Logs every error of the task: a `MemoryError` that crosses into Celery stops its worker for good, and nothing is
    lost, because leases end and the feeder announces the work again. `SystemExit` and `KeyboardInterrupt` pass.
    """

    Request = DoorbellRequest

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
    queue = (task.request.delivery_info or {}).get("routing_key")
    with structlog.contextvars.bound_contextvars(items=len(item_ids)):
        task.worker.score([int(item_id) for item_id in item_ids], Queue(queue) if queue in set(Queue) else Queue.BULK)


def expand(task: DoorbellTask, job_id: str) -> None:
    """List this job's objects, unless another worker does."""
    with structlog.contextvars.bound_contextvars(job=job_id):
        task.worker.maintenance.start(Task.EXPAND, job_id, lambda: task.worker.lister.list_job(job_id))


def prepare(task: DoorbellTask, requirement: int) -> None:
    """Check this requirement, unless another worker does."""
    worker = task.worker

    def work() -> None:
        builder = RequirementBuilder(worker.engine, worker.decoder, worker.settings)
        prepare_pending(builder, int(requirement), worker.store, worker.stopping)

    with structlog.contextvars.bound_contextvars(requirement=requirement):
        worker.maintenance.start(Task.PREPARE, requirement, work)


def reconcile(task: DoorbellTask, reconciliation: str) -> None:
    """Go on with this reconciliation, unless another process does."""
    worker = task.worker
    with structlog.contextvars.bound_contextvars(reconciliation=reconciliation):
        worker.maintenance.start(Task.RECONCILE, reconciliation, lambda: worker.reconciler.work_on(reconciliation))


def explain(task: DoorbellTask, explanation: int) -> None:
    """Make this explanation, unless another worker does."""
    worker = task.worker

    def work() -> None:
        student = Student(worker.store, worker.decoder, worker.settings, worker.scorers, worker.device)
        make_explanation(worker.engine, int(explanation), student)

    with structlog.contextvars.bound_contextvars(explanation=explanation):
        worker.maintenance.start(Task.EXPLAIN, explanation, work)


def report(task: DoorbellTask, report: int) -> None:
    """Write this report of a job that has ended, unless another worker does."""
    worker = task.worker
    with structlog.contextvars.bound_contextvars(report=report):
        worker.maintenance.start(Task.REPORT, report, lambda: write_report(worker.engine, worker.settings, int(report)))


TASKS: dict[Task, Callable[..., None]] = {
    Task.SCORE: score,
    Task.EXPAND: expand,
    Task.PREPARE: prepare,
    Task.RECONCILE: reconcile,
    Task.EXPLAIN: explain,
    Task.REPORT: report,
}
