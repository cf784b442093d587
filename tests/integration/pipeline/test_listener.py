import json

import pytest
from support.photos import png

from dpiqa.doorbell import Queue
from dpiqa.errors import ConfigurationError, DatabaseUnavailable
from dpiqa.objects.sqs import EventsQueue
from dpiqa.pipeline.listener import MAX_RECEIVES, Listener
from dpiqa.profiles import load_profile
from dpiqa.settings import load_settings
from dpiqa.storage.engine import make_engine


@pytest.fixture
def listen(archive, s3, sqs_queue):
    """Give a `Listener` on the bucket's queue, and how many messages are left in it."""
    while s3.messages():  # the test event
        pass
    settings = load_settings(**s3.settings, profile="smoke")
    s3.sqs.set_queue_attributes(QueueUrl=sqs_queue, Attributes={"VisibilityTimeout": "0"})

    def make(engine=archive.engine):
        queue = EventsQueue(settings)
        listener = Listener(engine, archive.doorbell, queue, settings, load_profile("smoke"))
        listener._leave_malformed = queue.has_dead_letters()
        return listener

    return make


def left(s3):
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    attributes = s3.sqs.get_queue_attributes(QueueUrl=s3.queue_url, AttributeNames=names)["Attributes"]
    return sum(int(attributes[name]) for name in names)


def test_a_message_is_deleted_once_its_rows_are_there(archive, s3, listen):
    s3.put("a.png", png(0.1))
    assert listen().receive_once() >= 1
    assert len(archive.doorbell.rung(Queue.LIVE)) == 1
    assert left(s3) == 0


def test_a_message_stays_while_the_database_is_unavailable(archive, s3, listen):
    s3.put("a.png", png(0.1))
    listener = listen(make_engine("postgresql://nobody:x@127.0.0.1:1/none"))
    with pytest.raises(DatabaseUnavailable):
        listener.receive_once()
    assert left(s3) >= 1
    listen().receive_once()
    assert archive.rows("SELECT count(*) FROM items") == [(1,)]


def test_a_message_that_is_no_event_never_holds_up_the_others(archive, s3, listen):
    s3.sqs.send_message(QueueUrl=s3.queue_url, MessageBody="no event")
    s3.put("a.png", png(0.1))
    listener = listen()
    for _ in range(MAX_RECEIVES - 1):
        listener.receive_once()
    assert archive.rows("SELECT count(*) FROM items") == [(1,)]
    assert left(s3) == 1  # it is left for somebody to look at
    listener.receive_once()
    assert left(s3) == 0


def test_with_a_dead_letter_queue_a_bad_message_goes_there(archive, s3, listen):
    dead = s3.sqs.create_queue(QueueName=f"{s3.name}-dead")["QueueUrl"]
    arn = s3.sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "7"})
    s3.sqs.set_queue_attributes(QueueUrl=s3.queue_url, Attributes={"RedrivePolicy": policy})
    s3.sqs.send_message(QueueUrl=s3.queue_url, MessageBody="[]")
    listener = listen()
    for _ in range(MAX_RECEIVES + 1):
        listener.receive_once()
    assert left(s3) == 1
    while left(s3):
        listener.receive_once()
    assert s3.sqs.receive_message(QueueUrl=dead)["Messages"][0]["Body"] == "[]"
    s3.sqs.delete_queue(QueueUrl=dead)


def test_a_queue_that_is_missing_is_a_wrong_deployment(s3, sqs_queue):
    queue = EventsQueue(load_settings(**s3.settings | {"queue_url": sqs_queue + "-not"}))
    with pytest.raises(ConfigurationError, match="there is no queue"):
        queue.receive()
