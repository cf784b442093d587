"""Maintenance of a worker: listing, reconciling, requirements, explanations and reports, in threads apart from scoring.

A message of the queue `maintenance` only starts it. What does not get a thread here is announced again by the feeder.
"""

import contextvars
import threading
from collections.abc import Callable, Mapping

import structlog
from sqlalchemy import Engine, bindparam, func, select

from dpiqa.doorbell import Task
from dpiqa.pipeline.fair_pool import FairPool
from dpiqa.storage.engine import transaction
from dpiqa.storage.report_tables import reports
from dpiqa.storage.tables import jobs
from dpiqa.storage.watch_tables import reconciliations
from dpiqa.text import first_line

log = structlog.get_logger()

#: Threads of each kind; a requirement loads a model of its own.
MOST = {Task.EXPAND: 16, Task.RECONCILE: 4, Task.REPORT: 4, Task.PREPARE: 1, Task.EXPLAIN: 1}
#: Statements that find the bucket that the work of a row reads or writes.
BUCKET_OF = {
    Task.EXPAND: select(jobs.c.bucket).where(jobs.c.id == bindparam("row")),
    Task.RECONCILE: select(reconciliations.c.bucket).where(reconciliations.c.id == bindparam("row")),
    Task.REPORT: select(func.split_part(reports.c.output, "/", 3)).where(reports.c.id == bindparam("row")),
}
MOST_OF_BUCKET = 2  #: of a kind, so that a slow bucket holds up no other


class Maintenance:
    """Threads of maintenance. Each piece of work is at most once in them. Thread-safe."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._names: set[tuple[Task, str]] = set()  # waiting or running
        self._pool: FairPool[tuple[Task, str]] = FairPool(sum(MOST.values()), has_room=_has_room, name="maintenance")

    def start(self, task: Task, row_id: str | int, work: Callable[[], object]) -> None:
        """Do the work of a row in a thread, unless it is waited for or done here already. Its errors are logged.

        Raises `DatabaseUnavailable`: the bucket of the row is looked up.
        """
        name = (task, str(row_id))
        with self._lock:
            if name in self._names:
                return
        bucket = self._bucket_of(task, row_id) if task in BUCKET_OF else ""
        with self._lock:
            if name in self._names:
                return
            self._names.add(name)
        context = contextvars.copy_context()  # of the log
        try:
            self._pool.submit((task, bucket), context.run, self._do, name, work)
        except RuntimeError:  # this worker ends
            with self._lock:
                self._names.discard(name)

    def close(self) -> None:
        """Wait for the running work to end."""
        self._pool.close()

    def _bucket_of(self, task: Task, row_id: str | int) -> str:
        with transaction(self._engine) as c:
            return c.execute(BUCKET_OF[task], {"row": row_id}).scalar() or ""

    def _do(self, name: tuple[Task, str], work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:  # nothing is lost: leases end, and the feeder announces the work again
            log.error("task_failed", error=first_line(error), exc_info=error)
        finally:
            with self._lock:
                self._names.discard(name)


def _has_room(group: tuple[Task, str], running: Mapping[tuple[Task, str], int], _urgent: bool) -> bool:
    """Return whether more work of a kind and bucket may start."""
    task, _ = group
    n_of_task = sum(n for (other, _), n in running.items() if other is task)
    return running.get(group, 0) < MOST_OF_BUCKET and n_of_task < MOST[task]
