import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from dpiqa.api.app import create_app
from fastapi.testclient import TestClient
from sqlalchemy import text

from dpiqa.settings import load_settings
from dpiqa.storage.engine import transaction

CLOSED_DATABASE = "postgresql://u:p@127.0.0.1:9/x"


def open_client(**settings):
    app = create_app(load_settings(api_hosts="testserver", **settings))
    return TestClient(app, raise_server_exceptions=False)


def test_liveness_needs_no_other_part():
    with open_client(database_url=CLOSED_DATABASE, broker_url="redis://127.0.0.1:9/0") as client:
        assert client.get("/healthz").json() == {"status": "ok"}


def test_ready(client):
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert {check["part"]: check["ok"] for check in answer.json()["checks"]} == {
        "database": True,
        "migrations": True,
        "broker": True,
    }


def states(answer):
    assert answer.status_code == 503
    problem = answer.json()
    assert problem["code"] == "not_ready"
    return {check["part"]: check["ok"] for check in problem["checks"]}


def test_without_broker(database_url):
    with open_client(database_url=database_url, broker_url="redis://:hunter2@127.0.0.1:9/0") as client:
        answer = client.get("/readyz")
    assert states(answer) == {"database": True, "migrations": True, "broker": False}
    assert "broker" in answer.json()["detail"]
    assert "hunter2" not in answer.text


def test_without_database(broker_url):
    with open_client(database_url=CLOSED_DATABASE, broker_url=broker_url) as client:
        answer = client.get("/readyz")
        assert states(answer) == {"database": False, "migrations": False, "broker": True}
        jobs = client.get("/v1/jobs")
    assert (jobs.status_code, jobs.json()["code"]) == (503, "database_unavailable")
    assert "127.0.0.1" not in jobs.text


def test_unmigrated(empty_database_url, broker_url):
    with open_client(database_url=empty_database_url, broker_url=broker_url) as client:
        answer = client.get("/readyz")
        jobs = client.get("/v1/jobs")
    assert states(answer) == {"database": True, "migrations": False, "broker": True}
    assert "dpiqa db upgrade" in answer.text
    assert (jobs.status_code, jobs.json()["code"]) == (503, "misconfigured")


@pytest.fixture
def silent_port():
    """A port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_parts_that_hang_are_bounded(silent_port):
    with open_client(
        database_url=f"postgresql://u:p@127.0.0.1:{silent_port}/x", broker_url=f"redis://127.0.0.1:{silent_port}/0"
    ) as client:
        started = time.monotonic()
        assert not any(states(client.get("/readyz")).values())
        assert client.get("/healthz").status_code == 200
    assert time.monotonic() - started < 25


def test_a_query_that_takes_too_long(client):
    engine = client.app.state.engine

    @client.app.get("/slow")
    def slow():
        with transaction(engine) as connection:
            assert connection.execute(text("SHOW statement_timeout")).scalar_one() == "5s"
            connection.execute(text("SET LOCAL statement_timeout = 50"))
            connection.execute(text("SELECT pg_sleep(9)"))

    answer = client.get("/slow")
    assert (answer.status_code, answer.json()["code"]) == (503, "too_slow")
    assert "narrow" in answer.json()["hint"]


def test_more_requests_than_connections_are_all_answered(client):
    """They wait for a connection in turn: none may hold one while it waits for something else."""
    with ThreadPoolExecutor(100) as threads:
        answers = list(threads.map(lambda _: client.get("/v1/jobs"), range(300)))
    assert {answer.status_code for answer in answers} == {200}


def test_metrics(client):
    client.get("/v1/jobs")
    client.get("/v1/jobs/nonsense-" + "x" * 50)
    text_of_metrics = client.get("/metrics").text
    assert 'dpiqa_api_requests_total{method="GET",route="/v1/jobs",status="200"} 1.0' in text_of_metrics
    assert 'dpiqa_queue_messages{queue="bulk"} 0.0' in text_of_metrics
    assert 'dpiqa_up{part="database"} 1.0' in text_of_metrics
    assert "nonsense" not in text_of_metrics


def test_metrics_without_the_others():
    with open_client(database_url=CLOSED_DATABASE, broker_url="redis://127.0.0.1:9/0") as client:
        answer = client.get("/metrics")
    assert answer.status_code == 200
    assert 'dpiqa_up{part="database"} 0.0' in answer.text
    assert 'dpiqa_up{part="broker"} 0.0' in answer.text
