import pytest
from dpiqa.api.authentication import key_of
from dpiqa.api.security import Rules, is_loopback
from starlette.datastructures import Headers

from dpiqa.errors import ConfigurationError


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "LOCALHOST", "::1", "[::1]"])
def test_loopback(host):
    assert is_loopback(host)
    assert Rules.of(host, None).key_digest is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "api.example.com", "", "localhost.example.com"])
def test_off_loopback_needs_a_key(host):
    with pytest.raises(ConfigurationError, match="DPIQA_API_KEY") as error:
        Rules.of(host, None)
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigurationError):
        Rules.of(host, "")
    assert Rules.of(host, "k").key_digest


@pytest.mark.parametrize(
    ("host", "fits"),
    [
        ("localhost", True),
        ("localhost:8000", True),
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("LocalHost", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.nip.io", False),
        ("evil.example@localhost.x", False),
        ("[::1", False),
        ("", False),
        ("testserver", False),
    ],
)
def test_host_without_key(host, fits):
    assert Rules.of("127.0.0.1", None).admits_host(Headers({"host": host})) is fits


def test_named_hosts_are_added_and_a_key_replaces_the_check():
    assert Rules.of("127.0.0.1", None, ["TestServer"]).admits_host(Headers({"host": "testserver"}))
    assert Rules.of("127.0.0.1", "key").admits_host(Headers({"host": "any.example"}))
    assert not Rules.of("127.0.0.1", None).admits_host(Headers({}))


@pytest.mark.parametrize(
    ("headers", "fits"),
    [
        ({}, True),
        ({"origin": "http://localhost:8000"}, True),
        ({"sec-fetch-site": "same-origin", "origin": "http://127.0.0.1:8000"}, True),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site", "origin": "http://localhost:3000"}, False),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://[::1"}, False),
    ],
)
def test_origin_without_key(headers, fits):
    assert Rules.of("127.0.0.1", None).admits_origin(Headers(headers)) is fits


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({"authorization": "Bearer s3cret"}, "s3cret"),
        ({"authorization": "bearer  s3cret"}, "s3cret"),
        ({"x-api-key": "s3cret"}, "s3cret"),
        ({}, None),
        ({"authorization": "s3cret"}, None),
        ({"authorization": "Basic czpzM2NyZXQ="}, None),
        ({"authorization": "Basic czpzM2NyZXQ=", "x-api-key": "s3cret"}, "s3cret"),
        ({"x-api-key": ""}, ""),
        ({"authorization": "Bearer wrong", "x-api-key": "s3cret"}, "wrong"),
        ({"x-api-key": "s\xe9cret"}, "s\xe9cret"),
    ],
)
def test_where_the_key_stands(headers, key):
    assert key_of("/v1/jobs", Headers(headers)) == key


def test_senders_of_events_may_send_it_as_a_password():
    basic = {"authorization": "Basic c2VuZGVyOnMzY3JldA=="}  # sender:s3cret
    assert key_of("/v1/events", Headers(basic)) == "s3cret"
    assert key_of("/v1/events", Headers({"authorization": "Basic !"})) == ""


def test_what_answers_without_a_key():
    near, far = Rules.of("127.0.0.1", "k"), Rules.of("0.0.0.0", "k")
    for path in ("/healthz", "/readyz", "/docs", "/docs/start.js", "/openapi.json", "/login", "/assets/app.js"):
        assert far.is_open(path)
    for path in ("/", "/jobs", "/metrics", "/v1/scores", "/healthz/", "/healthzz", "/docsx", "//healthz", "/loginx"):
        assert not far.is_open(path)
    assert near.is_open("/metrics")
    assert not near.is_open("/v1/scores")


def test_stored_keys_may_be_demanded_on_loopback_and_suffice_off_it():
    assert not Rules.of("127.0.0.1", None).requires_key
    assert Rules.of("127.0.0.1", None, require_key=True).requires_key
    assert Rules.of("0.0.0.0", None, require_key=True).key_digest is None


def test_the_key_does_not_show():
    assert "s3cret" not in repr(Rules.of("0.0.0.0", "s3cret"))
