"""The doorbell over Celery: sends task messages without knowing the tasks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import redis
from botocore.exceptions import ClientError
from kombu.exceptions import ChannelError, ConnectionError, OperationalError  # noqa: A004 - kombu's

from dpiqa.broker import broker_error, broker_unavailable, require_files, require_no_eviction, tls_error
from dpiqa.broker_url import BrokerKind, BrokerUrl
from dpiqa.doorbell import Queue, Task
from dpiqa.errors import ConfigurationError, DpiqaError
from dpiqa.objects.faults import FAULT_OF_CLASS, VENDOR_ERRORS, Fault, fault_of
from dpiqa.text import reason_of

from .broker import celery_settings
from .transports import BrokerApp

#: A message that cannot be sent is not a loss: fail at once instead of trying for seconds.
_FAIL_SOON = {
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.1,
    "retry_on_timeout": False,
    # Seconds, of a server that says nothing, while a caller of the API waits: Redis, then RabbitMQ.
    "socket_timeout": 5,
    "read_timeout": 5,
    "write_timeout": 5,
}
_REFUSALS = frozenset({403, 530})  #: of AMQP: wrong login or no right, and no such virtual host
_FINAL = frozenset({Fault.CREDENTIALS, Fault.DENIED, Fault.REGION})


class CeleryDoorbell:
    """See `dpiqa.doorbell.Doorbell`. Thread-safe; connects when it first rings, and again after a loss."""

    def __init__(self, broker_url: BrokerUrl) -> None:
        require_files(broker_url)
        self._url = broker_url
        self._app = BrokerApp()
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

    def explain(self, explanation: int) -> None:
        """Announce an explanation that waits: to the students, and before submitted work, as a person waits for it."""
        self._send(Task.EXPLAIN, [explanation], Queue.LIVE)

    def report(self, report: int) -> None:
        """Announce a report that is due."""
        self._send(Task.REPORT, [report], Queue.MAINTENANCE)

    def check(self) -> None:
        """Connect once, and ask for the length of a queue."""
        if self._url.is_redis:
            require_no_eviction(self._url)
        with _translated(lasting), self._connection() as connection:
            _depth(connection, Queue.LIVE)

    def depth(self, queue: Queue) -> int:
        """Return how many messages wait in the queue; those that a worker holds are not counted."""
        with _translated(broker_unavailable), self._connection() as connection:
            return _depth(connection, queue)

    def close(self) -> None:
        """Close the connections."""
        self._app.close()

    def _send(self, task: Task, args: list[object], queue: Queue) -> None:
        with _translated(broker_unavailable), self._connection() as connection:
            producer = self._app.amqp.Producer(connection, auto_declare=False)
            self._app.send_task(
                task.value, args=args, queue=queue.value, ignore_result=True, retry=False, producer=producer
            )

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        """Lend a connection to one thread. One of RabbitMQ is dropped after an error, without a word to the server.

        A late answer would be taken for that to the next request; and a dead link answers no farewell.
        """
        with self._app.connection_or_acquire() as connection:
            try:
                yield connection
            except Exception:
                if self._url.kind is BrokerKind.RABBITMQ:
                    connection.collect()
                raise


def _depth(connection: Any, queue: Queue) -> int:
    try:
        return int(connection.default_channel.queue_declare(queue.value, passive=True).message_count)
    except ChannelError as error:
        if str(error.reply_code) == "404":
            return 0  # Redis has no empty lists: a missing queue is an empty one
        raise


@contextmanager
def _translated(to_ours: Callable[[Exception], DpiqaError]) -> Iterator[None]:
    try:
        yield
    except (OperationalError, ConnectionError, ChannelError, redis.RedisError, *VENDOR_ERRORS) as error:
        raise to_ours(error) from error


def lasting(error: Exception) -> DpiqaError:
    """Return our error for one of a broker: `ConfigurationError` where it refuses this process for good."""
    if (tls := tls_error(error)) is not None:
        return tls
    cause: BaseException | None = error
    while cause is not None:
        is_aws = isinstance(cause, ClientError) or type(cause) in FAULT_OF_CLASS
        if getattr(cause, "reply_code", None) in _REFUSALS or (is_aws and fault_of(cast("Exception", cause)) in _FINAL):
            hint = "correct DPIQA_BROKER_URL, or give the user the rights in docs/brokers.md"
            return ConfigurationError(f"the broker refused this process: {reason_of(cause)}", hint=hint)
        cause = cause.__cause__ or cause.__context__
    return broker_error(error) if isinstance(error, redis.RedisError) else broker_unavailable(error)
