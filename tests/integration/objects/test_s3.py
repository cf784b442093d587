import socket
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dpiqa.errors import ConfigurationError, ImageRejected, ObjectChanged, ObjectGone, StoreUnavailable
from dpiqa.objects import s3 as s3_module
from dpiqa.objects.s3 import S3Store
from dpiqa.settings import load_settings
from dpiqa.types import ImageRef, Reason

KEYS = [
    "plain.jpg", "a b", "a+b", "a%2Bb", "a%20b", "x//y", "/leading", "ü/é.jpg", "😀.png", "a/./b", "a/../c",
    "q?x=1&y", "h#f", "k" * 1024, "a=b;c,d", "back\\slash", '"q"', "tab\tx", "trailing/",
]  # fmt: skip


KEYS_OF_AWS = {"aws_access_key_id": "test", "aws_secret_access_key": "canary"}


def store_at(endpoint, read_seconds=10, **settings):
    return S3Store.from_settings(load_settings(s3_endpoint_url=endpoint, **settings), read_seconds=read_seconds)


@pytest.fixture
def store(s3):
    return store_at(s3.endpoint, **KEYS_OF_AWS)


def listed(store, bucket, prefix="", start_after=None):
    return [ref for page in store.list(bucket, prefix, start_after) for ref in page]


def reason(call, *arguments):
    with pytest.raises(ImageRejected) as caught:
        call(*arguments)
    return caught.value.reason


def test_any_key_is_listed_and_read(s3, store):
    for key in KEYS:
        s3.client.put_object(Bucket=s3.name, Key=key, Body=key.encode())
    s3.client.put_object(Bucket=s3.name, Key="folder/", Body=b"")
    refs = listed(store, s3.name)
    assert [ref.key for ref in refs] == sorted(KEYS, key=str.encode)
    for ref in refs:
        fetched = store.get(ref, 2000)
        assert fetched.data == ref.key.encode()
        assert fetched.etag == ref.etag
        assert store.head(s3.name, ref.key).etag == ref.etag
        assert ref.size == len(fetched.data)
        assert fetched.last_modified == ref.last_modified


def test_pages_resume_after_any_key(s3, store, monkeypatch):
    monkeypatch.setattr(s3_module, "_PAGE", 3)
    keys = sorted(f"p/{n}{suffix}" for n in range(5) for suffix in ("", " +%", "/x"))
    for key in [*keys, "other"]:
        s3.client.put_object(Bucket=s3.name, Key=key, Body=b"x")
    pages = list(store.list(s3.name, "p/"))
    assert [len(page) for page in pages] == [3] * 5
    for n, key in enumerate(keys):
        assert [ref.key for ref in listed(store, s3.name, "p/", start_after=key)] == keys[n + 1 :]


def test_an_overwritten_object_is_not_taken_for_the_requested_one(s3, store):
    s3.client.put_object(Bucket=s3.name, Key="k", Body=b"first")
    old = store.head(s3.name, "k")
    s3.client.put_object(Bucket=s3.name, Key="k", Body=b"second")
    with pytest.raises(ObjectChanged) as caught:
        store.get(old, 100)
    assert caught.value.current.size == 6
    assert store.get(caught.value.current, 100).data == b"second"
    assert store.get(replace(old, etag=""), 100).data == b"second"


@pytest.fixture
def versioned(s3):
    s3.client.put_bucket_versioning(Bucket=s3.name, VersioningConfiguration={"Status": "Enabled"})
    yield s3
    answer = s3.client.list_object_versions(Bucket=s3.name)
    for item in [*answer.get("Versions", []), *answer.get("DeleteMarkers", [])]:
        s3.client.delete_object(Bucket=s3.name, Key=item["Key"], VersionId=item["VersionId"])


def test_versions(versioned, store):
    s3 = versioned
    first = s3.client.put_object(Bucket=s3.name, Key="k", Body=b"first")
    s3.client.put_object(Bucket=s3.name, Key="k", Body=b"second")
    ref = ImageRef(bucket=s3.name, key="k", etag=first["ETag"].strip('"'), version_id=first["VersionId"])
    fetched = store.get(ref, 100)
    assert (fetched.data, fetched.version_id) == (b"first", first["VersionId"])
    assert store.head(s3.name, "k", first["VersionId"]).etag == ref.etag
    marker = s3.client.delete_object(Bucket=s3.name, Key="k")
    with pytest.raises(ObjectGone):
        store.get(replace(ref, version_id=None), 100)
    with pytest.raises(ObjectGone):
        store.get(replace(ref, version_id=marker["VersionId"]), 100)
    assert store.get(ref, 100).data == b"first"
    s3.client.delete_object(Bucket=s3.name, Key="k", VersionId=first["VersionId"])
    with pytest.raises(ObjectGone):
        store.get(ref, 100)


def test_what_cannot_be_read(s3, store):
    s3.client.put_object(Bucket=s3.name, Key="empty", Body=b"")
    s3.client.put_object(Bucket=s3.name, Key="big", Body=bytes(1001))
    s3.client.put_object(Bucket=s3.name, Key="cold", Body=b"x", StorageClass="GLACIER")
    assert reason(store.get, store.head(s3.name, "empty"), 1000) is Reason.EMPTY
    assert reason(store.get, store.head(s3.name, "big"), 1000) is Reason.TOO_MANY_BYTES
    assert len(store.get(store.head(s3.name, "big"), 1001).data) == 1001
    assert reason(store.get, ImageRef(bucket=s3.name, key="cold", etag=""), 1000) is Reason.ARCHIVED


def test_what_does_not_exist(s3, store):
    for bucket, key in ((s3.name, "none"), ("No_Bucket!", "k")):
        with pytest.raises(ObjectGone):
            store.get(ImageRef(bucket=bucket, key=key, etag=""), 100)
    assert reason(store.get, ImageRef(bucket="no-such-bucket-here", key="k", etag="e"), 100) is Reason.NOT_FOUND
    store.require_bucket(s3.name)
    for bucket in ("no-such-bucket-here", "No_Bucket!"):
        with pytest.raises(ObjectGone):
            store.head(bucket, "k")
        with pytest.raises(ConfigurationError, match="there is no bucket"):
            store.require_bucket(bucket)
        with pytest.raises(ConfigurationError, match="there is no bucket") as caught:
            listed(store, bucket)
        assert caught.value.hint
    assert listed(store, s3.name) == []


class Script:
    """An S3 that answers each request with the next of some prepared answers; the last repeats."""

    def __init__(self, *answers):
        self.answers, self.requests = list(answers), []
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                script.requests.append(self.path)
                answer = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
                answer(self)
                self.close_connection = True

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self):
        self.thread.start()
        return self, store_at(f"http://127.0.0.1:{self.server.server_port}", **KEYS_OF_AWS)

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def sends(body, claimed=None):
    def answer(handler):
        handler.send_response(200)
        handler.send_header("ETag", '"abc"')
        handler.send_header("Content-Length", str(claimed or len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def refuses(status, code):
    def answer(handler):
        body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


REF = ImageRef(bucket="bucket", key="k", etag="abc")
WHOLE = sends(b"0123456789")
CUT = sends(b"01234", claimed=10)


@pytest.mark.parametrize("fault", [CUT, refuses(503, "SlowDown"), refuses(500, "InternalError"), lambda handler: None])
def test_a_passing_fault_is_retried(fault):
    with Script(fault, WHOLE) as (script, store):
        assert store.get(REF, 100).data == b"0123456789"
    assert len(script.requests) == 2


@pytest.mark.parametrize("fault", [CUT, refuses(503, "SlowDown"), refuses(403, "ExpiredToken"), lambda handler: None])
def test_a_lasting_fault_is_the_stores_and_no_images(fault):
    with Script(fault) as (script, store), pytest.raises(StoreUnavailable) as caught:
        store.get(REF, 100)
    assert len(script.requests) == 3
    assert "canary" not in str(caught.value)


def test_a_listing_survives_a_passing_fault_and_waits_for_a_lasting_one():
    body = b"<ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated></ListBucketResult>"
    with Script(refuses(503, "SlowDown"), sends(body)) as (script, store):
        assert listed(store, "bucket") == []
    assert len(script.requests) == 2
    with Script(refuses(503, "SlowDown")) as (_, store), pytest.raises(StoreUnavailable):
        listed(store, "bucket")


def test_access_denied_is_the_images_in_a_get_and_the_deployments_in_a_listing():
    with Script(refuses(403, "AccessDenied")) as (script, store):
        assert reason(store.get, REF, 100) is Reason.ACCESS_DENIED
        assert len(script.requests) == 1
        with pytest.raises(ConfigurationError, match="cannot be listed") as caught:
            listed(store, "bucket")
    assert "s3:ListBucket" in caught.value.hint


def test_a_body_beyond_the_limit_is_not_read():
    sent = []

    def endless(handler):
        sends(b"", claimed=10**9)(handler)
        while len(sent) < 1000:
            try:
                handler.wfile.write(bytes(1 << 20))
                sent.append(1)
            except OSError:
                return

    with Script(endless) as (_, store):
        assert reason(store.get, REF, 1000) is Reason.TOO_MANY_BYTES
    assert len(sent) < 100


def test_a_silent_server_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = store_at(f"http://127.0.0.1:{silent.getsockname()[1]}", read_seconds=0.2, **KEYS_OF_AWS)
        start = time.monotonic()
        with pytest.raises(StoreUnavailable):
            store.get(REF, 100)
    assert time.monotonic() - start < 20


def test_a_body_that_trickles_forever_is_given_up():
    given_up = threading.Event()

    def trickles(handler):
        sends(b"", claimed=1000)(handler)
        while not given_up.wait(0.02):
            try:
                handler.wfile.write(b"0")
            except OSError:
                return

    with Script(trickles) as (script, _):
        settings = load_settings(s3_endpoint_url=f"http://127.0.0.1:{script.server.server_port}", **KEYS_OF_AWS)
        impatient = S3Store.from_settings(settings, body_seconds=0.2)
        with pytest.raises(StoreUnavailable):
            impatient.get(REF, 10_000)
        given_up.set()
    assert len(script.requests) == 3


def test_no_server_at_all():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(StoreUnavailable) as caught:
        listed(store_at(f"http://127.0.0.1:{port}", **KEYS_OF_AWS), "bucket")
    assert "DPIQA_S3_ENDPOINT_URL" in caught.value.hint


def test_no_credentials_at_all():
    with Script(WHOLE) as (script, _):
        store = store_at(f"http://127.0.0.1:{script.server.server_port}")
        with pytest.raises(ConfigurationError) as caught:
            listed(store, "bucket")
        with pytest.raises(StoreUnavailable):
            store.get(REF, 100)
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint


def test_a_wrong_address_is_one_line_with_a_hint():
    with pytest.raises(ConfigurationError) as caught:
        store_at("no address")
    assert "DPIQA_S3_ENDPOINT_URL" in caught.value.hint
    assert "\n" not in str(caught.value)
