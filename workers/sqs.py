"""Kombu's transport over SQS, adapted to messages that nobody can read. Needs the extra `sqs`."""

from typing import Any

from kombu.transport import SQS

from .broker import ServingOrder
from .messages import MalformedMessage, drop, require_envelope

_PAUSE_SECONDS = 0.2  #: until a queue that was passed over is looked at again


class SqsChannel(SQS.Channel):  # type: ignore[misc]  # kombu has no types
    """A channel that deletes what is not a message, instead of ending the worker."""

    def _schedule_queue(self, queue: str) -> None:
        """Poll a queue, if its messages are to be taken now."""
        if ServingOrder.reads(queue):
            super()._schedule_queue(queue)
        else:
            self.hub.call_later(_PAUSE_SECONDS, self._schedule_queue, queue)

    def _on_messages_ready(self, queue: str, qname: str, messages: dict[str, Any]) -> Any:
        readable = []
        for message in messages.get("Messages") or ():
            try:
                require_envelope(self._decode_python_message_body(message["Body"]))
            except (MalformedMessage, ValueError) as error:
                drop(qname, error if isinstance(error, MalformedMessage) else MalformedMessage("not_json"))
                self._delete_message(qname, message)
            else:
                readable.append(message)
        return super()._on_messages_ready(queue, qname, {**messages, "Messages": readable})


class SqsTransport(SQS.Transport):  # type: ignore[misc]
    """SQS."""

    Channel = SqsChannel
