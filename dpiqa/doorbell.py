"""The doorbell: messages that tell workers to look at the ledger, and the queues and tasks they use.

A message says "look at these item ids" and carries no state: losing, doubling or reordering messages may delay work
and never changes results (`docs/decisions/0001`).
"""

from collections.abc import Iterable
from enum import StrEnum
from importlib.metadata import entry_points
from typing import Protocol, cast

import structlog

from dpiqa.errors import BrokerUnavailable, ConfigurationError
from dpiqa.settings import Settings


class Queue(StrEnum):
    """Celery queues. Names use letters only, portable to every broker."""

    LIVE = "live"  #: student work of events; served before `bulk`
    BULK = "bulk"  #: student work of submitted jobs
    TEACHER = "teacher"  #: escalated images
    MAINTENANCE = "maintenance"  #: listing of submitted jobs, preparing of requirements


class Task(StrEnum):
    """Celery task names."""

    SCORE = "dpiqa.score"  #: argument `item_ids: list[int]`
    EXPAND = "dpiqa.expand"  #: argument `job_id: str`
    PREPARE = "dpiqa.prepare"  #: argument `requirement: int`, its row


class Doorbell(Protocol):
    """Rings workers.

    The one implementation lives in `workers/`, found by the entry point group `dpiqa.doorbell` so that neither this
    library nor the API imports Celery.
    """

    def score(self, queue: Queue, item_ids: list[int]) -> None:
        """Say that these items wait. Raises `BrokerUnavailable`; nothing is lost by that."""

    def expand(self, job_id: str) -> None:
        """Say that a job waits to be listed. Raises `BrokerUnavailable`; nothing is lost by that."""

    def prepare(self, requirement: int) -> None:
        """Say that a requirement waits to be checked. Raises `BrokerUnavailable`; nothing is lost by that."""

    def depth(self, queue: Queue) -> int:
        """Messages waiting in the queue. Raises `BrokerUnavailable`."""


GROUP = "dpiqa.doorbell"


def load_doorbell(settings: Settings) -> Doorbell:
    """Return the installed doorbell for the settings' broker. It connects when it is first rung.

    Raises `ConfigurationError` when no broker is configured or the workers' part of the package is not installed.
    """
    broker_url = settings.require_broker_url()
    found = sorted(entry_points(group=GROUP), key=lambda entry: entry.name)
    if not found:
        raise ConfigurationError(
            f"no doorbell is installed (entry point group {GROUP})", hint="install the package again: pip install dpiqa"
        )
    return cast("Doorbell", found[0].load()(broker_url))


log = structlog.get_logger()

#: A queue and the items of one message for it.
Ring = tuple[Queue, list[int]]


def ring_all(doorbell: Doorbell, rings: Iterable[Ring]) -> None:
    """Send one message per chunk. Where the broker is away the feeder rings again later."""
    rings = list(rings)
    try:
        for queue, item_ids in rings:
            doorbell.score(queue, item_ids)
    except BrokerUnavailable as error:
        log.warning("not_rung", messages=len(rings), error=str(error))


def ring_expand(doorbell: Doorbell, job_id: str) -> None:
    """Say that a job waits to be listed. Where the broker is away the feeder rings again later."""
    try:
        doorbell.expand(job_id)
    except BrokerUnavailable as error:
        log.warning("not_rung", job=job_id, error=str(error))


def ring_prepare(doorbell: Doorbell, requirement: int) -> None:
    """Say that a requirement waits to be checked. Where the broker is away the feeder rings again later."""
    try:
        doorbell.prepare(requirement)
    except BrokerUnavailable as error:
        log.warning("not_rung", requirement=requirement, error=str(error))


def empty_queues(doorbell: Doorbell) -> set[Queue]:
    """Return the queues that hold no message; none while the broker is away."""
    try:
        return {queue for queue in Queue if doorbell.depth(queue) == 0}
    except BrokerUnavailable as error:
        log.warning("broker_unavailable", error=str(error))
        return set()
