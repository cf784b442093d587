import socket
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import redis
from dpiqa.api.app import create_app
from fastapi.testclient import TestClient
from sqlalchemy import text

from dpiqa.settings import load_settings
from dpiqa.storage.engine import transaction

RECORD = {
    "eventSource": "aws:s3",
    "eventVersion": "2.1",
    "eventName": "ObjectCreated:Put",
    "s3": {"bucket": {"name": "b"}, "object": {"key": "a.png", "eTag": "e", "size": 1}},
}
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
def alter(client, database_url):
    """Give a function that runs a statement beside the API; `{}` is the database."""

    def run(statement):
        with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as c:
            c.execute("SET default_transaction_read_only = off")
            c.execute(statement.format(c.info.dbname))
        client.app.state.engine.dispose()

    return run


@pytest.mark.parametrize(
    ("begin", "end", "code"),
    [
        (
            "ALTER DATABASE {} SET default_transaction_read_only = on",
            "ALTER DATABASE {} RESET ALL",
            "database_read_only",
        ),
        ("ALTER TABLE images RENAME TO elsewhere", "ALTER TABLE elsewhere RENAME TO images", "misconfigured"),
    ],
)
def test_a_database_that_accepts_no_changes_is_not_ready(client, alter, begin, end, code):
    alter(begin)
    submitted = client.post("/v1/events", json={"Records": [RECORD]})
    assert (submitted.status_code, submitted.json()["code"]) == (503, code)
    assert int(submitted.headers["Retry-After"]) > 0
    assert submitted.json()["hint"]
    assert client.get("/v1/jobs").status_code == 200
    assert states(client.get("/readyz")) == {"database": False, "migrations": True, "broker": True}
    alter(end)
    assert client.get("/readyz").status_code == 200
    assert client.post("/v1/events", json={"Records": [RECORD]}).json()["queued"] == 1


def test_no_fault_of_the_database_is_an_internal_error(client):
    engine = client.app.state.engine

    @client.app.get("/fault/{sqlstate}")
    def fault(sqlstate: str):
        with transaction(engine) as connection:
            connection.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'hush' USING ERRCODE = '{sqlstate}'; END $$"))

    for sqlstate in ("25006", "42501", "53100", "53300", "57P01", "08006", "40001", "26000", "42P05", "XX000", "23505"):
        answer = client.get(f"/fault/{sqlstate}")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5"), sqlstate
        assert "hush" not in answer.text
    assert client.get("/fault/22021").status_code == 422
    assert client.get("/v1/scores", params={"bucket": "b", "prefix": "nul\0"}).status_code == 422


@pytest.fixture
def configure(valkey_server, broker_url):
    """Give a function that sets parameters of the broker; they are put back."""
    with redis.Redis.from_url(broker_url) as admin:
        yield lambda **values: [admin.config_set(name.replace("_", "-"), value) for name, value in values.items()]
        admin.replicaof("NO", "ONE")
        for name, value in {"maxmemory": 0, "maxmemory-policy": "noeviction"}.items():
            admin.config_set(name, value)


def broker_check(client):
    answer = client.get("/readyz")
    assert states(answer) == {"database": True, "migrations": True, "broker": False}
    return answer.json()["detail"]


def test_a_broker_that_stores_nothing_is_not_ready(client, configure, broker_url):
    configure(maxmemory=1)
    assert "stores no messages" in broker_check(client)
    configure(maxmemory=0)
    assert client.get("/readyz").status_code == 200
    with redis.Redis.from_url(broker_url) as admin:
        admin.replicaof("127.0.0.1", 1)  # a replica, cut off from its primary
        assert "stores no messages" in broker_check(client)
        admin.replicaof("NO", "ONE")
    assert client.get("/readyz").status_code == 200


def test_a_broker_that_may_evict_messages_is_not_ready(client, configure):
    configure(maxmemory="100mb", maxmemory_policy="allkeys-lru")
    assert "allkeys-lru" in broker_check(client)
    configure(maxmemory=0)  # without a limit nothing is evicted
    assert client.get("/readyz").status_code == 200


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


def test_a_broker_that_hangs_does_not_make_the_database_look_down(database_url, silent_port):
    with open_client(database_url=database_url, broker_url=f"redis://127.0.0.1:{silent_port}/0") as client:
        for _ in range(4):  # probes of before still wait for the broker
            started = time.monotonic()
            shown = client.get("/metrics").text
            assert time.monotonic() - started < 4.5  # Prometheus waits for 10 s
            assert 'dpiqa_up{part="database"} 1.0' in shown
            assert 'dpiqa_ready{part="database"} 1.0' in shown
            assert 'dpiqa_ready{part="broker"} 0.0' in shown
        assert states(client.get("/readyz")) == {"database": True, "migrations": True, "broker": False}


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
    assert 'dpiqa_ready{part="broker"} 1.0' in text_of_metrics
    assert 'dpiqa_oldest_waiting_seconds{queue="live"} 0.0' in text_of_metrics
    assert 'dpiqa_workers{stage="teacher"} 0.0' in text_of_metrics
    assert "dpiqa_leases_overdue 0.0" in text_of_metrics
    assert "dpiqa_buckets_postponed 0.0" in text_of_metrics
    assert "nonsense" not in text_of_metrics


def test_metrics_without_the_others():
    with open_client(database_url=CLOSED_DATABASE, broker_url="redis://127.0.0.1:9/0") as client:
        answer = client.get("/metrics")
    assert answer.status_code == 200
    assert 'dpiqa_up{part="database"} 0.0' in answer.text
    assert 'dpiqa_up{part="broker"} 0.0' in answer.text
    assert 'dpiqa_ready{part="database"} 0.0' in answer.text
    assert "dpiqa_leases_overdue 0" not in answer.text  # what is not known is not shown as nothing


def test_metrics_tell_a_database_that_is_read_only(client, alter):
    alter("ALTER DATABASE {} SET default_transaction_read_only = on")
    text_of_metrics = client.get("/metrics").text
    assert 'dpiqa_up{part="database"} 1.0' in text_of_metrics
    assert 'dpiqa_ready{part="database"} 0.0' in text_of_metrics
    alter("ALTER DATABASE {} RESET ALL")
    assert 'dpiqa_ready{part="database"} 1.0' in client.get("/metrics").text
