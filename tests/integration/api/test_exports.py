"""Exports over HTTP: the rows of a query, complete or visibly broken off."""

import csv
import io
import json
import threading

import httpx
import pyarrow.parquet
import pytest
import uvicorn
from dpiqa.api import exports
from dpiqa.api.app import create_app
from support.ledger import BOTH, Ledger, refs

from dpiqa.exports import rows
from dpiqa.exports.schemas import FAILURES, ITEMS, SCORES
from dpiqa.storage.items import Rejected
from dpiqa.types import Reason


@pytest.fixture
def job(client):
    """Thirty images of scores 0.00 to 0.29, and one rejected; the whole of it final."""
    ledger = Ledger(client.app.state.engine, BOTH)
    job, ids = ledger.submit(refs(31))
    ledger.score(ids[:30], value=lambda claim: int(claim.ref.key[1:]) / 100)
    ledger.record([Rejected(claim, Reason.EMPTY, "no bytes") for claim in ledger.claim(ids[30:])])
    return job


def export(client, path="/v1/scores/export", **query):
    answer = client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer


def test_scores_in_three_formats(client, job, monkeypatch):
    monkeypatch.setattr(rows, "PAGE_ROWS", 7)
    query = {"profile": BOTH.id, "max": 0.2, "bucket": "photos"}
    answer = export(client, **query)
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="scores.csv"'
    in_csv = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    in_json = [json.loads(line) for line in export(client, **query, format="jsonl").text.splitlines()]
    table = pyarrow.parquet.read_table(io.BytesIO(export(client, **query, format="parquet").content))
    assert tuple(in_csv[0]) == tuple(in_json[0]) == tuple(table.column_names) == SCORES.names
    expected = [n / 100 for n in range(21)]
    assert [float(row["score"]) for row in in_csv] == [row["score"] for row in in_json] == expected
    assert table.column("score").to_pylist() == expected
    page = client.get("/v1/scores", params=query).json()["items"]
    assert [{name: row[name] for name in SCORES.names if name != "updated_at"} for row in page] == [
        {name: row[name] for name in SCORES.names if name != "updated_at"} for row in in_json
    ]
    assert export(client, **query | {"bucket": "none"}).text == ",".join(SCORES.names) + "\r\n"


def test_the_report_of_a_job(client, job):
    path = f"/v1/jobs/{job.id}/report"
    items = [json.loads(line) for line in export(client, path, format="jsonl").text.splitlines()]
    assert tuple(items[0]) == ITEMS.names
    assert [item["state"] for item in items] == ["scored"] * 30 + ["rejected"]
    assert [item["score"] for item in items] == [n / 100 for n in range(30)] + [None]
    (failure,) = [json.loads(line) for line in export(client, path, format="jsonl", failures=True).text.splitlines()]
    assert tuple(failure) == FAILURES.names
    assert (failure["key"], failure["reason"], failure["detail"]) == ("k00030", "empty", "no bytes")


def test_errors_before_the_first_byte_are_problems(client, job):
    for path, status in [
        ("/v1/scores/export?format=xml", 422),
        ("/v1/scores/export?min=1&max=0", 422),
        ("/v1/scores/export?limit=5", 422),
        ("/v1/jobs/0b9b6f3e-8a51-4b7e-9a57-0d1c3a0a5d5f/report", 404),
    ]:
        answer = client.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


def test_only_so_many_exports_run_at_once_and_failed_ones_do_not_count(client, job, monkeypatch):
    def fails(*_, **__):
        raise OSError("the disk is gone")
        yield

    monkeypatch.setattr("dpiqa.api.routes.scores.score_batches", fails)
    for _ in range(exports.MAX_EXPORTS + 1):
        assert client.get("/v1/scores/export").status_code == 500
    monkeypatch.undo()
    monkeypatch.setattr(exports, "_slots", threading.BoundedSemaphore(1))
    assert export(client).status_code == 200
    exports._slots.acquire()
    answer = client.get("/v1/scores/export")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")


@pytest.fixture
def served(settings):
    """The application behind a real socket; gives its URL."""
    server = uvicorn.Server(uvicorn.Config(create_app(settings), port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.01)
    host, port = server.servers[0].sockets[0].getsockname()
    yield f"http://{host}:{port}"
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_an_error_in_the_middle_breaks_the_response_off(served, job, monkeypatch, kind):
    def two_pages(engine, query, **_):
        yield from rows_of_query(engine, query, 5)
        raise OSError("the disk is gone")

    rows_of_query = rows.score_batches
    monkeypatch.setattr("dpiqa.api.routes.scores.score_batches", two_pages)
    query = {"profile": BOTH.id, "format": kind}
    with httpx.stream("GET", f"{served}/v1/scores/export", params=query) as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
            answer.read()
