"""Notifications of a bucket: whether they cover a prefix, and the configuration that would. `BucketEvents` has the I/O.

A configuration is the document of GetBucketNotificationConfiguration: lists of rules per kind of target, and whether
EventBridge is told. S3 refuses two rules whose keys and events overlap, whatever their targets.
"""

import copy
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.config import Config

from dpiqa.errors import Conflict
from dpiqa.objects.aws import make_client
from dpiqa.objects.faults import VENDOR_ERRORS, Fault, bucket_error, describe, error_code, fault_of
from dpiqa.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Document = Mapping[str, Any]
CREATED, REMOVED, EXPIRED = "s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:LifecycleExpiration:*"
#: The parts of what an event name with `*` stands for, which together are as good.
_PARTS = {
    CREATED: {f"s3:ObjectCreated:{name}" for name in ("Put", "Post", "Copy", "CompleteMultipartUpload")},
    REMOVED: {f"s3:ObjectRemoved:{name}" for name in ("Delete", "DeleteMarkerCreated")},
    EXPIRED: {f"s3:LifecycleExpiration:{name}" for name in ("Delete", "DeleteMarkerCreated")},
}
#: Lists of rules in a configuration -> the name of the target's ARN in their rules.
_TARGETS = {
    "QueueConfigurations": "QueueArn",
    "TopicConfigurations": "TopicArn",
    "LambdaFunctionConfigurations": "LambdaFunctionArn",
}
#: Codes of servers that do not have the request at all.
_NO_SUCH_CALL = frozenset(
    {"NotImplemented", "XNotImplemented", "MethodNotAllowed", "UnsupportedOperation", "501", "405"}
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a configuration."""

    id: str
    target: str  #: ARN
    events: frozenset[str]
    prefix: str
    suffix: str

    def covers(self, prefix: str, event: str) -> bool:
        """Return whether it announces this kind of event for all keys with the prefix."""
        has_event = event in self.events or _PARTS[event] <= self.events
        return has_event and not self.suffix and prefix.startswith(self.prefix)

    def overlaps(self, prefix: str, events: Iterable[str]) -> bool:
        """Return whether some key with the prefix has one of these events announced by it."""
        touches = prefix.startswith(self.prefix) or self.prefix.startswith(prefix)
        return touches and any({event, *_PARTS[event]} & self.events for event in events)

    def __str__(self) -> str:
        keys = f"{self.prefix}*{self.suffix}"
        return f"rule {self.id or 'without an id'} ({keys}: {', '.join(sorted(self.events))} to {self.target})"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A document that this server or these credentials do not show."""

    reason: str
    is_unsupported: bool  #: the server has no such request


def rules_of(configuration: Document) -> Iterator[Rule]:
    """Yield the rules of a configuration."""
    for name, arn in _TARGETS.items():
        for entry in configuration.get(name, []):
            filters = entry.get("Filter", {}).get("Key", {}).get("FilterRules", [])
            values = {str(rule["Name"]).lower(): str(rule.get("Value", "")) for rule in filters}
            yield Rule(
                id=entry.get("Id", ""),
                target=entry[arn],
                events=frozenset(entry.get("Events", [])),
                prefix=values.get("prefix", ""),
                suffix=values.get("suffix", ""),
            )


def has_eventbridge(configuration: Document) -> bool:
    """Return whether all events of the bucket go to EventBridge."""
    return configuration.get("EventBridgeConfiguration") is not None


def with_rule(configuration: Document, prefix: str, target: str, events: Iterable[str]) -> dict[str, Any]:
    """Return the configuration with a rule for these events of a prefix, and all other rules as they were.

    Rules with the same target and no suffix give way to the new one, which has their events too: one for the same
    prefix, and those for a part of its keys and some of its events. Raises `Conflict`, which names the rule, for
    another one that overlaps: S3 would refuse it.
    """
    names = set(events)
    made = copy.deepcopy({name: value for name, value in configuration.items() if name != "ResponseMetadata"})
    for entry in (entry for kind in _TARGETS for entry in made.get(kind, [])):
        for condition in entry.get("Filter", {}).get("Key", {}).get("FilterRules", []):
            condition["Name"] = condition["Name"].lower()  # S3 answers `Prefix` and documents `prefix`
    kind, kept = _kind_of(target), []
    for entry, rule in zip(made.get(kind, []), rules_of({kind: made.get(kind, [])}), strict=True):
        is_part = rule.prefix == prefix or (
            rule.prefix.startswith(prefix) and rule.overlaps(prefix, names & _PARTS.keys())
        )
        if rule.target == target and not rule.suffix and is_part:
            names |= rule.events
        else:
            kept.append(entry)
    made[kind] = kept
    for rule in rules_of(made):
        if rule.overlaps(prefix, names & _PARTS.keys()):
            raise Conflict(
                f"the bucket's {rule} overlaps with the keys {prefix}*",
                hint="S3 permits one rule per key and event: change that rule, or let it send to an SNS topic or to "
                "EventBridge, and subscribe the queue there",
            )
    filters = {"Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": prefix}]}}} if prefix else {}
    covered = {part for name in names & _PARTS.keys() for part in _PARTS[name]}
    made[kind] = [
        *kept,
        {"Id": _new_id(made, prefix), _TARGETS[kind]: target, "Events": sorted(names - covered), **filters},
    ]
    return made


def _new_id(configuration: Document, prefix: str) -> str:
    """Return an id for a rule that no other rule of the configuration has."""
    ids = {rule.id for rule in rules_of(configuration)}
    name = f"dpiqa {prefix}".strip()[:250]
    return next(new for number in itertools.count() if (new := f"{name} {number or ''}".strip()) not in ids)


def _kind_of(target: str) -> str:
    """Return the list that rules with this target are in. MinIO's own targets look like queues."""
    service = target.split(":")[2] if target.count(":") >= 3 else ""
    return {"sns": "TopicConfigurations", "lambda": "LambdaFunctionConfigurations"}.get(service, "QueueConfigurations")


class BucketEvents:
    """Reads and writes the notification configuration of buckets, and puts and deletes probe objects.

    Methods raise `ConfigurationError` for a bucket that does not exist, and `StoreUnavailable`.
    """

    def __init__(self, settings: Settings) -> None:
        config = Config(
            connect_timeout=5,
            read_timeout=15,
            retries={"mode": "standard", "max_attempts": 3},
            s3={"addressing_style": "path" if settings.s3_endpoint_url else "auto"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        self._client: S3Client = make_client("s3", settings, config)

    def read(self, bucket: str) -> dict[str, Any] | Unreadable:
        """Return the bucket's notification configuration."""
        try:
            response: Any = self._client.get_bucket_notification_configuration(Bucket=bucket)
        except VENDOR_ERRORS as error:
            return _unreadable(error, bucket, "s3:GetBucketNotification")
        return {name: value for name, value in response.items() if name != "ResponseMetadata"}

    def write(self, bucket: str, configuration: Document) -> Unreadable | None:
        """Replace the configuration. S3 sends a test message to each target and refuses one that it cannot reach."""
        document: Any = configuration
        try:
            self._client.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=document)
        except VENDOR_ERRORS as error:
            return _unreadable(error, bucket, "s3:PutBucketNotification")
        return None

    def put_probe(self, bucket: str, key: str) -> str | Unreadable | None:
        """Put a small object that is not an image; return its version id, if the bucket has versions."""
        try:
            response: Any = self._client.put_object(Bucket=bucket, Key=key, Body=b"dpiqa tests its events\n")
        except VENDOR_ERRORS as error:
            return _unreadable(error, bucket, "s3:PutObject")
        version_id = response.get("VersionId")
        return version_id if version_id != "null" else None

    def delete_probe(self, bucket: str, key: str, version_id: str | None) -> Unreadable | None:
        """Delete it, in a bucket with versions without a trace."""
        versioned: dict[str, Any] = {"VersionId": version_id} if version_id else {}
        try:
            self._client.delete_object(Bucket=bucket, Key=key, **versioned)
        except VENDOR_ERRORS as error:
            return _unreadable(error, bucket, "s3:DeleteObject")
        return None


def _unreadable(error: Exception, bucket: str, permission: str) -> Unreadable:
    """Return why a request was refused. Raises our error for a bucket that does not exist and for an outage."""
    response: Any = getattr(error, "response", None) or {}
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if error_code(error) in _NO_SUCH_CALL or status in (405, 501):
        return Unreadable("this server does not have the request", is_unsupported=True)
    if fault_of(error) is Fault.DENIED:
        return Unreadable(f"{describe(error)}: it takes {permission}", is_unsupported=False)
    if status == 400 and fault_of(error) is Fault.REFUSED:  # refused for what it says, such as a target
        return Unreadable(describe(error), is_unsupported=False)
    raise bucket_error(error, bucket) from None
