"""The doorbell over Celery: sends task messages without knowing the tasks."""

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from celery import Celery
from kombu.exceptions import ChannelError, OperationalError

from dpiqa.broker import broker_unavailable
from dpiqa.broker_url import BrokerUrl
from dpiqa.doorbell import Queue, Task

from .broker import celery_settings
from .transports import BrokerAMQP

#: A message that cannot be sent is not a loss: fail at once instead of trying for seconds.
_FAIL_SOON = {
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.1,
    "retry_on_timeout": False,
}


class CeleryDoorbell:
    """See `dpiqa.doorbell.Doorbell`. Thread-safe; connects when it first rings, and again after a loss."""

    def __init__(self, broker_url: BrokerUrl) -> None:
        self._app = Celery("dpiqa", amqp=BrokerAMQP, set_as_current=False)
        self._app.conf.update(celery_settings(broker_url))
        self._app.conf.broker_transport_options |= _FAIL_SOON

    def score(self, queue: Queue, item_ids: list[int]) -> None:
        """Announce items that wait."""
        self._send(Task.SCORE, [item_ids], queue)

    def expand(self, job_id: str) -> None:
        """Announce a job that waits to be listed."""
        self._send(Task.EXPAND, [str(job_id)], Queue.MAINTENANCE)

    def prepare(self, requirement: int) -> None:
        """Announce a requirement that waits to be checked."""
        self._send(Task.PREPARE, [requirement], Queue.MAINTENANCE)

    def reconcile(self, reconciliation: str) -> None:
        """Announce a reconciliation that waits."""
        self._send(Task.RECONCILE, [reconciliation], Queue.MAINTENANCE)

    def report(self, report: int) -> None:
        """Announce a report that is due."""
        self._send(Task.REPORT, [report], Queue.MAINTENANCE)

    def depth(self, queue: Queue) -> int:
        """Return how many messages wait in the queue; those that a worker holds are not counted."""
        with _translated(), self._app.connection_or_acquire() as connection:
            try:
                return int(connection.default_channel.queue_declare(queue.value, passive=True).message_count)
            except ChannelError:  # Redis has no empty lists: a missing queue is an empty one
                return 0

    def close(self) -> None:
        """Close the connections."""
        self._app.close()

    def _send(self, task: Task, args: list[object], queue: Queue) -> None:
        with _translated():
            self._app.send_task(task.value, args=args, queue=queue.value, ignore_result=True, retry=False)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OperationalError, redis.RedisError, OSError) as error:
        raise broker_unavailable(error) from error
