import pytest
from pydantic import TypeAdapter, ValidationError

from dpiqa.addresses import S3Address
from dpiqa.http_api.job_requests import JobRequest, ListJob, PrefixJob, WatchJob

REQUEST = TypeAdapter(JobRequest)


@pytest.mark.parametrize(
    ("body", "cls", "address"),
    [
        ({"bucket": "b"}, PrefixJob, ("b", "")),
        ({"bucket": "b", "prefix": "p/"}, PrefixJob, ("b", "p/")),
        ({"kind": "prefix", "source": "s3://b/p/q"}, PrefixJob, ("b", "p/q")),
        ({"source": "s3://b"}, PrefixJob, ("b", "")),
        ({"source": "s3://b//odd"}, PrefixJob, ("b", "/odd")),
        ({"kind": "watch", "source": "s3://b/p?q#r"}, WatchJob, ("b", "p?q#r")),
    ],
)
def test_addresses(body, cls, address):
    request = REQUEST.validate_python(body)
    assert isinstance(request, cls)
    assert request.address == S3Address(*address)


def test_list():
    request = REQUEST.validate_python({"kind": "list", "bucket": "b", "keys": ["a", "b"], "profile": "smoke"})
    assert isinstance(request, ListJob)
    assert request.keys == ["a", "b"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        "x",
        None,
        {"bucket": ""},
        {"bucket": "b/p"},
        {"bucket": "b c"},
        {"bucket": "file:///etc"},
        {"source": "s3://b c/p"},
        {"kind": "watch", "bucket": "file:///etc"},
        {"kind": "list", "bucket": "b/p", "keys": ["k"]},
        {"kind": "manifest", "source": "s3://b c/k.csv"},
        {"bucket": None},
        {"bucket": "b", "source": "s3://b/p"},
        {"source": "s3://b", "prefix": "p"},
        {"source": "https://b/p"},
        {"source": "s3:///p"},
        {"source": "s3://"},
        {"bucket": "b", "colour": "red"},
        {"bucket": "b", "prefix": "a\x00b"},
        {"bucket": "b", "prefix": "x" * 1025},
        {"bucket": "b", "prefix": "\ud800"},
        {"kind": "prefix", "bucket": "b", "keys": ["a"]},
        {"kind": "list", "bucket": "b"},
        {"kind": "list", "bucket": "b", "keys": []},
        {"kind": "list", "bucket": "b", "keys": [""]},
        {"kind": "list", "bucket": "b", "keys": ["k"] * 1001},
        {"kind": "list", "source": "s3://b/p", "keys": ["k"]},
        {"kind": "manifest", "bucket": "b"},
        {"kind": ["list"], "bucket": "b"},
        {"kind": None, "bucket": "b"},
        {"bucket": "b", "profile": ""},
    ],
)
def test_refused(body):
    with pytest.raises(ValidationError):
        REQUEST.validate_python(body)
