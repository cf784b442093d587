"""Ringing after the commit: a bell that fails is a warning, never an error."""

from collections.abc import Iterable

import structlog

from dpiqa.errors import BrokerUnavailable
from dpiqa.messages import Doorbell, Queue

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
