"""The doorbell: messages that tell workers to look at the ledger, and the queues and tasks they use.

A message says "look at these item ids" and carries no state: losing, doubling or reordering messages may delay work
and never changes results (`docs/decisions/0001`).
"""

import contextlib
from collections.abc import Callable, Iterable
from enum import StrEnum
from importlib.metadata import entry_points
from typing import Protocol, cast

import structlog

from dpiqa.errors import BrokerUnavailable, ConfigurationError
from dpiqa.extras import required_for
from dpiqa.settings import Settings

log = structlog.get_logger()

GROUP = "dpiqa.doorbell"  #: entry point group of the implementation


class Queue(StrEnum):
    """Celery queues. Names use letters only, portable to every broker."""

    LIVE = "live"  #: student work of events, and explanations; served before `bulk`
    BULK = "bulk"  #: student work of submitted jobs
    TEACHER = "teacher"  #: escalated images
    MAINTENANCE = "maintenance"  #: listing of submitted jobs, preparing of requirements, reconciliations


class Task(StrEnum):
    """Celery task names."""

    SCORE = "dpiqa.score"  #: argument `item_ids: list[int]`
    EXPAND = "dpiqa.expand"  #: argument `job_id: str`
    PREPARE = "dpiqa.prepare"  #: argument `requirement: int`, the id of its row
    RECONCILE = "dpiqa.reconcile"  #: argument `reconciliation: str`, the id of its row
    EXPLAIN = "dpiqa.explain"  #: argument `explanation: int`, the id of its row
    REPORT = "dpiqa.report"  #: argument `report: int`, the id of its row


class Doorbell(Protocol):
    """Sends wake-up messages to workers.

    The one implementation lives in `workers/`, found by the entry point group `dpiqa.doorbell` so that neither this
    library nor the API imports Celery.
    """

    def score(self, queue: Queue, item_ids: list[int]) -> None:
        """Announce that these items wait. Raises `BrokerUnavailable`; no work is lost by that."""

    def expand(self, job_id: str) -> None:
        """Announce that a job waits to be listed. Raises `BrokerUnavailable`; no work is lost by that."""

    def prepare(self, requirement: int) -> None:
        """Announce that a requirement waits to be checked. Raises `BrokerUnavailable`; no work is lost by that."""

    def reconcile(self, reconciliation: str) -> None:
        """Announce that a reconciliation waits. Raises `BrokerUnavailable`; no work is lost by that."""

    def explain(self, explanation: int) -> None:
        """Announce that an explanation waits to be made. Raises `BrokerUnavailable`; no work is lost by that."""

    def report(self, report: int) -> None:
        """Announce that a report is due. Raises `BrokerUnavailable`; no work is lost by that."""

    def check(self) -> None:
        """Connect once. Raises `ConfigurationError` where waiting does not help, and `BrokerUnavailable`."""

    def depth(self, queue: Queue) -> int:
        """Messages waiting in the queue. Raises `BrokerUnavailable`."""


#: One message of `Doorbell.score`: its queue and its items.
Ring = tuple[Queue, list[int]]


def load_doorbell(settings: Settings) -> Doorbell:
    """Return the installed doorbell for the settings' broker.

    Raises `ConfigurationError` when no broker is configured, Celery is not installed, or the broker says that it will
    never serve this process (a wrong password, say). One that does not answer raises nothing.
    """
    broker_url = settings.require_broker_url()
    candidates = sorted(entry_points(group=GROUP), key=lambda entry: entry.name)
    if not candidates:
        raise ConfigurationError(f"no doorbell is installed (entry point group {GROUP})", hint="install dpiqa again")
    with required_for("telling the workers"):
        make_doorbell = candidates[0].load()
        doorbell = cast("Doorbell", make_doorbell(broker_url))
    with contextlib.suppress(BrokerUnavailable):
        doorbell.check()
    return doorbell


def ring_score(doorbell: Doorbell, rings: Iterable[Ring]) -> str | None:
    """Announce items, one message per ring. Returns a warning where the broker is unavailable.

    Call this and the functions below after the commit. They never raise for the broker: the feeder of any worker
    rings again for what is committed.
    """
    rings = list(rings)

    def send() -> None:
        for queue, item_ids in rings:
            doorbell.score(queue, item_ids)

    return _try_ring(send, "the work", messages=len(rings))


def ring_expand(doorbell: Doorbell, job_id: str) -> str | None:
    """Announce a job that waits to be listed. Returns a warning where the broker is unavailable."""
    return _try_ring(lambda: doorbell.expand(job_id), "the job", job=job_id)


def ring_prepare(doorbell: Doorbell, requirement: int) -> str | None:
    """Announce a requirement that waits to be checked. Returns a warning where the broker is unavailable."""
    return _try_ring(lambda: doorbell.prepare(requirement), "the requirement", requirement=requirement)


def ring_reconcile(doorbell: Doorbell, reconciliation: str) -> str | None:
    """Announce a reconciliation that waits. Returns a warning where the broker is unavailable."""
    return _try_ring(lambda: doorbell.reconcile(reconciliation), "the reconciliation", reconciliation=reconciliation)


def ring_explain(doorbell: Doorbell, explanation: int) -> str | None:
    """Announce an explanation that waits. Returns a warning where the broker is unavailable."""
    return _try_ring(lambda: doorbell.explain(explanation), "the explanation", explanation=explanation)


def ring_report(doorbell: Doorbell, report: int) -> str | None:
    """Announce a report that is due. Returns a warning where the broker is unavailable."""
    return _try_ring(lambda: doorbell.report(report), "the report", report=report)


def _try_ring(send: Callable[[], None], subject: str, **context: object) -> str | None:
    """Send, or return a warning. It does not name the cause, which contains hosts: API users see it. The log does."""
    try:
        send()
    except BrokerUnavailable as error:
        log.warning("not_rung", error=str(error), **context)
        return f"the message broker does not answer; {subject} is recorded and starts when a worker finds it"
    return None


def empty_queues(doorbell: Doorbell) -> set[Queue]:
    """Return the queues that hold no message; none while the broker is unavailable."""
    try:
        return {queue for queue in Queue if doorbell.depth(queue) == 0}
    except BrokerUnavailable as error:
        log.warning("broker_unavailable", error=str(error))
        return set()
