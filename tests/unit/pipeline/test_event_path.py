"""The checks of the way of events, on answers that the embedded servers do not give."""

import pytest
from botocore.exceptions import ClientError

from dpiqa.addresses import S3Address
from dpiqa.errors import ConfigurationError, StoreUnavailable
from dpiqa.objects.notifications import CREATED, REMOVED, BucketEvents, Unreadable, rules_of
from dpiqa.objects.queue_policy import statement_for, with_statement
from dpiqa.objects.sqs import EventsQueue, QueueAttributes
from dpiqa.pipeline.event_path import EventPath
from dpiqa.settings import load_settings

ARN = "arn:aws:sqs:eu-west-1:111122223333:events"
TOPIC = "arn:aws:sns:eu-west-1:111122223333:topic"
POLICY = with_statement(None, statement_for("photos", ARN, "111122223333"))
QUEUE = QueueAttributes(ARN, POLICY, None)
RULE = {"Id": "r", "QueueArn": ARN, "Events": [CREATED, REMOVED]}


@pytest.fixture
def examine(monkeypatch):
    """Give a function that examines a bucket on AWS with this configuration and this queue."""

    def examine(configuration, queue=QUEUE, **options):
        def attributes(_):
            if isinstance(queue, Exception):
                raise queue
            return queue

        monkeypatch.setattr(BucketEvents, "read", lambda *_: configuration)
        monkeypatch.setattr(EventsQueue, "attributes", attributes)
        url = "https://sqs.eu-west-1.amazonaws.com/111122223333/events"
        found = EventPath(load_settings(queue_url=url), S3Address("photos", "in/"), **options).examine()
        return found, {check.part: check for check in found.checks}

    return examine


def test_all_is_well(examine):
    found, checks = examine({"QueueConfigurations": [RULE]})
    assert {part: check.verdict for part, check in checks.items()} == dict.fromkeys(
        ("creations", "removals", "queue policy"), "ok"
    )
    assert not found.changes


def test_on_aws_expirations_are_announced_too(examine):
    found, _ = examine({})
    (rule,) = rules_of(found.notification)
    assert rule.events == {CREATED, REMOVED, "s3:LifecycleExpiration:*"}
    theirs = {"TopicArn": TOPIC, "Events": ["s3:LifecycleExpiration:Delete"]}
    found, _ = examine({"TopicConfigurations": [theirs]})
    assert next(rule.events for rule in rules_of(found.notification)) == {CREATED, REMOVED}


def test_a_server_without_notifications_cannot_be_checked(examine):
    found, checks = examine(Unreadable("this server does not have the request", is_unsupported=True))
    assert (checks["notification"].verdict, found.notification) == ("unknown", None)
    assert "cannot be checked" in checks["notification"].message


@pytest.mark.parametrize(
    "configuration",
    [{"TopicConfigurations": [{"TopicArn": TOPIC, "Events": [CREATED, REMOVED]}]}, {"EventBridgeConfiguration": {}}],
)
def test_events_that_go_elsewhere_first_are_not_judged(examine, configuration):
    found, checks = examine(configuration)
    assert {checks["creations"].verdict, checks["removals"].verdict} == {"unknown"}
    assert "the probe tells" in checks["creations"].message
    assert found.notification is None


def test_a_rule_for_some_keys_is_named(examine):
    _, checks = examine({"QueueConfigurations": [{**RULE, "Events": [CREATED, "s3:ObjectRemoved:Delete"]}]})
    assert (checks["creations"].verdict, checks["removals"].verdict) == ("ok", "failed")
    assert "rule r" in checks["removals"].message


@pytest.mark.parametrize(
    ("queue", "part", "verdict", "words"),
    [
        (QueueAttributes(ARN + ".fifo", POLICY, None), "queue policy", "failed", "FIFO"),
        (QueueAttributes(ARN, POLICY, "alias/aws/sqs"), "queue key", "failed", "AWS's own KMS key"),
        (QueueAttributes(ARN, None, None), "queue policy", "failed", "does not let S3 send events of photos"),
        (ConfigurationError("there is no queue x", hint="check"), "queue", "failed", "there is no queue x"),
        (StoreUnavailable("SQS does not answer", hint="check"), "queue", "unknown", "SQS does not answer"),
    ],
)
def test_queues_that_get_nothing(examine, queue, part, verdict, words):
    _, checks = examine({"QueueConfigurations": [RULE]}, queue)
    assert checks[part].verdict == verdict
    assert words in checks[part].message


def test_another_account_owns_the_bucket(examine):
    _, checks = examine({"QueueConfigurations": [RULE]}, account="444455556666")
    assert "account 444455556666" in checks["queue policy"].message


@pytest.mark.parametrize(
    ("code", "status", "is_unsupported"),
    [
        ("NotImplemented", 501, True),
        ("x", 501, True),
        ("MethodNotAllowed", 405, True),
        ("AccessDenied", 403, False),
        ("InvalidArgument", 400, False),
    ],
)
def test_refusals_of_servers(monkeypatch, code, status, is_unsupported):
    events = BucketEvents(load_settings())
    response = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}

    def refuse(**_):
        raise ClientError(response, "GetBucketNotificationConfiguration")

    monkeypatch.setattr(events._client, "get_bucket_notification_configuration", refuse)
    assert events.read("photos").is_unsupported is is_unsupported


def test_a_bucket_that_is_missing_is_an_error(monkeypatch):
    events = BucketEvents(load_settings())

    def refuse(**_):
        raise ClientError({"Error": {"Code": "NoSuchBucket"}, "ResponseMetadata": {"HTTPStatusCode": 404}}, "x")

    monkeypatch.setattr(events._client, "get_bucket_notification_configuration", refuse)
    with pytest.raises(ConfigurationError, match="there is no bucket photos"):
        events.read("photos")
