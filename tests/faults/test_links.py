"""Links that break: cut after COMMIT was sent, or silent without an end."""

from urllib.parse import urlsplit

import pytest
from sqlalchemy.engine import make_url
from support.rabbitmq import RabbitMQ


def test_postgres_cut_after_commit_was_sent(make_story, make_proxy, database_url, n):
    proxy = make_proxy(make_url(database_url).port)
    story = make_story(database_url=proxy.through(database_url))
    cuts = []

    def cut_after(data):
        is_cut = b"COMMIT" in data and len(cuts) < 25 and story.random.random() < 0.15
        if is_cut:
            cuts.append(len(data))
        return is_cut

    story.keep("listener", "student", "teacher")
    story.ready(2)
    proxy.cut_after = cut_after
    story.upload(n, seconds=8)
    story.wait(lambda: len(cuts) >= 10, "10 cuts")
    proxy.cut_after = lambda _data: False
    story.finish()


@pytest.fixture(scope="module")
def rabbitmq(server_home):
    server = RabbitMQ(server_home / "silent-rabbitmq", server_home / "silent-rabbitmq.log")
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["postgres", "redis", pytest.param("rabbitmq", marks=pytest.mark.long_form), "sqs", "s3"])
def silent_link(request, make_story, make_proxy, database_url, broker_url, s3):
    """Give a story, and the proxy of one of its links."""
    if request.param == "rabbitmq":
        broker_url = request.getfixturevalue("rabbitmq").url
    urls = {"postgres": database_url, "sqs": s3.queue_url, "s3": s3.endpoint}
    proxy = make_proxy(urlsplit(urls.get(request.param, broker_url)).port)
    settings = {
        "postgres": {"database_url": proxy.through(database_url)},
        "sqs": {"sqs_endpoint_url": proxy.url, "queue_url": proxy.through(s3.queue_url)},
        "s3": {"s3_endpoint_url": proxy.url},
    }
    of_broker = {"broker_url": proxy.through(broker_url)}
    return make_story(database_seconds=2, **settings.get(request.param, of_broker)), proxy


def test_work_resumes_within_a_minute_of_the_return_of_a_silent_link(silent_link, n):
    """TCP acknowledges what is sent, nobody answers, and no connection is closed."""
    story, proxy = silent_link
    story.keep("listener", "student", "teacher")
    story.ready(2)
    story.upload(n, seconds=6)
    story.wait(lambda: story.ended() >= n // 10, "a tenth of the objects")
    proxy.swallow()
    story.pause(8, 10)
    proxy.restore()
    story.finish(seconds=60)
    assert "Traceback" not in story.logs()
