"""Progress as server-sent events: one poll per job, for any number of clients."""

import json
import socket
import threading
import time

import httpx
import pytest
import uvicorn
from dpiqa.api import progress
from dpiqa.api.app import create_app
from support.ledger import Ledger, refs
from support.processes import wait_for

from dpiqa.storage.items import Rejected
from dpiqa.types import Reason


@pytest.fixture
def served(settings, monkeypatch):
    """The application behind a real socket: its URL and its state."""
    monkeypatch.setattr(progress, "POLL_SECONDS", 0.05)
    app = create_app(settings)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.01)
    host, port = server.servers[0].sockets[0].getsockname()
    yield f"http://{host}:{port}", app.state
    server.should_exit = True
    thread.join()


@pytest.fixture
def ledger(served):
    return Ledger(served[1].engine)


def events_of(lines):
    """Yield (name, id, data) of each event, and comments as ("comment", None, None)."""
    event = {}
    for line in lines:
        if line.startswith(":"):
            yield "comment", None, None
        elif line:
            name, _, value = line.partition(": ")
            event[name] = value
        elif event:
            yield event["event"], event["id"], json.loads(event["data"])
            event = {}


def stream(url, job, **headers):
    return httpx.stream("GET", f"{url}/v1/jobs/{job.id}/events", headers=headers, timeout=20)


def test_a_client_sees_a_job_to_its_end_with_the_figures_of_the_job(served, ledger):
    url, _ = served
    job, ids = ledger.submit(refs(4))
    with stream(url, job) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = events_of(answer.iter_lines())
        name, first_id, data = next(events)
        assert (name, data["done"], data["total"], data["id"]) == ("progress", 0, 4, str(job.id))
        ledger.score(ids[:2])
        name, _, data = next(event for event in events if event[2]["done"] == 2)
        assert (name, data["counts"]["scored"]) == ("progress", 2)
        ledger.score(ids[2:3])
        ledger.record([Rejected(claim, Reason.EMPTY, "") for claim in ledger.claim(ids[3:])])
        name, last_id, data = list(events)[-1]
    assert (name, data["state"], data["failures"]) == ("end", "complete", {"empty": 1})
    body = httpx.get(f"{url}/v1/jobs/{job.id}").json()
    assert {**data, "rate_per_second": 0} == {**body, "rate_per_second": 0}
    assert last_id != first_id


def test_a_client_that_comes_back_is_not_told_again(served, ledger):
    url, _ = served
    job, ids = ledger.submit(refs(2))
    with stream(url, job) as answer:
        _, seen, _ = next(events_of(answer.iter_lines()))
    with stream(url, job, **{"Last-Event-ID": seen}) as answer:
        ledger.score(ids)
        events = list(events_of(answer.iter_lines()))
    assert seen not in {event_id for _, event_id, _ in events}
    assert events[-1][0] == "end"
    with stream(url, job, **{"Last-Event-ID": events[-1][1]}) as answer:
        assert answer.status_code == 204
    with stream(url, job) as answer:
        assert [name for name, _, _ in events_of(answer.iter_lines())] == ["end"]


def test_heartbeats_are_comments(served, ledger, monkeypatch):
    monkeypatch.setattr(progress, "HEARTBEAT_SECONDS", 0.1)
    job, _ = ledger.submit(refs(1))
    with stream(served[0], job) as answer:
        events = events_of(answer.iter_lines())
        assert next(events)[0] == "progress"
        assert next(events)[0] == "comment"


def test_unknown_jobs_are_problems(served):
    answer = httpx.get(f"{served[0]}/v1/jobs/0b9b6f3e-8a51-4b7e-9a57-0d1c3a0a5d5f/events")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_many_clients_share_one_poll_and_clients_that_vanish_end_it(served, ledger, monkeypatch):
    url, state = served
    job, _ = ledger.submit(refs(1))
    host, port = url.removeprefix("http://").split(":")
    clients = []
    for _ in range(40):
        client = socket.create_connection((host, int(port)))
        client.sendall(f"GET /v1/jobs/{job.id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        clients.append(client)
    feeds = state.progress_feeds._feeds
    wait_for(lambda: job.id in feeds and feeds[job.id].n_readers == 40)
    assert len(feeds) == 1
    time.sleep(0.3)
    assert state.engine.pool.checkedout() <= 2
    for client in clients:
        client.close()
    wait_for(lambda: not feeds)


def test_a_client_that_does_not_read_gets_the_newest_progress(served, ledger):
    """Events that it has not read are not kept for it: an event is made when there is room for it."""
    job, ids = ledger.submit(refs(30))
    with stream(served[0], job) as answer:
        events = events_of(answer.iter_lines())
        next(events)
        for item_id in ids:
            ledger.score([item_id])
        assert list(events)[-1][2]["done"] == 30
