"""The SQS queue that a bucket notifies."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from botocore.config import Config

from dpiqa.objects.aws import make_client
from dpiqa.objects.faults import queue_error, translated
from dpiqa.settings import Settings

WAIT_SECONDS = 5  #: of one long poll: short enough to stop soon after SIGTERM


@dataclass(frozen=True, slots=True)
class Message:
    """One message, hidden from other readers until its visibility time-out."""

    id: str
    body: str
    receipt: str
    receives: int  #: number of times it was received, including this one
    sent_at: float | None = None  #: when it was sent, by the clock of SQS: seconds since 1970; None: not told


@dataclass(frozen=True, slots=True)
class QueueAttributes:
    """The part of a queue's attributes that decides whether S3 can send to it."""

    arn: str
    policy: dict[str, Any] | None
    key: str | None  #: KMS key that encrypts its messages; None: none, or SQS's own

    @property
    def is_fifo(self) -> bool:
        """Return whether it is a FIFO queue, to which S3 sends nothing."""
        return self.arn.endswith(".fifo")


class EventsQueue:
    """Long-polls one SQS queue.

    All methods raise `StoreUnavailable` when SQS does not answer, `ConfigurationError` when the queue does not exist or
    may not be read.
    """

    def __init__(self, settings: Settings) -> None:
        self._url = settings.require_queue_url()
        config = Config(connect_timeout=5, read_timeout=WAIT_SECONDS + 10, retries={"total_max_attempts": 1})
        self._client = make_client("sqs", settings, config)
        self._translated = partial(translated, partial(queue_error, url=self._url))

    def has_dead_letters(self) -> bool:
        """Return whether the queue moves messages that are never deleted to another queue."""
        with self._translated():
            response = self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=["RedrivePolicy"])
        policy = response.get("Attributes", {}).get("RedrivePolicy") or "{}"
        return bool(json.loads(policy).get("deadLetterTargetArn"))

    def depth(self) -> int:
        """Return about how many messages wait in the queue."""
        with self._translated():
            response = self._client.get_queue_attributes(
                QueueUrl=self._url, AttributeNames=["ApproximateNumberOfMessages"]
            )
        return int(response["Attributes"]["ApproximateNumberOfMessages"])

    def attributes(self) -> QueueAttributes:
        """Return the queue's ARN, policy and key."""
        with self._translated():
            response: Any = self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=["All"])
        found = response.get("Attributes", {})
        policy = json.loads(found["Policy"]) if found.get("Policy") else None
        return QueueAttributes(found.get("QueueArn", ""), policy, found.get("KmsMasterKeyId") or None)

    def set_policy(self, policy: Mapping[str, Any]) -> None:
        """Replace the queue's policy."""
        with self._translated():
            self._client.set_queue_attributes(QueueUrl=self._url, Attributes={"Policy": json.dumps(policy)})

    def receive(self) -> list[Message]:
        """Wait up to `WAIT_SECONDS` for up to ten messages."""
        with self._translated():
            response: Any = self._client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=10,
                WaitTimeSeconds=WAIT_SECONDS,
                AttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
            )
        return [_message(raw) for raw in response.get("Messages", [])]

    def delete(self, messages: Sequence[Message]) -> None:
        """Delete up to ten messages. One that is not deleted comes back, which is harmless."""
        if not messages:
            return
        entries: Any = [{"Id": str(index), "ReceiptHandle": message.receipt} for index, message in enumerate(messages)]
        with self._translated():
            self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)


def _message(raw: Mapping[str, Any]) -> Message:
    attributes = raw.get("Attributes", {})
    sent = attributes.get("SentTimestamp")  # milliseconds
    return Message(
        id=raw["MessageId"],
        body=raw["Body"],
        receipt=raw["ReceiptHandle"],
        receives=int(attributes.get("ApproximateReceiveCount", 1)),
        sent_at=None if sent is None else int(sent) / 1000,
    )
