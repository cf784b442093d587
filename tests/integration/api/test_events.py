"""Events over HTTP become items; nonsense does not."""

import json

import pytest

from dpiqa.doorbell import Queue


def record(key="a.jpg", name="ObjectCreated:Put", **more):
    s3 = {"bucket": {"name": "photos"}, "object": {"key": key, "size": 10, "eTag": "e1", "sequencer": "01"} | more}
    return {
        "eventSource": "aws:s3",
        "eventVersion": "2.1",
        "eventName": name,
        "eventTime": "2024-05-01T12:00:00.000Z",
        "s3": s3,
    }


EVENTBRIDGE = {
    "source": "aws.s3",
    "detail-type": "Object Created",
    "time": "2024-05-01T12:00:00Z",
    "detail": {"bucket": {"name": "photos"}, "object": {"key": "b+c.jpg", "size": 10, "etag": "e2"}},
}


def send(client, body):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post("/v1/events", content=content)


@pytest.mark.parametrize(
    ("body", "counts"),
    [
        ({"Records": [record()]}, (1, 0, 1)),
        ({"Records": [record("a"), record("b"), record("c", "ObjectRemoved:Delete")]}, (2, 1, 2)),
        ({"Type": "Notification", "Message": json.dumps({"Records": [record()]})}, (1, 0, 1)),
        ({"EventName": "s3:ObjectCreated:Put", "Records": [record(name="s3:ObjectCreated:Put")]}, (1, 0, 1)),
        (EVENTBRIDGE, (1, 0, 1)),
        ({"Event": "s3:TestEvent"}, (0, 0, 0)),
        ({"Records": []}, (0, 0, 0)),
    ],
)
def test_bodies(client, body, counts):
    answer = send(client, body)
    assert answer.status_code == 202
    accepted = answer.json()
    assert (accepted["images"], accepted["removals"], accepted["queued"]) == counts
    assert client.app.state.doorbell.depth(Queue.LIVE) == (1 if counts[2] else 0)


def test_an_event_twice_is_one_item(client):
    assert send(client, {"Records": [record()]}).json()["queued"] == 1
    assert send(client, {"Records": [record()]}).json()["queued"] == 0
    job = client.get("/v1/jobs").json()["items"][0]
    items = client.get(f"/v1/jobs/{job['id']}/items").json()["items"]
    assert [(item["key"], item["etag"], item["state"]) for item in items] == [("a.jpg", "e1", "queued")]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"x"', b"{}", b"\xff\xfe", b'{"Records": 1}', b"[" * 100_000],
    ids=["empty", "open", "list", "null", "text", "nothing", "bytes", "number", "deep"],
)
def test_malformed(client, body):
    answer = send(client, body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


@pytest.mark.parametrize(
    "bad",
    [
        record(key="a%00b"),
        record(key="a" * 5000),
        record(size=10**30),
        record(size=-1),
        record(eTag="a\x00"),
        record(eTag=5),
        record(eTag={"x": 1}),
        record(versionId=5),
        record(versionId="a\x00b"),
        record(versionId="\ud800"),
        record(sequencer="zz"),
        record(sequencer="é\x00"),
        record(sequencer=7),
        record(eTag="x" * 100_000),
        record(versionId="x" * 100_000),
        record() | {"eventTime": "9999-12-31T23:59:59.999999-23:59"},
        record() | {"eventTime": "0001-01-01T00:00:00+23:59"},
        record() | {"s3": 5},
        5,
        None,
    ],
)
def test_one_odd_record_does_not_cost_the_others(client, bad):
    """Twice, because the second meets what the first left behind."""
    for _ in range(2):
        answer = send(client, {"Records": [bad, record("good.jpg", sequencer="02"), bad]})
        assert answer.status_code == 202, answer.text
    job = client.get("/v1/jobs").json()["items"][0]
    items = client.get(f"/v1/jobs/{job['id']}/items").json()["items"]
    assert "good.jpg" in [item["key"] for item in items]


def test_bad_records_are_counted_and_only_the_first_are_explained(client):
    answer = send(client, {"Records": [{"eventSource": "nobody"}] * 3000 + [record("good.jpg")]})
    body = answer.json()
    assert (answer.status_code, body["n_ignored"], body["queued"]) == (202, 3000, 1)
    assert body["ignored"] == ["unknown source 'nobody'"] * 20
    assert len(answer.content) < 2000


def test_too_large(client):
    body = json.dumps({"Records": [record()] * 5000}).encode()
    assert len(body) > 1024 * 1024
    answer = send(client, body)
    assert (answer.status_code, answer.json()["code"]) == (413, "content_too_large")
    chunked = client.post("/v1/events", content=iter([body[:600_000], body[600_000:]]))
    assert (chunked.status_code, chunked.headers["content-type"]) == (413, "application/problem+json")
    assert client.get("/v1/jobs").json()["items"] == []
