"""Who gets in: with a key, without one, by which name, from which page."""

import pytest
from dpiqa.api.app import create_app
from fastapi.testclient import TestClient

from dpiqa.errors import ConfigurationError
from dpiqa.settings import load_settings

KEY = "canary-key"
GUARDED = ["/v1/jobs", "/v1/scores", "/v1/scores/lookup?bucket=b&key=k", "/metrics", "/v1/nowhere"]
OPEN = ["/healthz", "/readyz", "/docs", "/docs/start.js", "/openapi.json", "/login"]


@pytest.fixture
def opened(database_url, broker_url):
    def open_with(**more):
        settings = load_settings(database_url=database_url, broker_url=broker_url, profile="smoke", **more)
        return TestClient(create_app(settings), raise_server_exceptions=False, follow_redirects=False)

    return open_with


def test_off_loopback_without_a_key_nothing_starts(opened):
    with pytest.raises(ConfigurationError, match="DPIQA_API_KEY"):
        opened(api_host="0.0.0.0")


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_with_a_key(opened, host):
    client = opened(api_host=host, api_key=KEY)
    for path in OPEN:
        assert client.get(path).status_code in (200, 307)
    for path in GUARDED:
        if path == "/metrics" and host == "127.0.0.1":
            assert client.get(path).status_code == 200
            continue
        for headers in ({}, {"X-API-Key": "wrong"}, {"Authorization": f"Basic {KEY}"}):
            answer = client.get(path, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"
            assert KEY not in answer.text
        for headers in ({"X-API-Key": KEY}, {"Authorization": f"Bearer {KEY}"}):
            assert client.get(path, headers=headers).status_code in (200, 404)


def test_nothing_is_done_without_the_key(opened):
    client = opened(api_host="0.0.0.0", api_key=KEY)
    assert client.post("/v1/jobs", json={"bucket": "b"}).status_code == 401
    assert client.post("/v1/jobs", content=b"{").status_code == 401
    assert client.post("/v1/events", json={"Records": []}).status_code == 401
    assert client.get("/v1/jobs", headers={"X-API-Key": KEY}).json()["items"] == []


def test_refused_keys_are_counted_by_reason(opened):
    client = opened(api_host="0.0.0.0", api_key=KEY)
    client.get("/v1/jobs")
    for _ in range(3):
        client.get("/v1/jobs", headers={"X-API-Key": "wrong"})
    shown = client.get("/metrics", headers={"X-API-Key": KEY}).text
    assert 'dpiqa_api_key_failures_total{reason="missing"} 1.0' in shown
    assert 'dpiqa_api_key_failures_total{reason="wrong"} 3.0' in shown
    assert 'reason="limit"' not in shown


def test_on_loopback_only_its_own_names_and_pages(opened):
    client = opened()
    local = {"Host": "localhost:8000"}
    assert client.get("/v1/jobs", headers=local).status_code == 200
    rebound = client.get("/v1/jobs", headers={"Host": "evil.example"})
    assert (rebound.status_code, rebound.json()["code"]) == (400, "bad_host")
    assert client.get("/healthz", headers={"Host": "evil.example"}).status_code == 400
    for page in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = client.post("/v1/events", json={"Event": "s3:TestEvent"}, headers=local | page)
        assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")
        assert client.get("/docs", headers=local | page).status_code == 200
    own = local | {"Origin": "http://localhost:8000", "Sec-Fetch-Site": "same-origin"}
    assert client.post("/v1/events", json={"Event": "s3:TestEvent"}, headers=own).status_code == 202
