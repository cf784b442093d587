"""Names of the Celery queues and tasks: all that the sides of the broker share. Standard library only.

A message is a doorbell ("look at these item ids"). It carries no state: losing, doubling or reordering
messages may delay work and never changes results (`docs/decisions/0001`).
"""

from enum import StrEnum
from typing import Protocol


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
