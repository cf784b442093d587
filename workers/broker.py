"""Celery over Redis: one set of connection settings for workers and doorbells."""

from typing import Any, ClassVar

from celery import Celery
from celery.app.task import Task
from celery.worker.request import Request
from kombu.entity import Exchange
from kombu.entity import Queue as KombuQueue
from kombu.utils.scheduling import sorted_cycle

from dpiqa.doorbell import Queue

#: Seconds. A silent half-open link stalls a worker for 150 s with the defaults, 21 s with these.
TRANSPORT_OPTIONS: dict[str, Any] = {
    "socket_timeout": 10,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 5,
    "retry_on_timeout": True,
    "queue_order_strategy": "dpiqa.workers.broker:ServingOrder",
    "priority_steps": [0],  # the queues are the priorities; one Redis list each
}


class ServingOrder(sorted_cycle):
    """Makes BRPOP ask the queues in the order of `Queue`: `live` is empty before `bulk` is touched."""

    _ORDER: ClassVar = {queue.value: place for place, queue in enumerate(Queue)}

    def consume(self, n: int) -> list[str]:
        """Return the first `n` queue names, in serving order."""
        return sorted(self.items[:n], key=lambda name: (self._ORDER.get(name, len(self._ORDER)), name))


def make_celery(broker_url: str) -> Celery:
    """Make a Celery app with the settings of the design; without tasks."""
    app = Celery("dpiqa", broker=broker_url, task_cls="dpiqa.workers.broker:DoorbellTask", set_as_current=False)
    app.conf.update(
        task_queues=[_doorbell(queue.value) for queue in Queue],
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_create_missing_queues=True,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,  # a message is taken when a thread is free for it, and not before
        worker_send_task_events=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_soft_shutdown_timeout=45,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options=TRANSPORT_OPTIONS,
    )
    return app


def _doorbell(name: str) -> KombuQueue:
    """Make a queue whose messages are gone once they are read.

    The ledger knows what waits and rings again, so there is nothing for the broker to keep. Kept messages do harm:
    kombu puts them back and acknowledges them over a connection that was lost, which ends the worker with an
    `AttributeError` (docs/decisions/0006).
    """
    exchange = Exchange(name)  # type: ignore[no-untyped-call]
    return KombuQueue(name, exchange, routing_key=name, no_ack=True)  # type: ignore[no-untyped-call]


class UnacknowledgedRequest(Request):  # type: ignore[misc]  # Celery has no types
    """A message that left Redis when it was read, see `broker.make_celery`: there is nothing to acknowledge.

    Celery acknowledges all the same, and kombu asks Redis to forget what it never kept. Over a connection that was lost
    meanwhile this raises an `AttributeError`, which ends the worker.
    """

    def acknowledge(self) -> None:
        """Count as acknowledged, without a word to Redis."""
        self.acknowledged = True


class DoorbellTask(Task):  # type: ignore[misc]
    """The class of all tasks: each names the request class of its messages."""

    Request = UnacknowledgedRequest
