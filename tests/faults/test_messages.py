"""Events that come again and in any order, and messages that are none of ours."""

import redis
from support.story import body_of

MALFORMED = [b"hello", b"\xff\xfe", b"[1, 2]", b"null", b"{}", b'{"headers": null, "body": "", "properties": {}}']


def test_events_that_come_again_in_any_order(story, n, s3):
    s3.messages()  # the test event of the configuration
    story.upload(n)
    story.wait(lambda: len(s3.keys()) == n, "uploads")
    bodies = []
    while taken := s3.sqs.receive_message(QueueUrl=s3.queue_url, MaxNumberOfMessages=10).get("Messages"):
        for message in taken:
            bodies.append(message["Body"])
            s3.sqs.delete_message(QueueUrl=s3.queue_url, ReceiptHandle=message["ReceiptHandle"])
    assert len(bodies) == n
    bodies *= 3
    story.random.shuffle(bodies)
    story.keep("listener", "student", "student-2", "teacher")
    for body in bodies:
        s3.sqs.send_message(QueueUrl=s3.queue_url, MessageBody=body)
    story.finish()


def test_malformed_messages_end_no_worker(story, n, broker_url):
    story.keep("listener", "student", "teacher")
    story.upload(n, seconds=5)
    with redis.Redis.from_url(broker_url) as client:
        for message in MALFORMED * 3:
            story.pause(0.1, 0.4)
            client.lpush(story.random.choice(["live", "bulk", "teacher", "maintenance"]), message)
    story.finish()


def test_objects_that_are_replaced_while_they_are_scored(story, n, s3):
    """The newest version of each object has the result: its body is another one first."""
    keys = [f"{number:05}.png" for number in range(n)]
    story.keep("listener", "student", "teacher")
    story.ready(2)
    for key in keys:
        s3.put(key, body_of("7.png"))
    story.random.shuffle(keys)
    story.upload(n, seconds=5)
    story.finish()
