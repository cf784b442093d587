"""Celery over Redis: the settings of workers and doorbells."""

from typing import Any, ClassVar

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
    """Makes BRPOP ask the queues in the order of `Queue`: `live` is empty before `bulk` is read."""

    _ORDER: ClassVar = {queue.value: index for index, queue in enumerate(Queue)}

    def consume(self, n: int) -> list[str]:
        """Return the first `n` queue names, in serving order."""
        return sorted(self.items[:n], key=lambda name: (self._ORDER.get(name, len(self._ORDER)), name))


def celery_settings(broker_url: str) -> dict[str, Any]:
    """Return the settings of a Celery app."""
    return {
        "broker_url": broker_url,
        "task_queues": [_unacknowledged_queue(queue.value) for queue in Queue],
        "task_ignore_result": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_create_missing_queues": True,
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,  # a message is taken when a thread is free for it, and not before
        "worker_send_task_events": True,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_soft_shutdown_timeout": 45,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": TRANSPORT_OPTIONS,
    }


def _unacknowledged_queue(name: str) -> KombuQueue:
    """Return a queue whose messages are gone once they are read.

    The database records what waits, and the feeder rings again, so the broker need not keep anything. Retained messages
    cause crashes: kombu puts them back and acknowledges them over a connection that was lost, which ends the worker
    with an `AttributeError` (docs/decisions/0006).
    """
    exchange = Exchange(name)  # type: ignore[no-untyped-call]
    return KombuQueue(name, exchange, routing_key=name, no_ack=True)  # type: ignore[no-untyped-call]
