"""The part of a message that reaches a task, and the part of a connection that is shown."""

import json
from types import SimpleNamespace

import pytest
from dpiqa.workers.broker import celery_settings
from dpiqa.workers.messages import MalformedMessage, require_doorbell
from dpiqa.workers.transports import BrokerApp, BrokerConnection

from dpiqa.broker_url import read_broker_url


def received(body='[[[1, 2]], {}, {"chain": ["x"]}]', content_type="application/json", **headers):
    headers = {"task": "dpiqa.score", "id": "a", "eta": "2999-01-01", "reply_to": "x", "timelimit": [0, 0]} | headers
    properties = {"reply_to": "x", "delivery_tag": "t", "priority": 9}
    return SimpleNamespace(body=body, headers=headers, properties=properties, content_type=content_type)


def test_nothing_but_the_task_and_its_argument_is_left():
    message = received()
    require_doorbell(message)
    assert json.loads(message.body) == [[[1, 2]], {}, {}]
    assert message.headers == {"lang": "py", "task": "dpiqa.score", "id": "a", "argsrepr": "", "kwargsrepr": ""}
    assert message.properties == {"correlation_id": "a", "delivery_tag": "t"}


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (received(task="celery.chain"), "unknown_task"),
        (received(id=5), "not_a_task"),
        (received(content_type="application/x-yaml"), "content_type"),
        (received(body="[1]"), "not_json"),
        (received(body="[[[true]], {}, {}]"), "arguments"),
        (received(task="dpiqa.expand"), "arguments"),
        (received(body="[" + "1," * 3_000_000 + "1]"), "too_large"),
    ],
)
def test_the_reason_names_what_is_wrong(message, reason):
    with pytest.raises(MalformedMessage) as malformed:
        require_doorbell(message)
    assert malformed.value.reason == reason


@pytest.mark.parametrize(
    ("url", "shown", "for_flower"),
    [
        ("redis://me:s%2Fx@h:1/2", "redis://h:1/2", "redis://me:s%2Fx@h:1/2"),
        ("redis+socket://:s%2Fx@/V.sock", "redis+socket:///V.sock?virtual_host=0", "redis+socket://:s%2Fx@/V.sock"),
        (
            "sentinels://:s%2Fx@a:1,b:2/3?master_name=m&sentinel_password=s%2Fx&ssl_password=s%2Fx",
            "sentinels://a:1,b:2/3?master_name=m",
            "sentinel://:s%2Fx@a:1/3",
        ),
        ("amqp://me:s%2Fx@h/v", "amqp://h:5672/v", "amqp://me:s%2Fx@h:5672/v"),
    ],
)
def test_connections_are_shown_without_passwords(url, shown, for_flower):
    settings = celery_settings(read_broker_url(url))
    connection = BrokerConnection(
        settings["broker_url"],
        userid=settings["broker_user"],
        password=settings["broker_password"],
        ssl=settings["broker_use_ssl"],
        transport_options=settings["broker_transport_options"],
    )
    assert connection.as_uri() == shown
    assert connection.as_uri(include_password=True) == for_flower
    info = connection.info()
    info.pop("password")  # Celery does so before it sends this
    assert "s/x" not in json.dumps(info)


def test_celerys_own_variables_name_no_other_broker(monkeypatch):
    for name in ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"):
        monkeypatch.setenv(name, "redis://other:7/1")
    app = BrokerApp()
    app.conf.update(celery_settings(read_broker_url("redis://:x@h:1/3")))
    for connection in (app.connection(), app.connection_for_read(), app.connection_for_write()):
        assert (connection.hostname, connection.port, connection.virtual_host) == ("h", 1, "3")
