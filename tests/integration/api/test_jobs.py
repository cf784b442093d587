"""Jobs over HTTP: submitted once, safe without a broker, listed by pages."""

import uuid

import pytest
from dpiqa.api.app import create_app
from fastapi.testclient import TestClient

from dpiqa.doorbell import Queue
from dpiqa.settings import load_settings

PREFIX = {"kind": "prefix", "bucket": "photos", "prefix": "2024/"}


def submit(client, body, **headers):
    return client.post("/v1/jobs", json=body, headers={name.replace("_", "-"): text for name, text in headers.items()})


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (PREFIX, ("prefix", "photos", "2024/", "listing")),
        ({"source": "s3://photos/2024/"}, ("prefix", "photos", "2024/", "listing")),
        ({"kind": "watch", "source": "s3://photos"}, ("watch", "photos", "", "watching")),
        ({"kind": "list", "bucket": "photos", "keys": ["a", "a", "b"]}, ("list", "photos", "", "listing")),
    ],
)
def test_submit(client, body, expected):
    answer = submit(client, body)
    assert answer.status_code == 202
    job = answer.json()
    assert (job["kind"], job["bucket"], job["prefix"], job["state"]) == expected
    assert job["profile"] == "smoke@1"
    assert job["warning"] is None
    status = client.get(answer.headers["location"])
    assert status.status_code == 200
    assert (status.json()["id"], status.json()["total"], status.json()["done"]) == (job["id"], 0, 0)


def test_several_profiles(client):
    answer = submit(client, PREFIX | {"profiles": ["smoke", "tiny"]})
    assert answer.status_code == 202, answer.text
    assert (answer.json()["profile"], answer.json()["profiles"]) == ("smoke@1", ["smoke@1", "tiny@1"])
    status = client.get(answer.headers["location"]).json()
    assert (status["counts_by_profile"], status["reused"]) == ({"smoke@1": {}, "tiny@1": {}}, 0)
    for wrong in ({"profiles": []}, {"profiles": ["smoke", "smoke"]}, {"profiles": ["smoke"], "profile": "smoke"}):
        assert submit(client, PREFIX | wrong).status_code == 422


def test_submitting_rings(client):
    doorbell = client.app.state.doorbell
    submit(client, PREFIX)
    submit(client, {"kind": "watch", "bucket": "photos"})
    assert doorbell.depth(Queue.MAINTENANCE) == 1


def test_without_a_broker_the_job_is_safe(database_url):
    settings = load_settings(database_url=database_url, broker_url="redis://127.0.0.1:9/0", api_hosts="testserver")
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        answer = submit(client, PREFIX)
        assert answer.status_code == 202
        assert "broker" in answer.json()["warning"]
        assert client.get(answer.headers["location"]).json()["state"] == "listing"


def test_idempotency(client):
    first = submit(client, PREFIX, Idempotency_Key="k1")
    assert submit(client, {"source": "s3://photos/2024/"}, Idempotency_Key="k1").json()["id"] == first.json()["id"]
    other = submit(client, PREFIX | {"prefix": "2025/"}, Idempotency_Key="k1")
    assert (other.status_code, other.json()["code"]) == (409, "conflict")
    assert submit(client, PREFIX).json()["id"] != first.json()["id"]
    keys = {"kind": "list", "bucket": "photos", "keys": ["a", "b"]}
    assert (
        submit(client, keys, Idempotency_Key="k2").json()["id"]
        == submit(client, keys, Idempotency_Key="k2").json()["id"]
    )
    assert submit(client, keys | {"keys": ["b", "a"]}, Idempotency_Key="k2").status_code == 409


def test_a_watch_is_one(client):
    watch = {"kind": "watch", "bucket": "photos", "prefix": "in/"}
    assert submit(client, watch).json()["id"] == submit(client, watch).json()["id"]
    assert submit(client, watch | {"prefix": ""}).json()["id"] != submit(client, watch).json()["id"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"bucket": "b", "color": "red"},
        {"bucket": "b", "source": "s3://b"},
        {"kind": "list", "bucket": "b", "keys": []},
        {"kind": "list", "bucket": "b", "keys": ["k"] * 1001},
        {"kind": "list", "bucket": "b", "keys": ["a\x00"]},
        {"kind": "inventory", "bucket": "b"},
        {"bucket": "b", "profile": "nonesuch"},
        {"source": "https://example.com/x"},
        [1],
        "x",
        None,
    ],
)
def test_refused(client, body):
    answer = submit(client, body)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["hint"]
    assert client.get("/v1/jobs").json()["items"] == []


def test_bodies_that_are_no_json(client):
    for content, kind in [
        (b"{", "application/json"),
        (b'{"bucket": "b"}', "text/plain"),
        (b"\xff", "application/json"),
    ]:
        answer = client.post("/v1/jobs", content=content, headers={"content-type": kind})
        assert answer.status_code in ((400, 422) if kind == "application/json" else (415,))
        assert answer.headers["content-type"] == "application/problem+json"
    assert submit(client, PREFIX, Idempotency_Key="k" * 256).status_code == 422
    assert submit(client, PREFIX, Idempotency_Key="a b").status_code == 422


def test_unknown_and_malformed_ids(client):
    unknown = uuid.uuid4()
    for path in (f"/v1/jobs/{unknown}", f"/v1/jobs/{unknown}/items", "/v1/jobs/latest"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert client.get("/v1/jobs/1").status_code == 422
    assert client.get("/v1/jobs/' OR 1=1--/items").status_code == 422


def test_pages_of_jobs(client):
    ids = [submit(client, PREFIX | {"prefix": str(n)}).json()["id"] for n in range(7)]
    seen, url = [], "/v1/jobs?limit=3"
    while url:
        answer = client.get(url)
        seen += [job["id"] for job in answer.json()["items"]]
        url = answer.links.get("next", {}).get("url")
        assert (url is None) == (answer.json()["next_cursor"] is None)
    assert seen == ids[::-1]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "cursor=", "cursor=%00", "cursor=!", "cursor=e30"]
)
def test_wrong_pages(client, query):
    answer = client.get(f"/v1/jobs?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
