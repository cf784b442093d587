"""Watches and reconciliations over HTTP."""

from uuid import UUID

import pytest
from dpiqa.api.app import create_app
from fastapi.testclient import TestClient
from support.scripted_server import Script, serving

from dpiqa.settings import load_settings
from dpiqa.storage.engine import transaction
from dpiqa.storage.watches import new_probe, read_probe, read_watch

NOBODY = "0b9b6f3e-8a51-4b7e-9a57-0d1c3a0a5d5f"


@pytest.fixture
def settings(settings, s3):
    """Settings with a store: a prefix to be watched is listed."""
    return settings.model_copy(update=load_settings(**s3.settings).model_dump(include=set(s3.settings)))


def test_a_watch_is_added_once_and_ended_once(client, s3):
    body = {"source": f"s3://{s3.name}/in/", "reconcile_seconds": 3600}
    answer = client.post("/v1/watches", json=body)
    first = answer.json()
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/v1/watches/{first['id']}")
    assert (first["state"], first["prefix"], first["events"], first["warning"]) == ("watching", "in/", 0, None)
    assert first["reconcile_due_at"] is not None
    backfill = client.get(f"/v1/jobs/{first['backfill_job_id']}").json()
    assert (backfill["kind"], backfill["prefix"], backfill["state"]) == ("prefix", "in/", "listing")
    again = client.post("/v1/watches", json={"bucket": s3.name, "prefix": "in/"}).json()
    assert again == first
    assert [watch["id"] for watch in client.get("/v1/watches").json()] == [first["id"]]
    event = {
        "Records": [
            {
                "eventSource": "minio:s3",
                "eventName": "s3:ObjectCreated:Put",
                "eventTime": "2026-01-01T00:00:00Z",
                "s3": {"bucket": {"name": s3.name}, "object": {"key": "in/a.png", "eTag": "e", "size": 1}},
            }
        ]
    }
    assert client.post("/v1/events", json=event).json()["queued"] == 1
    watch = client.get(f"/v1/watches/{first['id'][:8]}").json()
    assert (watch["events"], watch["last_event_via"]) == (1, "http")
    for _ in range(2):
        ended = client.delete(f"/v1/watches/{first['id']}")
        assert (ended.status_code, ended.json()["state"], ended.json()["reconcile_seconds"]) == (200, "cancelled", None)
    assert client.get("/v1/watches").json() == []
    assert len(client.get("/v1/watches?ended=true").json()) == 1
    event["Records"][0]["s3"]["object"]["key"] = "in/b.png"
    assert client.post("/v1/events", json=event).json()["unwatched"] == 1
    assert client.get("/v1/watches").json() == []


def test_without_a_back_fill(client, s3):
    assert client.post("/v1/watches", json={"bucket": s3.name, "backfill": False}).json()["backfill_job_id"] is None


def test_a_bucket_that_does_not_exist_is_not_watched(client):
    missing = client.post("/v1/watches", json={"bucket": "no-such-bucket-7"})
    assert (missing.status_code, missing.json()["code"]) == (422, "invalid_request")
    assert "there is no bucket no-such-bucket-7" in missing.json()["detail"]
    assert missing.json()["hint"]
    assert client.get("/v1/watches").json() == []


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [(403, "AccessDenied", (422, "invalid_request")), (503, "SlowDown", (503, "store_unavailable"))],
)
def test_a_bucket_that_is_not_listed_is_not_watched(settings, status, code, expected):
    script = Script()
    script.plan = [(status, {}, f"<Error><Code>{code}</Code><Message>No</Message></Error>".encode())] * 20
    with serving(script):
        app = create_app(settings.model_copy(update={"s3_endpoint_url": script.url}))
        with TestClient(app, raise_server_exceptions=False) as client:
            answer = client.post("/v1/watches", json={"bucket": "photos"})
            assert (answer.status_code, answer.json()["code"]) == expected
            assert answer.json()["hint"]
            assert client.get("/v1/watches").json() == []
    assert len(script.requests) >= 1


@pytest.mark.parametrize("method", ["get", "delete"])
def test_a_job_that_is_not_a_watch_is_not_found(client, s3, method):
    job = client.post("/v1/jobs", json={"bucket": s3.name}).json()
    for name in (job["id"], NOBODY):
        answer = getattr(client, method)(f"/v1/watches/{name}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert client.get(f"/v1/jobs/{job['id']}").json()["state"] == "listing"


def test_a_reconciliation_is_requested_once_at_a_time(client, s3):
    body = {"source": f"s3://{s3.name}/in/", "max_deleted": 10}
    answer = client.post("/v1/reconciliations", json=body)
    first = answer.json()
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/v1/reconciliations/{first['id']}")
    assert (first["state"], first["counts"], first["max_deleted"]) == ("comparing", {}, 10)
    assert client.post("/v1/reconciliations", json=body).json() == first
    other = client.post("/v1/reconciliations", json=body | {"dry_run": True}).json()
    assert other["id"] != first["id"]  # no process worked on the first
    states = [(row["id"], row["state"]) for row in client.get(f"/v1/reconciliations?bucket={s3.name}").json()["items"]]
    assert states == [(other["id"], "comparing"), (first["id"], "failed")]
    assert client.get(f"/v1/reconciliations?bucket={s3.name}&prefix=x").json()["items"] == []
    assert client.get(f"/v1/reconciliations/{first['id'][:8]}").json()["error"].startswith("a request with other")
    assert client.get(f"/v1/reconciliations/{NOBODY}").status_code == 404
    missing = client.post("/v1/reconciliations", json={"bucket": "no-such-bucket-7"})
    assert (missing.status_code, missing.json()["detail"]) == (422, "there is no bucket no-such-bucket-7")


@pytest.mark.parametrize(
    "body", [{}, {"bucket": "b", "max_deleted": 101}, {"bucket": "b", "inventory": "x"}, {"bucket": "b", "every": 1}]
)
def test_wrong_requests(client, body):
    assert client.post("/v1/reconciliations", json=body).status_code == 422


def test_the_events_of_a_probe_are_recorded_and_make_no_image(client, s3):
    watch = client.post("/v1/watches", json={"bucket": s3.name, "prefix": "in/"}).json()
    engine = client.app.state.engine
    with transaction(engine) as c:
        probe = new_probe(c, read_watch(c, UUID(watch["id"])))
    for name in ("s3:ObjectCreated:Put", "s3:ObjectRemoved:Delete"):
        record = {
            "eventSource": "minio:s3",
            "eventName": name,
            "s3": {"bucket": {"name": s3.name}, "object": {"key": probe.key}},
        }
        answer = client.post("/v1/events", json={"Records": [record]}).json()
        assert (answer["queued"], answer["unwatched"]) == (0, 0)
    with transaction(engine) as c:
        seen = read_probe(c, probe.id)
    assert seen.created_seen_at < seen.removed_seen_at
    assert seen.seen_via == "http"
    assert client.get(f"/v1/watches/{watch['id']}").json()["events"] == 0
    assert client.get(f"/v1/jobs/{watch['id']}/items").json()["items"] == []
