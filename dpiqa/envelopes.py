"""Envelopes of storage events: what SNS, SQS, Lambda, EventBridge Pipes and API Gateway put around them. Pure.

| envelope | shape | event |
|---|---|---|
| SNS | `{"Type": "Notification", "Message": "..."}` | in `Message` |
| Lambda, of an SNS topic | `{"Records": [{"EventSource": "aws:sns", "Sns": {"Message": "..."}}]}` | in `Sns.Message` |
| Lambda, of an SQS queue | `{"Records": [{"eventSource": "aws:sqs", "body": "..."}]}` | in `body` |
| EventBridge Pipes | `[{"eventSource": "aws:sqs", "body": "..."}]`, or a batch of events | in `body`, or each |
| Lambda, a destination | `{"requestPayload": {...}}` | in `requestPayload` |
| API Gateway, Lambda URL | `{"requestContext": {...}, "body": "...", "isBase64Encoded": false}` | in `body` |
"""

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from typing import Any

MAX_DEPTH = 6  #: envelopes within envelopes
#: Events of other services, by a key that only they have, with what they are called.
_OTHERS = {
    "specversion": "a CloudEvents event",
    "eventType": "an Azure Event Grid event",
    "subscription": "a Google Pub/Sub message",
    "kinesis": "a record of a Kinesis stream",
    "dynamodb": "a record of a DynamoDB stream",
    "selfLink": "a Google Cloud Storage notification",
}


class NotUnderstoodError(Exception):
    """This body, or this part of one, is none of the known envelopes and events; the message says what it is."""


def opened(value: Any, depth: int = 0) -> Iterator[Mapping[str, Any] | NotUnderstoodError]:
    """Yield the events inside a JSON value: notifications of one record each, EventBridge and test events.

    Parts that are not understood are yielded as errors, so that they cost the others nothing.
    """
    try:
        if depth > MAX_DEPTH:
            raise NotUnderstoodError("too many envelopes within each other")
        if isinstance(value, list):
            for element in value:
                yield from opened(element, depth + 1)
        elif not isinstance(value, Mapping):
            raise NotUnderstoodError("malformed record" if depth else "the event is not a JSON object")
        elif (inside := _inside(value)) is not None:
            yield from opened(inside, depth + 1)
        else:
            yield _event(value)
    except NotUnderstoodError as error:
        yield error


def _inside(value: Mapping[str, Any]) -> Any:
    """Return what an envelope holds; None for an event. Raises `NotUnderstoodError`."""
    kind = value.get("Type")
    if kind in ("SubscriptionConfirmation", "UnsubscribeConfirmation"):
        raise NotUnderstoodError(
            f"SNS asks for a {kind}: open its SubscribeURL, or let the topic send to an SQS queue, which needs none"
        )
    sns = value.get("Sns")
    for holder in (value if kind == "Notification" else None, sns):
        if isinstance(holder, Mapping) and isinstance(holder.get("Message"), str):
            return _loaded(holder["Message"])
    if isinstance(value.get("requestPayload"), Mapping):
        return value["requestPayload"]
    source = value.get("eventSource")
    if isinstance(value.get("body"), str) and (source == "aws:sqs" or "requestContext" in value):
        return _loaded(value["body"], is_base64=value.get("isBase64Encoded") is True)
    records = value.get("Records")
    return records if isinstance(records, list) and records else None


def _event(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an event. Raises `NotUnderstoodError`."""
    if "s3" in value or "eventName" in value:
        return {"Records": [value]}
    if value.get("Event") == "s3:TestEvent" or "detail-type" in value or value.get("Records") == []:
        return value
    for key, name in _OTHERS.items():
        if key in value:
            raise NotUnderstoodError(f"{name}: only events of S3 and of servers that speak its protocol are read")
    source = value.get("eventSource", value.get("EventSource"))
    if source is not None:
        raise NotUnderstoodError(f"unknown source {str(source)[:64]!r}")
    raise NotUnderstoodError("the event has neither Records nor detail-type")


def _loaded(text: str, *, is_base64: bool = False) -> Any:
    try:
        return json.loads(base64.b64decode(text, validate=True) if is_base64 else text)
    except (ValueError, binascii.Error, RecursionError):
        raise NotUnderstoodError("the message in the envelope is not JSON") from None
