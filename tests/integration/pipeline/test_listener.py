import json
import time

import psycopg
import pytest
from prometheus_client import REGISTRY
from support.photos import png

from dpiqa.doorbell import Queue
from dpiqa.errors import ConfigurationError, DatabaseUnavailable, Unavailable
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


def shown(name):
    return REGISTRY.get_sample_value(name)


def test_the_lag_is_the_age_of_the_oldest_event_received(archive, s3, listen):
    s3.put("a.png", png(0.1))
    time.sleep(1.2)
    listener = listen()
    listener.receive_once()
    assert 1 < shown("dpiqa_listener_lag_seconds") < 60
    assert shown("dpiqa_event_queue_messages") == 1  # the one that it holds: the queue hides none here
    s3.sqs.send_message(QueueUrl=s3.queue_url, MessageBody="not an event")
    listener.receive_once()
    assert shown("dpiqa_listener_lag_seconds") == 0  # what is malformed stays, and is not lag


def test_a_message_stays_while_the_database_is_unavailable(archive, s3, listen):
    s3.put("a.png", png(0.1))
    listener = listen(make_engine("postgresql://nobody:x@127.0.0.1:1/none"))
    with pytest.raises(DatabaseUnavailable):
        listener.receive_once()
    assert left(s3) >= 1
    listen().receive_once()
    assert archive.rows("SELECT count(*) FROM items") == [(1,)]


def administer(url, statement):
    """Run a statement beside the listener, on a connection that may write."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as c:
        c.execute("SET default_transaction_read_only = off")
        c.execute(statement)


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ("ALTER DATABASE {} SET default_transaction_read_only = on", "ALTER DATABASE {} RESET ALL"),
        ("ALTER TABLE items RENAME TO items_elsewhere", "ALTER TABLE items_elsewhere RENAME TO items"),
    ],
)
def test_a_message_stays_however_often_the_database_refuses_it(archive, database_url, s3, listen, begin, end):
    """A failover, a full disk, a restore: five receives are over within seconds."""

    def alter(command):
        administer(database_url, command.format(archive.rows("SELECT current_database()")[0][0]))
        archive.engine.dispose()

    s3.put("a.png", png(0.1))
    listener = listen()
    alter(begin)
    for _ in range(MAX_RECEIVES + 2):
        with pytest.raises(DatabaseUnavailable):
            listener.receive_once()
    assert left(s3) == 1
    alter(end)
    listener.receive_once()
    assert left(s3) == 0
    assert archive.rows("SELECT count(*) FROM items") == [(1,)]


def refuse(url, sqlstate, key):
    """Let the database refuse one object with an error of its own."""
    body = f"BEGIN IF NEW.key = '{key}' THEN RAISE EXCEPTION 'so' USING ERRCODE = '{sqlstate}'; END IF; RETURN NEW; END"
    administer(url, f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$")
    administer(url, "CREATE TRIGGER refuse BEFORE INSERT ON images FOR EACH ROW EXECUTE FUNCTION refuse()")


@pytest.mark.parametrize("sqlstate", ["XX001", "22021", "23514", "ZZ999"])
def test_a_message_that_cannot_be_recorded_stays_and_holds_up_no_other(
    archive, database_url, s3, listen, sqlstate, capfd
):
    refuse(database_url, sqlstate, "bad.png")
    s3.put("bad.png", png(0.1))
    s3.put("good.png", png(0.2))
    listener = listen()
    for _ in range(MAX_RECEIVES + 2):
        with pytest.raises(Unavailable, match="could not be recorded now"):
            listener.receive_once()
    assert archive.rows("SELECT i.key FROM items JOIN images i ON i.id = image_id") == [("good.png",)]
    assert left(s3) == 1
    line = capfd.readouterr().out
    assert "event_kept" in line
    assert sqlstate in line
    administer(database_url, "DROP TRIGGER refuse ON images")
    listener.receive_once()
    assert left(s3) == 0


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
