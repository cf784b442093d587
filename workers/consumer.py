"""Celery's consumer, which passes on doorbells only, and ends the worker where the broker will never serve it."""

from collections.abc import Callable
from typing import Any

from celery.worker.consumer import Consumer

from dpiqa.broker import broker_error
from dpiqa.errors import ConfigurationError
from dpiqa.pipeline.startup import exit_with

from .messages import MalformedMessage, drop, require_doorbell


class DoorbellConsumer(Consumer):  # type: ignore[misc]  # Celery has no types
    """The consumer of a worker."""

    def create_task_handler(self, **options: Any) -> Callable[[Any], None]:
        """Return the function that takes every message of the queues."""
        handle = super().create_task_handler(**options)

        def take(message: Any) -> None:
            try:
                require_doorbell(message)
            except MalformedMessage as error:
                drop(message.delivery_info.get("routing_key", ""), error)
                message.ack_log_error(self.app.log.get_default_logger(), self.connection_errors)
            else:
                handle(message)

        return take

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Connect again, unless the user lacks a right."""
        ours = broker_error(exc)
        if isinstance(ours, ConfigurationError):
            exit_with(ours)
        super().on_connection_error_after_connected(exc)
