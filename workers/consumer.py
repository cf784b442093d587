"""Celery's consumer, which passes on doorbells only, and ends the worker where the broker will never serve it."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, ClassVar, cast

from celery.bootsteps import StartStopStep
from celery.utils.log import get_logger
from celery.worker.consumer import Consumer, Tasks

from dpiqa.errors import ConfigurationError
from dpiqa.pipeline.slots import CHUNKS_AT_ONCE
from dpiqa.pipeline.startup import exit_with
from dpiqa.watchdog import WATCHDOG

from .broker import acknowledges
from .doorbell import lasting
from .messages import MalformedMessage, drop, require_doorbell

logger = get_logger(__name__)


class WatchedStep(StartStopStep):  # type: ignore[misc]  # likewise
    """Lets the watchdog watch Celery's own loop while it is connected. Its timers run in that loop."""

    requires = (Tasks,)
    _BEAT_SECONDS = 5.0

    def __init__(self, consumer: Consumer, **_: Any) -> None:
        self._watched, self._timer = ExitStack(), cast("Any", None)
        super().__init__(consumer)

    def start(self, consumer: Consumer) -> None:
        """Watch, from the moment that messages are received."""
        loop = self._watched.enter_context(WATCHDOG.watch("messages", consumer.app.settings.loop_seconds))
        self._timer = consumer.timer.call_repeatedly(self._BEAT_SECONDS, loop.beat)

    def stop(self, consumer: Consumer) -> None:  # noqa: ARG002 - Celery's signature
        """Stop watching: the connection is lost, or the worker ends."""
        if self._timer is not None:
            self._timer.cancel()
        self._watched.close()


class DoorbellConsumer(Consumer):  # type: ignore[misc]  # Celery has no types
    """The consumer of a worker."""

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc]  # likewise
        """Celery's steps, and ours. Its delayed delivery declares 28 exchanges and queues, for tasks with a time."""

        default_steps: ClassVar = [
            *(step for step in Consumer.Blueprint.default_steps if not step.endswith(":DelayedDelivery")),
            WatchedStep,
        ]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if acknowledges(self.app.conf):
            # Of each queue of RabbitMQ, and of all of SQS: as many messages as chunks are in work at once.
            self.initial_prefetch_count = CHUNKS_AT_ONCE[self.app.settings.worker_stage]

    def create_task_handler(self, **options: Any) -> Callable[[Any], None]:
        """Return the function that takes every message of the queues."""
        handle = super().create_task_handler(**options)

        def take(message: Any) -> None:
            try:
                require_doorbell(message)
            except MalformedMessage as error:
                drop(message.delivery_info.get("routing_key", ""), error)
                if acknowledges(self.app.conf):
                    message.ack_log_error(logger, self.connection_errors)
            else:
                handle(message)

        return take

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Connect again, unless the user lacks a right."""
        ours = lasting(exc)
        if isinstance(ours, ConfigurationError):
            exit_with(ours)
        super().on_connection_error_after_connected(exc)
