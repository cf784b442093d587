"""Steering of jobs over HTTP: what each answers, also when it is repeated or contradicts the job's state."""

import pytest
from dpiqa.api.app import create_app
from fastapi.testclient import TestClient
from support.ledger import Ledger, ref, refs

from dpiqa.doorbell import Queue
from dpiqa.settings import load_settings
from dpiqa.storage.engine import make_engine
from dpiqa.storage.items import Rejected
from dpiqa.types import Reason


@pytest.fixture
def ledger(database_url):
    engine = make_engine(database_url, pool_size=2)
    yield Ledger(engine)
    engine.dispose()


def post(client, job, action, **body):
    return client.post(f"/v1/jobs/{job.short_id}/{action}", json=body or None)


def test_pause_resume_and_cancel_may_be_repeated(client, ledger):
    job, ids = ledger.submit(refs(4))
    ledger.score(ids[:1])
    for action, state in [("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")]:
        for _ in range(2):
            answer = post(client, job, action)
            assert (answer.status_code, answer.json()["state"], answer.json()["id"]) == (200, state, str(job.id))
    assert answer.json()["counts"] == {"scored": 1, "cancelled": 3}
    assert answer.json()["failures"] == {"job_cancelled": 3}
    for action in ("pause", "resume"):
        answer = post(client, job, action)
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
        assert f"dpiqa jobs retry {job.short_id}" in answer.json()["hint"]


def test_resuming_a_listing_rings_for_it(client, ledger):
    job = ledger.job()
    post(client, job, "pause")
    assert client.app.state.doorbell.depth(Queue.MAINTENANCE) == 0
    assert post(client, job, "resume").json()["state"] == "listing"
    assert client.app.state.doorbell.depth(Queue.MAINTENANCE) == 1


def test_retry_says_how_many(client, ledger):
    job, ids = ledger.submit(refs(4))
    reasons = [Reason.ACCESS_DENIED, Reason.CORRUPT, Reason.CORRUPT, Reason.EMPTY]
    ledger.record([Rejected(claim, why) for claim, why in zip(ledger.claim(ids), reasons, strict=True)])
    assert client.get("/v1/jobs/latest").json()["state"] == "complete"
    answer = post(client, job, "retry", reasons=["corrupt"])
    assert (answer.status_code, answer.json()["retried"], answer.json()["state"]) == (200, 2, "running")
    assert answer.json()["counts"] == {"queued": 2, "rejected": 2}
    assert post(client, job, "retry").json()["retried"] == 2
    assert post(client, job, "retry").json()["retried"] == 0
    wrong = post(client, job, "retry", states=["deleted"])
    assert (wrong.status_code, "'rejected', 'dead' or 'cancelled'" in wrong.json()["detail"]) == (422, True)
    wrong = post(client, job, "retry", states=["dead"], reasons=["corrupt"])
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_request")


def test_the_priority_is_changed(client, ledger):
    job, _ = ledger.submit(refs(1))
    answer = client.patch(f"/v1/jobs/{job.id}", json={"priority": 3})
    assert (answer.status_code, answer.json()["priority"]) == (200, 3)
    for body in ({"priority": 11}, {"priority": "x"}, {}, {"state": "complete"}, {"priority": 1, "state": "complete"}):
        assert client.patch(f"/v1/jobs/{job.id}", json=body).status_code == 422
    assert client.get(f"/v1/jobs/{job.id}").json()["priority"] == 3


def test_deleting(client, ledger):
    job, ids = ledger.submit([ref("a"), ref("b")])
    ledger.score(ids[:1])
    path = f"/v1/jobs/{job.id}"
    assert client.delete(path).status_code == 409
    assert client.delete(path, params={"force": True}).status_code == 204
    for answer in (client.delete(path), client.get(path), client.get(f"{path}/items")):
        assert answer.status_code == 404
    assert client.get("/v1/scores", params={"job": str(job.id), "profile": "alone@1"}).status_code == 404
    assert client.get("/v1/jobs").json()["items"] == []
    assert len(client.get("/v1/scores", params={"profile": "alone@1"}).json()["items"]) == 1


def test_a_job_is_named_by_the_beginning_of_its_id(client, ledger):
    for digit in "12":
        new = f"0b9b6f3e-8a5{digit}-4b7e-9a57-0d1c3a0a5d5f"
        ledger.sql("UPDATE jobs SET id = :new WHERE id = :id", id=ledger.job().id, new=new)
    answer = client.get("/v1/jobs/0b9b6f3e")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert "0b9b6f3e-8a51-4b7e-9a57-0d1c3a0a5d5f, 0b9b6f3e-8a52-4b7e-9a57-0d1c3a0a5d5f" in answer.json()["detail"]
    for name in ("0b9b6f3e-8a52", "0B9B6F3E8A52", "latest"):
        assert client.get(f"/v1/jobs/{name}").json()["id"] == "0b9b6f3e-8a52-4b7e-9a57-0d1c3a0a5d5f"
        assert client.get(f"/v1/jobs/{name}/items").status_code == 200
        assert client.get("/v1/scores", params={"job": name, "profile": "alone@1"}).status_code == 200
    assert client.get("/v1/jobs/0b9b6").status_code == 422


def test_the_list_is_filtered(client, ledger):
    running, _ = ledger.submit(refs(1))
    complete, _ = ledger.submit([])
    watch = ledger.watch()
    other = ledger.job(bucket="other")
    ledger.sql("UPDATE jobs SET created_at = '2026-01-01Z' WHERE id = :id", id=running.id)

    def ids(**query):
        answer = client.get("/v1/jobs", params=query)
        assert answer.status_code == 200, answer.text
        return {job["id"] for job in answer.json()["items"]}

    assert ids(state="running") == {str(running.id)}
    assert ids(state=["complete", "watching"]) == {str(complete.id), str(watch.id)}
    assert ids(kind="watch") == {str(watch.id)}
    assert ids(bucket="other") == {str(other.id)}
    assert ids(created_before="2026-01-02T00:00:00Z") == {str(running.id)}
    assert ids(created_since="2026-01-02T00:00:00Z", bucket="photos") == {str(complete.id), str(watch.id)}
    first = client.get("/v1/jobs", params={"bucket": "photos", "limit": 1}).json()
    assert client.get("/v1/jobs", params={"cursor": first["next_cursor"]}).status_code == 422  # of another query
    for query in ({"state": "x"}, {"created_since": "2026-01-01"}, {"since": "2026-01-01T00:00:00Z"}):
        assert client.get("/v1/jobs", params=query).status_code == 422


def test_a_job_for_a_bucket_that_does_not_exist_is_refused(database_url, broker_url, s3):
    settings = load_settings(
        database_url=database_url, broker_url=broker_url, profile="smoke", api_hosts="testserver", **s3.settings
    )
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        for kind in ("prefix", "watch"):
            answer = client.post("/v1/jobs", json={"kind": kind, "bucket": "no-such-bucket-here"})
            assert (answer.status_code, answer.json()["detail"]) == (422, "there is no bucket no-such-bucket-here")
        assert client.post("/v1/jobs", json={"bucket": s3.name}).status_code == 202


def test_while_s3_does_not_answer_jobs_are_accepted(database_url, broker_url):
    settings = load_settings(
        database_url=database_url,
        broker_url=broker_url,
        profile="smoke",
        api_hosts="testserver",
        s3_endpoint_url="http://127.0.0.1:1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        assert client.post("/v1/jobs", json={"bucket": "photos"}).status_code == 202
