"""The SQS queue that a bucket notifies, with botocore's errors turned into ours."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from dpiqa.errors import ConfigurationError, StoreUnavailable
from dpiqa.objects.faults import describe
from dpiqa.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

WAIT_SECONDS = 5  #: of one long poll: short enough to stop soon after SIGTERM
_MISSING = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")
_DENIED = ("AccessDenied", "AccessDeniedException", "InvalidClientTokenId", "SignatureDoesNotMatch", "InvalidAddress")


@dataclass(frozen=True, slots=True)
class Message:
    """One message in our hands until its visibility time-out."""

    id: str
    body: str
    receipt: str
    receives: int  #: how often it was handed out, this time included


class EventsQueue:
    """Long-polls one SQS queue.

    All methods raise `StoreUnavailable` when SQS is away, `ConfigurationError` when there is no such queue or it is not
    ours to read.
    """

    def __init__(self, settings: Settings) -> None:
        self._url = settings.require_queue_url()
        self._client = _make_client(settings)

    def has_dead_letters(self) -> bool:
        """Whether the queue moves messages away that nobody deletes."""
        with _mapped(self._url):
            answer = self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=["RedrivePolicy"])
        policy = answer.get("Attributes", {}).get("RedrivePolicy") or "{}"
        return bool(json.loads(policy).get("deadLetterTargetArn"))

    def receive(self) -> list[Message]:
        """Wait up to `WAIT_SECONDS` for up to ten messages."""
        with _mapped(self._url):
            answer: Any = self._client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=10,
                WaitTimeSeconds=WAIT_SECONDS,
                AttributeNames=["ApproximateReceiveCount"],
            )
        return [_message(raw) for raw in answer.get("Messages", [])]

    def delete(self, messages: Sequence[Message]) -> None:
        """Delete up to ten messages. One that is not deleted comes back: harmless."""
        if not messages:
            return
        entries: Any = [{"Id": str(place), "ReceiptHandle": one.receipt} for place, one in enumerate(messages)]
        with _mapped(self._url):
            self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)


def _message(raw: Any) -> Message:
    receives = int(raw.get("Attributes", {}).get("ApproximateReceiveCount", 1))
    return Message(raw["MessageId"], raw["Body"], raw["ReceiptHandle"], receives)


def _make_client(settings: Settings) -> "SQSClient":
    keys: dict[str, Any] = {}
    if settings.aws_access_key_id and settings.aws_secret_access_key:
        keys = {
            "aws_access_key_id": settings.aws_access_key_id.get_secret_value(),
            "aws_secret_access_key": settings.aws_secret_access_key.get_secret_value(),
        }
    config = Config(connect_timeout=5, read_timeout=WAIT_SECONDS + 10, retries={"total_max_attempts": 1})
    try:
        session = boto3.session.Session(region_name=settings.aws_region, **keys)
        return session.client("sqs", endpoint_url=settings.sqs_endpoint_url, config=config)
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(
            f"no SQS client: {describe(error)}", hint="check DPIQA_SQS_ENDPOINT_URL, AWS_REGION and AWS_PROFILE"
        ) from None


@contextmanager
def _mapped(url: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code.endswith(_MISSING):
            raise ConfigurationError(f"there is no queue {url}", hint="check DPIQA_QUEUE_URL") from None
        if code in _DENIED:
            hint = "check DPIQA_QUEUE_URL and that our keys may receive and delete its messages"
            raise ConfigurationError(f"the queue refuses us: {describe(error)}", hint=hint) from None
        raise StoreUnavailable(f"SQS does not answer: {describe(error)}") from None
    except (BotoCoreError, OSError) as error:
        raise StoreUnavailable(f"SQS does not answer: {describe(error)}", hint="check DPIQA_SQS_ENDPOINT_URL") from None
