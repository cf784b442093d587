"""What Celery knows of a message in hand."""

from celery.app.task import Task
from celery.worker.request import Request


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
