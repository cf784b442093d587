"""Senders of events have keys of their own, and the store is asked about what they say."""

from datetime import UTC, datetime

import pytest
from dpiqa.api.app import create_app
from fastapi.testclient import TestClient
from support.ledger import Ledger

from dpiqa.access import Grants
from dpiqa.settings import load_settings
from dpiqa.storage.api_keys import KeyRequest, create_key
from dpiqa.types import KeyScope


@pytest.fixture
def client(database_url, broker_url, s3):
    settings = load_settings(
        database_url=database_url, broker_url=broker_url, profile="smoke", require_key=True, **s3.settings
    )
    with TestClient(create_app(settings), raise_server_exceptions=False) as opened:
        yield opened


@pytest.fixture
def ledger(client):
    return Ledger(client.app.state.engine)


@pytest.fixture
def send(client, ledger, s3):
    """Send records with the key of a source that may speak of one bucket."""
    request = KeyRequest(name="minio", scopes=[KeyScope.EVENTS], grants=Grants.of([f"s3://{s3.name}/"]))
    _, text = ledger.do(create_key, request)

    def post(*records, **more):
        more = more or {"headers": {"Authorization": f"Bearer {text}"}}
        return client.post("/v1/events", json={"Records": list(records)}, **more)

    post.key = text
    return post


def record(s3, key, name="ObjectCreated:Put", *, etag="claimed", at="2026-01-01T00:00:00Z", bucket=None):
    return {
        "eventSource": "minio:s3",
        "eventName": f"s3:{name}",
        "eventTime": at,
        "s3": {"bucket": {"name": bucket or s3.name}, "object": {"key": key, "eTag": etag, "size": 1}},
    }


def current(ledger):
    rows = ledger.sql("SELECT key, etag, size, news_at FROM images WHERE current ORDER BY key")
    return {row.key: row for row in rows}


def test_what_the_store_says_takes_the_place_of_what_the_event_says(s3, send, ledger):
    etag = s3.put("a.png", b"12345")
    answer = send(record(s3, "a.png", etag="0" * 32, at="2031-01-01T00:00:00Z")).json()
    assert (answer["images"], answer["queued"]) == (1, 1)
    image = current(ledger)["a.png"]
    assert (image.etag, image.size) == (etag, 5)
    assert ledger.one("SELECT news_at <= clock_timestamp() + interval '10 s' FROM images")  # not in the future
    newer = s3.put("a.png", b"123456")
    send(record(s3, "a.png", etag="0" * 32))
    assert current(ledger)["a.png"].etag == newer


def test_an_object_that_is_there_is_not_marked_as_gone_and_one_that_is_gone_is(s3, send, ledger):
    s3.put("a.png", b"1")
    send(record(s3, "a.png"))
    lie = send(record(s3, "a.png", "ObjectRemoved:Delete")).json()
    assert (lie["images"], lie["removals"]) == (1, 0)
    assert set(current(ledger)) == {"a.png"}
    s3.delete("a.png")
    truth = send(record(s3, "a.png", "ObjectRemoved:Delete", at=datetime.now(UTC).isoformat())).json()
    assert (truth["images"], truth["removals"]) == (0, 1)
    assert current(ledger) == {}
    late = send(record(s3, "a.png")).json()  # of its creation
    assert (late["images"], late["removals"], late["queued"]) == (0, 1, 0)


def test_an_old_removal_of_what_is_gone_is_dated_to_about_now(s3, send, ledger):
    s3.put("a.png", b"1")
    send(record(s3, "a.png"))
    ledger.sql("UPDATE images SET news_at = news_at - interval '1 min'")
    s3.delete("a.png")
    send(record(s3, "a.png", "ObjectRemoved:Delete", at="2026-01-01T00:00:00Z"))
    assert current(ledger) == {}
    s3.put("a.png", b"22")
    send(record(s3, "a.png", at=datetime.now(UTC).isoformat()))
    assert current(ledger)["a.png"].size == 2


def test_objects_that_never_were_make_no_work(s3, send, ledger):
    answer = send(record(s3, "never.png")).json()
    assert (answer["images"], answer["queued"]) == (0, 0)
    assert ledger.one("SELECT count(*) FROM items") == 0


def test_a_source_speaks_of_its_bucket_alone_and_does_nothing_else(s3, send, client, ledger):
    answer = send(record(s3, "a.png", bucket="another")).json()
    assert answer["ignored"] == ["not within the buckets and prefixes of the key"]
    for method, path in (("GET", "/v1/jobs"), ("POST", "/v1/jobs"), ("GET", "/v1/scores"), ("GET", "/v1/audit")):
        refused = client.request(method, path, headers={"X-API-Key": send.key}, json={"bucket": s3.name})
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


def test_the_key_may_be_the_password_of_the_url(s3, send):
    s3.put("a.png", b"1")
    assert send(record(s3, "a.png"), auth=("sns", send.key)).json()["queued"] == 1
    assert send(record(s3, "a.png"), auth=("sns", "wrong")).status_code == 401


def test_while_the_store_does_not_answer_events_are_to_be_sent_again(database_url, broker_url, s3):
    settings = load_settings(
        database_url=database_url,
        broker_url=broker_url,
        profile="smoke",
        api_hosts="testserver",
        **{**s3.settings, "s3_endpoint_url": "http://127.0.0.1:9"},
    )
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        answer = client.post("/v1/events", json={"Records": [record(s3, "a.png")]})
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
        assert answer.headers["Retry-After"]
        assert Ledger(client.app.state.engine).one("SELECT count(*) FROM images") == 0
