"""Limits of keys, of addresses that guess, and of what waits; and the audit of what callers do."""

import asyncio
import time

import httpx
import pytest
from dpiqa.api import authentication, limits
from dpiqa.api.app import create_app
from fastapi.testclient import TestClient
from support.ledger import Ledger, refs

from dpiqa.access import Grants
from dpiqa.settings import load_settings
from dpiqa.storage.api_keys import KeyRequest, create_key, revoke_keys
from dpiqa.storage.audit import prune_audit
from dpiqa.types import KeyScope

BOOTSTRAP = "bootstrap-key"


@pytest.fixture
def open_client(database_url, broker_url):
    def open_with(**more):
        settings = load_settings(
            database_url=database_url, broker_url=broker_url, profile="smoke", api_key=BOOTSTRAP, **more
        )
        return TestClient(create_app(settings), raise_server_exceptions=False)

    return open_with


def key(client, **more):
    request = KeyRequest(name=more.pop("name", "shop"), scopes=more.pop("scopes", [KeyScope.SUBMIT]), **more)
    made, text = Ledger(client.app.state.engine).do(create_key, request)
    return made, {"X-API-Key": text}


def test_requests_a_minute_of_one_key(open_client):
    client = open_client()
    _, headers = key(client, scopes=[KeyScope.READ], requests_per_minute=5)
    _, others = key(client, name="other", scopes=[KeyScope.READ], requests_per_minute=5)
    answers = [client.get("/v1/jobs", headers=headers) for _ in range(7)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
    refused = answers[-1]
    assert refused.json()["code"] == "limit_exceeded"
    assert 1 <= int(refused.headers["Retry-After"]) <= 13
    assert client.get("/v1/jobs", headers=others).status_code == 200
    assert client.get("/v1/jobs", headers={"X-API-Key": BOOTSTRAP}).status_code == 200


def test_a_bucket_of_tokens_fills_again():
    now = 0.0
    rates = limits.RequestRates(lambda: now)
    for _ in range(60):
        rates.take("a", 60)
    with pytest.raises(Exception, match="60 requests a minute") as error:
        rates.take("a", 60)
    assert error.value.retry_seconds == 2
    now = 2.0
    rates.take("a", 60)
    rates.take("a", 60)
    with pytest.raises(Exception, match="60 requests"):
        rates.take("a", 60)
    for n in range(limits.MAX_KEYS + 10):
        rates.take(f"k{n}", 60)
    assert len(rates._buckets) == limits.MAX_KEYS


def test_open_jobs_of_one_client(open_client, s3):
    client = open_client(**s3.settings)
    _, headers = key(client, max_open_jobs=2)

    def submit(n):
        return client.post("/v1/jobs", json={"bucket": s3.name, "prefix": f"{n}/"}, headers=headers)

    first = submit(1).json()
    assert submit(2).status_code == 202
    refused = submit(3)
    assert (refused.status_code, refused.json()["code"]) == (429, "limit_exceeded")
    assert refused.headers["Retry-After"] == "60"
    assert client.post("/v1/watches", json={"bucket": s3.name}, headers=headers).status_code == 429
    client.post(f"/v1/jobs/{first['id']}/pause", headers=headers)
    assert submit(3).status_code == 429  # a paused job is open
    assert client.post(f"/v1/jobs/{first['id']}/cancel", headers=headers).status_code == 200
    assert submit(3).status_code == 202
    ledger = Ledger(client.app.state.engine)
    assert ledger.one("SELECT count(*) FROM jobs WHERE client = 'shop'") == 3  # the refused ones left nothing


def test_while_too_much_waits_no_job_is_accepted(open_client):
    client = open_client(max_waiting_items=5)
    headers = {"X-API-Key": BOOTSTRAP}
    submit = lambda: client.post("/v1/jobs", json={"bucket": "photos"}, headers=headers)  # noqa: E731
    assert submit().status_code == 202
    ledger = Ledger(client.app.state.engine)
    _, ids = ledger.submit(refs(5))
    client.app.state.backlog._known = None
    refused = submit()
    assert (refused.status_code, refused.json()["code"], refused.headers["Retry-After"]) == (503, "overloaded", "60")
    event = {"Event": "s3:TestEvent"}
    assert client.post("/v1/events", json=event, headers=headers).status_code == 202  # or it would be lost
    ledger.score(ids[:2])
    client.app.state.backlog._known = None
    assert submit().status_code == 202


def test_wrong_keys_are_answered_later_and_later_and_right_ones_at_once():
    now = 0.0
    wrong = limits.WrongKeys(lambda: now)
    delays = []
    for _ in range(20):
        group, seconds = wrong.begin("10.0.0.1")
        wrong.end(group)
        delays.append(seconds)
    assert delays[:5] == [0.0] * 5
    assert delays[5:9] == [0.2, 0.4, 0.8, 1.6]
    assert delays[-1] == limits.MAX_DELAY_SECONDS
    assert wrong.begin("10.0.0.2")[1] == 0.0
    assert wrong.begin("2001:db8::1")[0] == wrong.begin("2001:db8::2")[0]
    now = limits.FORGET_SECONDS + 1
    assert wrong.begin("10.0.0.1")[1] == 0.0
    for n in range(limits.MAX_ADDRESSES + 10):
        wrong.begin(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")
    assert len(wrong._attempts) == limits.MAX_ADDRESSES


def test_many_guesses_at_once_are_refused_unread_and_keys_in_use_still_work(open_client, monkeypatch):
    monkeypatch.setattr(limits, "FREE_ATTEMPTS", 0)
    monkeypatch.setattr(limits, "MAX_DELAY_SECONDS", 1.0)
    client = open_client()

    async def guess():
        transport = httpx.ASGITransport(app=client.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as http:
            good = {"X-API-Key": BOOTSTRAP}
            assert (await http.get("/v1/jobs", headers=good)).status_code == 200
            for _ in range(4):
                await http.get("/v1/jobs", headers={"X-API-Key": "warm"})
            guesses = [asyncio.create_task(http.get("/v1/jobs", headers={"X-API-Key": f"guess{n}"})) for n in range(20)]
            await asyncio.sleep(0.3)
            started = time.monotonic()
            assert (await http.get("/v1/jobs", headers=good)).status_code == 200
            assert time.monotonic() - started < 1
            return [answer.status_code for answer in await asyncio.gather(*guesses)]

    statuses = asyncio.run(guess())
    assert statuses.count(401) == limits.MAX_WAITING
    assert statuses.count(429) == 20 - limits.MAX_WAITING


def test_a_revoked_key_is_refused_soon(open_client, monkeypatch):
    client = open_client()
    made, headers = key(client, scopes=[KeyScope.READ])
    assert client.get("/v1/jobs", headers=headers).status_code == 200
    Ledger(client.app.state.engine).do(revoke_keys, made.id)
    monkeypatch.setattr(authentication.time, "monotonic", lambda clock=time.monotonic: clock() + 6)
    assert client.get("/v1/jobs", headers=headers).status_code == 401


def test_the_audit_says_who_did_what(open_client, s3):
    client = open_client(**s3.settings)
    source = f"s3://{s3.name}/in/"
    made, headers = key(client, scopes=[KeyScope.READ, KeyScope.SUBMIT], grants=Grants.of([source]))
    job = client.post("/v1/jobs", json={"source": source}, headers={**headers, "X-Request-ID": "r-1"})
    assert job.headers["X-Request-ID"] == "r-1"
    job_id = job.json()["id"]
    client.post(f"/v1/jobs/{job_id}/cancel", headers=headers)
    client.delete(f"/v1/jobs/{job_id}", headers=headers)
    client.get(f"/v1/scores/export?bucket={s3.name}&prefix=in/&max=0.4", headers=headers)
    watch = client.post("/v1/watches", json={"source": source, "backfill": False}, headers=headers).json()
    client.delete(f"/v1/watches/{watch['id']}", headers=headers)
    admin = {"X-API-Key": BOOTSTRAP}
    assert client.get("/v1/audit", headers=headers).status_code == 403
    entries = client.get("/v1/audit", headers=admin).json()["items"][::-1]
    assert [(entry["action"], entry["subject"]) for entry in entries] == [
        ("submit", job_id),
        ("cancel", job_id),
        ("delete", job_id),
        ("export", f"s3://{s3.name}/"),
        ("submit", watch["id"]),
        ("watch", watch["id"]),
        ("cancel", watch["id"]),
    ]
    first = entries[0]
    assert (first["actor"], first["key_id"], first["request_id"]) == ("shop", made.id, "r-1")
    assert first["address"] == "testclient"
    assert first["detail"] == {"kind": "prefix", "address": source, "profiles": ["smoke@1"]}
    assert entries[3]["detail"] == {
        "schema": "scores@1",
        "prefix": "in/",
        "profile": "smoke@1",
        "max": 0.4,
        "format": "csv",
    }
    assert headers["X-API-Key"] not in client.get("/v1/audit", headers=admin).text
    page = client.get("/v1/audit?limit=2&action=submit", headers=admin).json()
    assert [entry["subject"] for entry in page["items"]] == [watch["id"], job_id]
    assert client.get(f"/v1/audit?actor={made.id}&limit=1", headers=admin).json()["next_cursor"]
    assert client.get("/v1/audit?actor=bootstrap", headers=admin).json()["items"] == []


def test_a_refused_request_leaves_no_entry_and_old_entries_go(open_client):
    client = open_client()
    _, headers = key(client, grants=Grants.of(["s3://photos/in/"]))
    assert client.post("/v1/jobs", json={"bucket": "photos"}, headers=headers).status_code == 404
    ledger = Ledger(client.app.state.engine)
    assert ledger.one("SELECT count(*) FROM audit") == 0
    assert client.post("/v1/jobs", json={"source": "s3://photos/in/"}, headers=headers).status_code == 202
    assert ledger.do(prune_audit, 1.0) is False
    assert ledger.one("SELECT count(*) FROM audit") == 1
    ledger.sql("UPDATE audit SET at = at - interval '2 days'")
    ledger.do(prune_audit, 1.0)
    assert ledger.one("SELECT count(*) FROM audit") == 0


def test_keys_are_in_no_log_line_and_no_answer(open_client, monkeypatch, capfd):
    monkeypatch.setattr(limits, "FREE_ATTEMPTS", 100)
    client = open_client()
    _, headers = key(client)
    text = headers["X-API-Key"]
    wrong = text[:-4] + "AAAA"
    for sent in (text, wrong, "canary-" + text):
        for path in ("/v1/jobs", f"/v1/jobs?api_key={sent}", "/v1/jobs/latest", "/v1/nowhere"):
            for name in ({"X-API-Key": sent}, {"Authorization": f"Bearer {sent}"}):
                answer = client.get(path, headers=name)
                assert sent.rsplit("_", 1)[1] not in answer.text
    logged = "".join(capfd.readouterr())
    assert "request_id" in logged
    assert text.split("_", 2)[2] not in logged
    assert wrong.split("_", 2)[2] not in logged
