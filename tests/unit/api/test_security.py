import pytest
from dpiqa.api.security import Access, is_loopback
from starlette.datastructures import Headers

from dpiqa.errors import ConfigurationError


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "LOCALHOST", "::1", "[::1]"])
def test_loopback(host):
    assert is_loopback(host)
    assert Access.of(host, None).key_digest is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "api.example.com", "", "localhost.example.com"])
def test_off_loopback_needs_a_key(host):
    with pytest.raises(ConfigurationError, match="DPIQA_API_KEY") as error:
        Access.of(host, None)
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigurationError):
        Access.of(host, "")
    assert Access.of(host, "k").key_digest


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
    assert Access.of("127.0.0.1", None).admits_host(Headers({"host": host})) is fits


def test_named_hosts_are_added_and_a_key_replaces_the_check():
    assert Access.of("127.0.0.1", None, ["TestServer"]).admits_host(Headers({"host": "testserver"}))
    assert Access.of("127.0.0.1", "key").admits_host(Headers({"host": "any.example"}))
    assert not Access.of("127.0.0.1", None).admits_host(Headers({}))


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
    assert Access.of("127.0.0.1", None).admits_origin(Headers(headers)) is fits


@pytest.mark.parametrize(
    ("headers", "fits"),
    [
        ({"authorization": "Bearer s3cret"}, True),
        ({"authorization": "bearer  s3cret"}, True),
        ({"x-api-key": "s3cret"}, True),
        ({}, False),
        ({"authorization": "Bearer wrong"}, False),
        ({"authorization": "s3cret"}, False),
        ({"authorization": "Basic s3cret"}, False),
        ({"x-api-key": ""}, False),
        ({"authorization": "Bearer wrong", "x-api-key": "s3cret"}, False),
        ({"x-api-key": "s\xe9cret"}, False),
    ],
)
def test_key(headers, fits):
    assert Access.of("0.0.0.0", "s3cret").admits_key("/v1/jobs", Headers(headers)) is fits


def test_what_answers_without_a_key():
    near, far = Access.of("127.0.0.1", "k"), Access.of("0.0.0.0", "k")
    for path in ("/", "/healthz", "/readyz", "/docs", "/docs/start.js", "/openapi.json"):
        assert far.admits_key(path, Headers({}))
    for path in ("/metrics", "/v1/scores", "/healthz/", "/healthzz", "/docsx", "//healthz"):
        assert not far.admits_key(path, Headers({}))
    assert near.admits_key("/metrics", Headers({}))
    assert not near.admits_key("/v1/scores", Headers({}))


def test_the_key_does_not_show():
    assert "s3cret" not in repr(Access.of("0.0.0.0", "s3cret"))
