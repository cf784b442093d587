"""Messages of the broker: only doorbells reach a task, in a form that this module writes.

Whoever may write to the broker may send anything. What is not a doorbell is dropped with one line in the log and
counted; nothing of a message but the name of its task and its one argument is used.
"""

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import structlog
from kombu.message import Message
from kombu.transport.virtual import Base64
from kombu.utils.json import loads

from dpiqa.doorbell import Queue, Task
from dpiqa.pipeline import metrics
from dpiqa.text import shorten

log = structlog.get_logger()

MAX_MESSAGE_BYTES = 4 * 1024**2  #: a doorbell of 32 items has about 1,400


class MalformedMessage(Exception):
    """A message that is not a doorbell; `reason` is a label of the metric."""

    def __init__(self, reason: str, queue: str = "") -> None:
        super().__init__(reason)
        self.reason, self.queue = reason, queue


def drop(queue: str, error: MalformedMessage, **context: object) -> None:
    """Log and count a message that is dropped; a queue that only the message itself names is not repeated."""
    queue = queue if queue in {*Queue, "broadcast"} else "unknown"
    metrics.DROPPED_MESSAGES.labels(queue, error.reason).inc()
    log.warning("message_dropped", queue=queue, reason=error.reason, **context)


def require_envelope(raw: bytes | str) -> None:
    """Raise `MalformedMessage` unless kombu can read this text of a Redis list or an SQS message."""
    if len(raw) > MAX_MESSAGE_BYTES:
        raise MalformedMessage("too_large")
    try:
        text = raw.decode() if isinstance(raw, bytes) else raw
        payload = loads(text)
    except Exception:  # JSON, UTF-8, kombu's own types in JSON, and too many brackets
        raise MalformedMessage("not_json") from None
    properties = payload.get("properties") if isinstance(payload, dict) else None
    if not isinstance(properties, dict) or not isinstance(payload.get("headers"), dict):
        raise MalformedMessage("not_a_task")
    if not isinstance(properties.get("delivery_tag"), str) or not isinstance(properties.get("delivery_info"), dict):
        raise MalformedMessage("not_a_task")
    if payload["headers"].get("compression"):
        raise MalformedMessage("content_type")  # a small message may become a large one
    try:
        match properties.get("body_encoding"), payload.get("body"):
            case "base64", str(body):
                Base64().decode(body)
            case None, str():
                pass
            case _:
                raise MalformedMessage("not_a_task")
    except ValueError:
        raise MalformedMessage("not_a_task") from None


def require_doorbell(message: Message) -> None:
    """Reduce a received message to a doorbell. Raises `MalformedMessage` where it is none."""
    task, argument = _read(message)
    task_id = message.headers.get("id")
    if not isinstance(task_id, str):
        raise MalformedMessage("not_a_task")
    message.headers = {"lang": "py", "task": task.value, "id": shorten(task_id, 64), "argsrepr": "", "kwargsrepr": ""}
    kept = {name: message.properties[name] for name in ("delivery_tag", "delivery_info") if name in message.properties}
    message.properties = {"correlation_id": message.headers["id"], **kept}
    message.body = json.dumps([[argument], {}, {}])


def _read(message: Message) -> tuple[Task, Any]:
    """Return the task and its argument."""
    if not isinstance(message.headers, dict) or not isinstance(message.headers.get("task"), str):
        raise MalformedMessage("not_a_task")
    if message.headers["task"] not in set(Task):
        raise MalformedMessage("unknown_task")
    if message.content_type != "application/json":
        raise MalformedMessage("content_type")
    if len(message.body or "") > MAX_MESSAGE_BYTES:
        raise MalformedMessage("too_large")
    try:
        arguments, keywords, _ = json.loads(message.body)
    except (ValueError, TypeError, RecursionError):
        raise MalformedMessage("not_json") from None
    task = Task(message.headers["task"])
    if keywords != {} or not isinstance(arguments, list) or len(arguments) != 1 or not _IS[task](arguments[0]):
        raise MalformedMessage("arguments")
    return task, arguments[0]


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_id, value))


def _is_uuid(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(UUID(value))
    except ValueError:
        return False


#: Checks of the one argument of each task.
_IS: dict[Task, Callable[[Any], bool]] = {
    Task.SCORE: _are_ids,
    Task.EXPAND: _is_uuid,
    Task.PREPARE: _is_id,
    Task.RECONCILE: _is_uuid,
    Task.EXPLAIN: _is_id,
    Task.REPORT: _is_id,
}
