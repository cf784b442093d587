"""Requirements over HTTP: submitted here, checked by a worker, shown with the outcome."""

import threading

import pytest
from dpiqa.api.app import create_app
from fastapi.testclient import TestClient
from support.photos import png
from support.prompting import CARD, write_line

from dpiqa.doorbell import Queue
from dpiqa.imaging.decode import Limits
from dpiqa.imaging.pool import DecodePool
from dpiqa.objects.s3 import S3Store
from dpiqa.requirements.builder import RequirementBuilder
from dpiqa.requirements.pending import prepare_pending
from dpiqa.settings import load_settings
from dpiqa.storage.engine import transaction
from dpiqa.storage.requirements import unprepared

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)


def body(*scores, bucket="photos", **changes):
    pairs = [{"path": f"s3://{bucket}/{n}.png", "score": score} for n, score in enumerate(scores or LEVELS)]
    return {"name": "bright", "model": "line", "pairs": pairs} | changes


def submit(client, *scores, **changes):
    return client.post("/v1/requirements", json=body(*scores, **changes))


@pytest.fixture
def work(client, s3, tmp_path):
    """Give a function that does a worker's part once, on the images of the bucket."""
    settings = load_settings(**s3.settings, models_dir=tmp_path, decode_processes=1, fetch_threads=2)
    model = write_line(tmp_path)
    engine = client.app.state.engine
    for number, level in enumerate(LEVELS):
        s3.put(f"{number}.png", png(level))

    def work():
        with transaction(engine) as c:
            waiting = unprepared(c)
        with DecodePool(1, Limits()) as decoder:
            builder = RequirementBuilder(engine, decoder, settings, load=lambda name, settings: model)
            for row_id in waiting:
                prepare_pending(builder, row_id, S3Store.from_settings(settings), threading.Event())

    return work


def test_submitted_checked_and_shown(client, work, s3):
    answer = submit(client, bucket=s3.name, direction="lower is better")
    assert answer.status_code == 202
    assert answer.headers["location"] == "/v1/requirements/bright@1"
    accepted = answer.json()
    assert (accepted["id"], accepted["state"], accepted["checks"], accepted["warning"]) == (
        "bright@1",
        "pending",
        [],
        None,
    )
    assert client.app.state.doorbell.depth(Queue.MAINTENANCE) == 1
    pending = client.get("/v1/requirements/bright").json()
    assert [pair["leave_one_out"] for pair in pending["pairs"]] == [None] * 5

    work()
    shown = client.get("/v1/requirements/bright@1").json()
    assert (shown["state"], shown["direction"], shown["error"]) == ("ready", "lower is better", None)
    (check,) = shown["checks"]
    assert (check["scorer_id"], check["leave_one_out_srcc"], check["contradictions"]) == (CARD.scorer_id, 1, [])
    assert [pair["score"] for pair in shown["pairs"]] == list(LEVELS)
    assert [pair["leave_one_out"] for pair in shown["pairs"]] == pytest.approx(LEVELS, abs=0.01)
    assert all(len(pair["sha256"]) == 64 for pair in shown["pairs"])


def test_contradictions_are_refused_with_the_reason_unless_forced(client, work, s3):
    scores = (0.9, 0.1, 0.9, 0.1, 0.9)
    submit(client, *scores, bucket=s3.name)
    work()
    refused = client.get("/v1/requirements/bright@1").json()
    assert refused["state"] == "refused"
    assert "leave-one-out SRCC" in refused["error"]
    assert submit(client, *scores, bucket=s3.name, force=True).json()["id"] == "bright@2"
    work()
    forced = client.get("/v1/requirements/bright").json()
    assert (forced["id"], forced["state"], forced["force"]) == ("bright@2", "ready", True)
    assert len(forced["checks"][0]["contradictions"]) == 1


def test_the_same_request_is_the_same_version(client):
    assert [submit(client).json()["id"] for _ in range(2)] == ["bright@1", "bright@1"]
    assert submit(client, force=True).json()["id"] == "bright@2"
    assert submit(client, name="other").json()["id"] == "other@1"
    listed = client.get("/v1/requirements?limit=2")
    ids = [row["id"] for row in listed.json()["items"]]
    ids += [row["id"] for row in client.get(listed.links["next"]["url"]).json()["items"]]
    assert ids == ["bright@1", "bright@2", "other@1"]


def test_without_a_broker_it_is_safe(database_url):
    settings = load_settings(database_url=database_url, broker_url="redis://127.0.0.1:9/0", api_hosts="testserver")
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        answer = submit(client)
        assert (answer.status_code, "broker" in answer.json()["warning"]) == (202, True)
        assert client.get(answer.headers["location"]).json()["state"] == "pending"


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "Bright"},
        {"name": "a@1"},
        {"name": "a\n"},
        {"direction": "sideways"},
        {"colour": "red"},
        {"model": ""},
        {"force": "maybe"},
        {"pairs": []},
        {"pairs": body(0, 1, 0, 1)["pairs"]},
        {"pairs": body(*[0, 1] * 101)["pairs"]},
        {"pairs": body(0.5, 0.5, 0.5, 0.5, 0.6)["pairs"]},
        {"pairs": body(0, 0.25, 0.5, 0.75, 1.5)["pairs"]},
        {"pairs": [{"path": f"/etc/{n}", "score": n / 4} for n in range(5)]},
        {"pairs": [{"path": "s3://photos", "score": n / 4} for n in range(5)]},
        {"pairs": [{"path": f"s3://_b/{n}", "score": n / 4} for n in range(5)]},
        {"pairs": [{"path": f"s3://photos/{n}\x00", "score": n / 4} for n in range(5)]},
    ],
)
def test_refused_at_once(client, changes):
    answer = submit(client, **changes)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["hint"]
    assert client.get("/v1/requirements").json()["items"] == []


@pytest.mark.parametrize(
    ("path", "status"), [("none", 404), ("none@1", 404), ("a@0", 422), ("a@b", 422), ("A", 422), ("a%00", 422)]
)
def test_what_is_not_there(client, path, status):
    answer = client.get(f"/v1/requirements/{path}")
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
