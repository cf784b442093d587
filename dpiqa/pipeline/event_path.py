"""The way of a bucket's events to us: checked, set up, and tested with a probe object."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import Engine

from dpiqa.addresses import S3Address
from dpiqa.errors import ConfigurationError, Conflict, StoreUnavailable
from dpiqa.objects import notifications, queue_policy
from dpiqa.objects.notifications import CREATED, EXPIRED, REMOVED, BucketEvents, Rule, Unreadable
from dpiqa.objects.sqs import EventsQueue, QueueAttributes
from dpiqa.settings import Settings
from dpiqa.storage.engine import transaction
from dpiqa.storage.watches import Probe, Watch, listener_is_connected, new_probe, read_probe
from dpiqa.types import Delivery

_POLL_SECONDS = 0.25
_MAX_KEY_BYTES = 1024
_PARTS = {"creations": CREATED, "removals": REMOVED}  #: names of checks -> the events that they are about
_VIA = {Delivery.QUEUE: "the queue", Delivery.HTTP: "POST /v1/events"}


class Verdict(StrEnum):
    """Result of one check."""

    OK = "ok"
    UNKNOWN = "unknown"  #: it cannot be checked here
    FAILED = "failed"  #: events are lost until it is changed


@dataclass(frozen=True, slots=True)
class Check:
    """One check of the way of the events: what was found in one sentence, and the next step."""

    part: str
    verdict: Verdict
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """The checks of a bucket and its queue, and the documents that would make them pass."""

    address: S3Address
    checks: list[Check] = field(default_factory=list)
    target: str | None  #: ARN to which the bucket is to send
    notification: dict[str, Any] | None = None  #: configuration to set; None: nothing to change, or nothing known
    policy: dict[str, Any] | None = None  #: policy of the queue to set; None as above

    @property
    def changes(self) -> bool:
        """Return whether there is something to set."""
        return self.notification is not None or self.policy is not None


class EventPath:
    """Examines and sets up the way of the events of one bucket and prefix.

    `target`: the ARN to which the bucket is to send, by default that of the settings' queue. `account`: the owner of
    the bucket, by default the owner of the queue.
    """

    def __init__(
        self, settings: Settings, address: S3Address, *, target: str | None = None, account: str | None = None
    ) -> None:
        self._bucket = BucketEvents(settings)
        self._queue = EventsQueue(settings) if settings.queue_url else None
        self._address, self._target, self._account = address, target, account
        self._is_aws = settings.s3_endpoint_url is None

    def examine(self) -> Examination:
        """Check the bucket's notification and the queue's policy.

        Raises `ConfigurationError` for a bucket that does not exist, and `StoreUnavailable`.
        """
        queue, checks = self._look_at_queue()
        target = self._target or (queue.arn if queue else None)
        found = Examination(address=self._address, checks=checks, target=target)
        configuration = self._bucket.read(self._address.bucket)
        if isinstance(configuration, Unreadable):
            found.checks.append(_unreadable("notification", configuration))
            wanted = None
        else:
            found.checks.extend(_of_rules(configuration, self._address.key, target))
            wanted = self._wanted_notification(configuration, found.checks, target)
        if queue is not None and target == queue.arn:
            account = self._account or queue_policy.account_of(queue.arn)
            found.checks.extend(_of_queue(queue, self._address.bucket, account, is_aws=self._is_aws))
            policy = self._wanted_policy(queue, account)
        else:
            policy = None
        return Examination(
            address=self._address, checks=found.checks, target=target, notification=wanted, policy=policy
        )

    def _look_at_queue(self) -> tuple[QueueAttributes | None, list[Check]]:
        """Return the queue's attributes, or a check that says why there are none."""
        if self._queue is None:
            return None, []
        try:
            return self._queue.attributes(), []
        except ConfigurationError as error:
            return None, [Check("queue", Verdict.FAILED, error.message, error.hint)]
        except StoreUnavailable as error:
            return None, [Check("queue", Verdict.UNKNOWN, error.message, error.hint)]

    def set_up(self, examination: Examination) -> list[Check]:
        """Set what the examination found missing, the policy first: S3 tests the target. Return what was refused."""
        refused = []
        if examination.policy is not None and self._queue is not None:
            try:
                self._queue.set_policy(examination.policy)
            except ConfigurationError as error:
                refused.append(Check("queue policy", Verdict.FAILED, error.message, "grant sqs:SetQueueAttributes"))
        if examination.notification is not None:
            problem = self._bucket.write(self._address.bucket, examination.notification)
            if problem is not None:
                refused.append(_unreadable("notification", problem, Verdict.FAILED))
        return refused

    def probe(self, engine: Engine, watch: Watch, seconds: float) -> Check:
        """Put an object under the prefix, delete it, and wait until the events of both were recorded."""
        with transaction(engine) as c:
            sent = new_probe(c, watch)
        if len(sent.key.encode()) > _MAX_KEY_BYTES:
            return Check("probe", Verdict.UNKNOWN, "the prefix is too long for a probe object", "upload an image")
        version = self._bucket.put_probe(sent.bucket, sent.key)
        if isinstance(version, Unreadable):
            hint = f"grant s3:PutObject and s3:DeleteObject on {self._address}.dpiqa-probe-*, or pass --no-probe"
            return Check("probe", Verdict.UNKNOWN, f"the probe object could not be put: {version.reason}", hint)
        left = self._bucket.delete_probe(sent.bucket, sent.key, version)
        if left is not None:
            hint = f"delete s3://{sent.bucket}/{sent.key} and grant s3:DeleteObject"
            return Check("probe", Verdict.FAILED, f"the probe object could not be deleted: {left.reason}", hint)
        return self._verdict(engine, _wait(lambda: _read(engine, sent), seconds), seconds)

    def _verdict(self, engine: Engine, seen: Probe, seconds: float) -> Check:
        if seen.created_seen_at and seen.removed_seen_at and seen.seen_via:
            took = (max(seen.created_seen_at, seen.removed_seen_at) - seen.sent_at).total_seconds()
            return Check("probe", Verdict.OK, f"both events arrived after {took:.1f} s, by {_VIA[seen.seen_via]}")
        if seen.created_seen_at or seen.removed_seen_at:
            came, missing = ("creation", REMOVED) if seen.created_seen_at else ("removal", CREATED)
            message = f"of the probe object only the event of its {came} arrived within {seconds:g} s"
            return Check("probe", Verdict.FAILED, message, f"have the bucket announce {missing} too")
        return Check("probe", Verdict.FAILED, *self._why_nothing_came(engine, seconds))

    def _why_nothing_came(self, engine: Engine, seconds: float) -> tuple[str, str]:
        """Return what is known about events that did not arrive, and the next step."""
        nothing = f"no event of the probe object arrived within {seconds:g} s"
        if self._queue is None:
            hint = "have the bucket's server post to /v1/events, or set DPIQA_QUEUE_URL and start `dpiqa listen`"
            return f"{nothing}, and no queue is configured", hint
        with transaction(engine) as c:
            listens = listener_is_connected(c)
        try:
            waiting = f"{self._queue.depth()} messages wait in the queue"
        except (ConfigurationError, StoreUnavailable) as error:
            return f"{nothing}: {error.message}", error.hint
        if listens is None:
            hint = "is `dpiqa listen` running? through a pooler its connection cannot be seen"
            return f"{nothing}; {waiting}", hint
        if not listens:
            return f"{nothing}: no listener is connected; {waiting}", "start `dpiqa listen`"
        hint = "a new notification can take minutes: repeat `dpiqa watches check`; else see docs/watches.md"
        return f"{nothing}, although a listener is connected; {waiting}", hint

    def _wanted_notification(
        self, configuration: notifications.Document, checks: list[Check], target: str | None
    ) -> dict[str, Any] | None:
        """Return the configuration that announces everything to the target; None where nothing is missing."""
        failed = [check.part for check in checks if check.verdict is Verdict.FAILED]
        events = [event for part, event in _PARTS.items() if part in failed]
        if target is None or not events:
            return None
        others = [rule for rule in notifications.rules_of(configuration) if rule.target != target]
        if self._is_aws and not any(rule.overlaps(self._address.key, [EXPIRED]) for rule in others):
            events.append(EXPIRED)
        try:
            return notifications.with_rule(configuration, self._address.key, target, events)
        except Conflict as error:
            checks.append(Check("notification", Verdict.FAILED, error.message, error.hint))
            return None

    def _wanted_policy(self, queue: QueueAttributes, account: str) -> dict[str, Any] | None:
        if queue_policy.permits(queue.policy, self._address.bucket, queue.arn, account):
            return None
        statement = queue_policy.statement_for(self._address.bucket, queue.arn, account)
        return queue_policy.with_statement(queue.policy, statement)


def _of_rules(configuration: notifications.Document, prefix: str, target: str | None) -> list[Check]:
    """Check that rules announce creations and removals of all keys under the prefix."""
    rules = list(notifications.rules_of(configuration))
    bridge = notifications.has_eventbridge(configuration)
    checks = []
    for part, event in _PARTS.items():
        covering = [rule for rule in rules if rule.covers(prefix, event)]
        partial = [rule for rule in rules if rule.overlaps(prefix, [event])]
        checks.append(_of_event(part, event, covering, partial, target=target, bridge=bridge))
    return checks


def _of_event(
    part: str, event: str, covering: list[Rule], partial: list[Rule], *, target: str | None, bridge: bool
) -> Check:
    to_us = [rule for rule in covering if rule.target == target]
    if to_us:
        return Check(part, Verdict.OK, f"{to_us[0]}")
    if covering:
        message = f"{covering[0]}: not the queue of DPIQA_QUEUE_URL; the probe tells whether they arrive"
        return Check(part, Verdict.UNKNOWN, message, "subscribe the queue there, or have it post to /v1/events")
    if bridge:
        message = "EventBridge is told of all events; the probe tells whether a rule of it sends them on"
        return Check(part, Verdict.UNKNOWN, message, "have an EventBridge rule send them to the queue or /v1/events")
    hint = "add --configure to set it, or apply the documents below"
    if partial:
        return Check(part, Verdict.FAILED, f"only some keys are announced: {partial[0]}", hint)
    return Check(part, Verdict.FAILED, f"the bucket does not announce {event}", hint)


def _of_queue(queue: QueueAttributes, bucket: str, account: str, *, is_aws: bool) -> list[Check]:
    """Check that S3 may and can send to the queue."""
    part = "queue policy"
    if queue.is_fifo:
        return [Check(part, Verdict.FAILED, "S3 does not send to FIFO queues", "use a standard queue")]
    checks = []
    if queue.key and queue.key.endswith("alias/aws/sqs"):
        message = "the queue is encrypted with AWS's own KMS key, which S3 may not use"
        checks.append(Check("queue key", Verdict.FAILED, message, "encrypt it with SSE-SQS, or a key that S3 may use"))
    if queue.policy is None and not is_aws:
        message = "the queue has no policy, and this server may need none: the probe tells"
        checks.append(Check(part, Verdict.UNKNOWN, message))
    elif not queue_policy.permits(queue.policy, bucket, queue.arn, account):
        message = f"the queue's policy does not let S3 send events of {bucket} (account {account}) to {queue.arn}"
        hint = "add --configure to set it, or apply the documents below"
        checks.append(Check(part, Verdict.FAILED, message, hint))
    elif queue_policy.denies(queue.policy):
        message = "the policy lets S3 send, and also denies: those statements are not evaluated here"
        checks.append(Check(part, Verdict.UNKNOWN, message, "the probe tells"))
    else:
        checks.append(Check(part, Verdict.OK, f"S3 may send events of {bucket} to {queue.arn}"))
    return checks


def _unreadable(part: str, problem: Unreadable, verdict: Verdict = Verdict.UNKNOWN) -> Check:
    if problem.is_unsupported:
        return Check(part, verdict, "it cannot be checked or set on this server", "set it with the server's own tools")
    return Check(part, verdict, problem.reason, "grant the permission, or apply the documents by hand")


def _read(engine: Engine, sent: Probe) -> Probe:
    with transaction(engine) as c:
        return read_probe(c, sent.id)


def _wait(read: Callable[[], Probe], seconds: float) -> Probe:
    """Read the probe until both of its events were recorded, or the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        probe = read()
        if (probe.created_seen_at and probe.removed_seen_at) or time.monotonic() >= deadline:
            return probe
        time.sleep(_POLL_SECONDS)
