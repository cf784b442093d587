"""The doorbell over Celery: sends task messages without knowing the tasks."""

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from kombu.exceptions import ChannelError, OperationalError

from dpiqa.broker import broker_unavailable
from dpiqa.doorbell import Queue, Task

from .broker import TRANSPORT_OPTIONS, make_celery

#: A bell that cannot ring is no loss: say so at once instead of trying for seconds.
_FAIL_SOON = {
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.1,
    "retry_on_timeout": False,
}


class CeleryDoorbell:
    """See `dpiqa.doorbell.Doorbell`. Thread-safe; connects when it is first rung, and again after a loss."""

    def __init__(self, broker_url: str) -> None:
        self._app = make_celery(broker_url)
        self._app.conf.broker_transport_options = TRANSPORT_OPTIONS | _FAIL_SOON

    def score(self, queue: Queue, item_ids: list[int]) -> None:
        """Say that these items wait."""
        self._send(Task.SCORE, [item_ids], queue)

    def expand(self, job_id: str) -> None:
        """Say that a job waits to be listed."""
        self._send(Task.EXPAND, [str(job_id)], Queue.MAINTENANCE)

    def prepare(self, requirement: int) -> None:
        """Say that a requirement waits to be checked."""
        self._send(Task.PREPARE, [requirement], Queue.MAINTENANCE)

    def depth(self, queue: Queue) -> int:
        """Messages waiting in the queue; those that a worker holds are not counted."""
        with _mapped(), self._app.connection_or_acquire() as connection:
            try:
                return int(connection.default_channel.queue_declare(queue.value, passive=True).message_count)
            except ChannelError:  # Redis has no empty lists: no such queue is an empty queue
                return 0

    def close(self) -> None:
        """Close the connections."""
        self._app.close()

    def _send(self, task: Task, args: list[object], queue: Queue) -> None:
        with _mapped():
            self._app.send_task(task.value, args=args, queue=queue.value, ignore_result=True, retry=False)


@contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except (OperationalError, redis.RedisError, OSError) as error:
        raise broker_unavailable(error) from error
