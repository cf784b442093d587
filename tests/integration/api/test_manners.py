"""HTTP manners of every route, as clients, proxies and browsers meet them."""

import gzip
import json

import pytest
from dpiqa.api.app import create_app
from fastapi.testclient import TestClient
from pydantic import SecretStr
from support.ledger import Ledger, refs

from dpiqa.errors import ConfigurationError
from dpiqa.storage.items import Rejected
from dpiqa.types import Reason

ORIGIN = "https://app.example.org"


@pytest.fixture
def make_client(settings):
    opened = []

    def make(**update):
        chosen = settings.model_copy(update=update)
        client = TestClient(create_app(chosen), raise_server_exceptions=False, follow_redirects=False)
        opened.append(client.__enter__())
        return opened[-1]

    yield make
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def ledger(client):
    return Ledger(client.app.state.engine)


@pytest.fixture
def finished(ledger):
    """A job that is complete."""
    job, ids = ledger.submit(refs(40))
    ledger.score(ids[:39])
    ledger.record([Rejected(claim, Reason.CORRUPT) for claim in ledger.claim(ids[39:])])
    return job


def paths(client):
    """Every path of the service without parameters, and one with."""
    return [path for path in client.get("/openapi.json").json()["paths"] if "{" not in path]


def test_head_is_get_without_a_body(client, finished):
    reads = ["/v1/jobs", "/v1/scores", f"/v1/jobs/{finished.id}", f"/v1/jobs/{finished.id}/report", "/healthz"]
    for path in (*reads, "/docs", "/openapi.json", "/metrics", "/v1/jobs/abcdef12", "/v1/scores?limit=0", "/nowhere"):
        got, headed = client.get(path), client.head(path)
        assert (headed.status_code, headed.content) == (got.status_code, b"")
        assert headed.headers["content-type"] == got.headers["content-type"]
        assert headed.headers["cache-control"] == got.headers["cache-control"]
        if "content-length" in got.headers and "duration" not in got.text and "content-encoding" not in got.headers:
            assert headed.headers["content-length"] in (got.headers["content-length"], str(len(got.content)))


def test_head_of_a_stream_without_an_end_ends(client, ledger):
    job, _ = ledger.submit(refs(1))
    headed = client.head(f"/v1/jobs/{job.id}/events")
    assert (headed.status_code, headed.content) == (200, b"")
    assert headed.headers["content-type"].startswith("text/event-stream")
    for _ in range(6):  # each export that is not read to its end frees its place
        assert client.head("/v1/scores/export").status_code == 200


def test_every_path_names_its_methods(client):
    schema = client.get("/openapi.json").json()["paths"]
    for path, operations in schema.items():
        path = path.replace("{job_id}", "abcdef12").replace("{", "").replace("}", "")  # noqa: PLW2901
        expected = {name.upper() for name in operations} | {"OPTIONS"}
        expected |= {"HEAD"} if "GET" in expected else set()
        asked = client.options(path)
        assert (asked.status_code, asked.content) == (204, b"")
        assert set(asked.headers["allow"].split(", ")) == expected, path
        refused = client.request(next(m for m in ("PUT", "PATCH") if m not in expected), path, json={})
        assert refused.status_code == 405
        assert set(refused.headers["allow"].split(", ")) == expected
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.headers["allow"] in refused.json()["hint"]
    assert client.options("/nowhere").status_code == 404


def test_what_is_not_there_is_a_problem_with_an_id(client):
    answer = client.get("/v2/scores", headers={"X-Request-ID": "mine-1"})
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == "mine-1"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["instance"] == "/v2/scores"


def test_a_crash_is_a_problem_with_an_id(client, monkeypatch):
    monkeypatch.setattr("dpiqa.api.routes.jobs.job_queries.list_jobs", lambda *_, **__: 1 / 0)
    answer = client.get("/v1/jobs")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert answer.headers["x-request-id"]
    assert "division" not in answer.text


@pytest.mark.parametrize(
    ("path", "location"),
    [("/v1/jobs/", "/v1/jobs"), ("/v1/scores/?limit=3&min=0.1", "/v1/scores?limit=3&min=0.1"), ("/docs/", "/docs")],
)
def test_a_slash_at_the_end_is_redirected_to_a_path(client, path, location):
    answer = client.get(path, headers={"Host": "localhost:8000"})
    assert (answer.status_code, answer.headers["location"]) == (308, location)
    assert client.post("/v1/jobs/", json={}).status_code == 308
    assert client.get("/nowhere/").status_code == 404


@pytest.mark.parametrize("path", ["/dpiqa/v1/jobs", "/v1/jobs"], ids=["passed on", "stripped"])
def test_a_path_prefix_is_in_links_and_redirects(make_client, path):
    client = make_client(api_root_path="/dpiqa")
    base = path.removesuffix("/v1/jobs")
    for key in ("a", "b"):
        source = {"kind": "list", "bucket": "b", "keys": [key]}
        submitted = client.post(path, json=source)
        assert submitted.headers["location"] == f"/dpiqa/v1/jobs/{submitted.json()['id']}"
    page = client.get(path, params={"limit": 1})
    link = page.headers["link"].partition(">")[0].removeprefix("<")
    assert link.startswith("/dpiqa/v1/jobs?")
    assert client.get(link.removeprefix("/dpiqa") if not base else link).json()["items"][0]["bucket"] == "b"
    assert client.get(f"{base}/v1/jobs/").headers["location"] == "/dpiqa/v1/jobs"
    assert client.get(f"{base}/nowhere").json()["instance"] == "/dpiqa/nowhere"
    assert client.get(f"{base}/openapi.json").json()["servers"] == [{"url": "/dpiqa"}]
    assert 'href="/dpiqa/jobs"' in client.get(f"{base}/").text
    assert client.get(f"{base}/docs").status_code == 200
    assert client.get("/dpiqa").headers["location"] == "/dpiqa/"
    assert client.get("/dpiqanese/v1/jobs").status_code == 404


def test_the_prefix_opens_no_other_path_without_a_key(make_client):
    client = make_client(api_root_path="/dpiqa", api_key=SecretStr("k" * 40))
    for base in ("", "/dpiqa"):
        assert client.get(f"{base}/healthz").status_code == 200
        assert client.get(f"{base}/v1/jobs").status_code == 401
        assert client.get(f"{base}/v1/jobs", headers={"X-API-Key": "k" * 40}).status_code == 200
    assert client.get("/dpiqa/dpiqa/docs").status_code == 401


def preflight(client, origin=ORIGIN, method="POST", headers="authorization, content-type, idempotency-key"):
    asked = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return client.options("/v1/jobs", headers=asked)


def test_pages_of_other_origins_are_kept_out_unless_they_are_named(make_client):
    closed = make_client(api_key=SecretStr("k" * 40))
    assert "access-control-allow-origin" not in preflight(closed).headers
    assert "access-control-allow-origin" not in closed.get("/healthz", headers={"Origin": ORIGIN}).headers
    client = make_client(api_key=SecretStr("k" * 40), api_cors_origins=f"{ORIGIN} http://localhost:5173")
    allowed = preflight(client)  # a preflight carries no key
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    assert "DELETE" in allowed.headers["access-control-allow-methods"]
    assert "access-control-allow-origin" not in preflight(client, "https://evil.example").headers
    for key, status in (("k" * 40, 200), ("wrong", 401)):
        answer = client.get("/v1/jobs", headers={"Origin": ORIGIN, "X-API-Key": key})
        assert answer.status_code == status  # a page reads the problem, too
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "X-Request-ID" in answer.headers["access-control-expose-headers"]
        assert "Origin" in answer.headers["vary"]


def test_without_a_key_a_named_page_may_write_and_any_page_is_refused_at_start(make_client):
    client = make_client(api_cors_origins=ORIGIN)
    source = {"kind": "list", "bucket": "b", "keys": ["a"]}
    crossing = {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"}
    assert client.post("/v1/jobs", json=source, headers=crossing).status_code == 202
    foreign = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert client.post("/v1/jobs", json=source, headers=foreign).json()["code"] == "foreign_origin"
    with pytest.raises(ConfigurationError, match="every web site"):
        make_client(api_cors_origins="*")
    anybody = make_client(api_cors_origins="*", api_key=SecretStr("k" * 40))
    assert anybody.get("/healthz", headers={"Origin": "https://x"}).headers["access-control-allow-origin"] == "*"


def test_large_answers_are_compressed_for_those_who_ask(client, ledger):
    job, _ = ledger.submit(refs(200))
    path = f"/v1/jobs/{job.id}/items?limit=200"
    plain = client.get(path, headers={"Accept-Encoding": "identity"})
    packed = client.get(path, headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < len(plain.content) / 5
    assert packed.json() == plain.json()
    assert "content-encoding" not in plain.headers
    for header in ("gzip;q=0", "br"):
        assert "content-encoding" not in client.get(path, headers={"Accept-Encoding": header}).headers
    assert "Accept-Encoding" in packed.headers["vary"]
    assert "content-encoding" not in client.get("/healthz", headers={"Accept-Encoding": "gzip"}).headers


def test_a_stream_of_rows_is_compressed_and_one_of_events_is_not(client, finished):
    path = f"/v1/jobs/{finished.id}/report"
    with client.stream("GET", path, headers={"Accept-Encoding": "gzip"}) as answer:
        raw = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(raw) == client.get(path, headers={"Accept-Encoding": "identity"}).content
    parquet = client.get(path, params={"format": "parquet"}, headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in parquet.headers
    events = client.get(f"/v1/jobs/{finished.id}/events", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in events.headers


def test_what_cannot_change_is_asked_for_again_by_its_etag(client, ledger, finished):
    for path in (f"/v1/jobs/{finished.id}", f"/v1/jobs/{finished.id}/report", "/openapi.json", "/docs/start.js"):
        first = client.get(path)
        assert "no-cache" in first.headers["cache-control"]
        etag = first.headers["etag"]
        for known in (etag, etag.removeprefix("W/"), f'"other", {etag}', "*"):
            again = client.get(path, headers={"If-None-Match": known})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == etag
        assert client.head(path, headers={"If-None-Match": etag}).status_code == 304
        assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    ledger.submit(refs(3))
    changing = client.get("/v1/jobs")
    assert (changing.headers["cache-control"], "etag" in changing.headers) == ("no-store", False)


def test_a_job_that_is_retried_has_another_etag(client, finished):
    path = f"/v1/jobs/{finished.id}/report"
    etag = client.get(path).headers["etag"]
    assert client.get(path, params={"format": "jsonl"}).headers["etag"] != etag
    client.post(f"/v1/jobs/{finished.id}/retry", json={})
    again = client.get(path, headers={"If-None-Match": etag})
    assert (again.status_code, again.headers["cache-control"]) == (200, "no-store")


def test_what_a_client_does_not_accept_is_said_to_it(client, finished):
    for accept in ("application/json", "*/*", "text/html, */*;q=0.1", "application/*", ""):
        assert client.get("/v1/jobs", headers={"Accept": accept}).status_code == 200
    for accept in ("text/html", "application/xml", "application/json;q=0", "image/*"):
        answer = client.get("/v1/jobs", headers={"Accept": accept})
        assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")
    export = client.get(f"/v1/jobs/{finished.id}/report", headers={"Accept": "application/json"})
    assert export.status_code == 200


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml", ""])
def test_a_body_of_another_type_is_refused_as_such(client, media_type):
    body = json.dumps({"kind": "list", "bucket": "b", "keys": ["a"]})
    answer = client.post("/v1/jobs", content=body, headers={"Content-Type": media_type} if media_type else {})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    assert "application/json" in answer.json()["hint"]
    assert client.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"}).status_code == 202


@pytest.mark.parametrize("host", ["[::1]:8000", "[::1]", "127.0.0.1:8000", "localhost"])
def test_hosts_of_loopback_are_named_in_every_form(client, host):
    assert client.get("/v1/jobs", headers={"Host": host}).status_code == 200
    for foreign in ("[::2]:8000", "[::1", "evil.example:8000", "127.0.0.1.evil.example"):
        assert client.get("/v1/jobs", headers={"Host": foreign}).json()["code"] == "bad_host"


def test_only_trusted_proxies_say_who_the_client_is(make_client, monkeypatch):
    lines = []
    monkeypatch.setattr("dpiqa.api.monitoring.log.info", lambda _, **line: lines.append(line["client"]))
    claim = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
    make_client().get("/v1/jobs", headers=claim)
    make_client(api_trusted_proxies="testclient").get("/v1/jobs", headers=claim)
    make_client(api_trusted_proxies="10.0.0.0/8").get("/v1/jobs", headers=claim)
    assert lines == ["testclient", "203.0.113.9", "testclient"]
