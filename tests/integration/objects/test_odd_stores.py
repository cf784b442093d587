"""Stores that are not AWS: what they get wrong ends in progress, or in a reason, and never holds up other objects."""

import gzip as gzip_file
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

import pytest

from dpiqa.errors import ConfigurationError, ImageRejected, ObjectChanged, StoreUnavailable
from dpiqa.objects.s3 import S3Store
from dpiqa.settings import load_settings
from dpiqa.types import ImageRef, Reason

KEYS = [f"k{n:02}" for n in range(10)]
REF = ImageRef(bucket="bucket", key="k", etag="abc")


class OddStore:
    """A small S3 whose faults are set by its attributes. `listing` and `objects` map to what it answers."""

    def __init__(self):
        self.requests, self.pages, self.answer = [], (lambda _: page([])), None
        self.head_answer = None
        self.lock = threading.Lock()
        store = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                url = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
                with store.lock:
                    store.requests.append((self.command, url.path, query, dict(self.headers)))
                if "list-type" in query or url.path.count("/") == 1:
                    status, headers, body = store.pages(query)
                else:
                    chosen = store.head_answer if self.command == "HEAD" and store.head_answer else store.answer
                    status, headers, body = chosen(url.path)
                self.send_response(status)
                headers = {"Content-Length": str(len(body)), "Connection": "close", **headers}
                for name, value in headers.items():
                    if value is not None:
                        self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)
                self.close_connection = True

            do_HEAD = do_GET  # noqa: N815 - the name that the base class looks for

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def client(self, **settings):
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "canary"}
        return S3Store.from_settings(
            load_settings(s3_endpoint_url=self.url, **keys, **settings), read_seconds=5, body_seconds=5
        )


@pytest.fixture
def odd():
    store = OddStore()
    thread = threading.Thread(target=store.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield store
    store.server.shutdown()
    thread.join()
    store.server.server_close()


def page(keys, *, truncated=False, token=None, more=""):
    rows = "".join(
        f"<Contents><Key>{escape(key)}</Key><ETag>&quot;e&quot;</ETag><Size>3</Size>"
        "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
        for key in keys
    )
    token = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    body = (
        f"<ListBucketResult><Name>bucket</Name><IsTruncated>{str(truncated).lower()}</IsTruncated>{token}{more}{rows}"
        "</ListBucketResult>"
    )
    return 200, {"Content-Type": "application/xml"}, body.encode()


def lists(keys, *, size=3, by=("start-after",), tokens=False):
    """A listing that obeys only some of the parameters `start-after`, `continuation-token` and `marker`."""

    def answer(query):
        start = 0
        if "continuation-token" in by and "continuation-token" in query:
            start = int(query["continuation-token"])
        for name in ("start-after", "marker"):
            if name in by and name in query:
                start = next((n for n, key in enumerate(keys) if key > query[name]), len(keys))
        chosen = keys[start : start + size]
        truncated = start + size < len(keys)
        return page(chosen, truncated=truncated, token=str(start + size) if tokens and truncated else None)

    return answer


def listed(store, after=None, prefix=""):
    return [ref.key for refs in store.list("bucket", prefix, after) for ref in refs]


@pytest.mark.parametrize(
    ("by", "tokens"),
    [
        (("start-after",), False),
        (("start-after", "continuation-token"), True),
        (("continuation-token",), True),
        (("marker",), False),  # the first version of the request only
        (("marker",), True),  # its tokens lead nowhere
    ],
)
@pytest.mark.parametrize("after", [None, "k04", "k09"])
def test_a_listing_goes_on_by_whatever_the_server_obeys(odd, by, tokens, after):
    odd.pages = lists(KEYS, by=by, tokens=tokens)
    assert listed(odd.client(), after) == [key for key in KEYS if key > (after or "")]
    assert len(odd.requests) < 20


@pytest.mark.parametrize(
    ("pages", "words"),
    [
        (lists(KEYS, by=()), "repeats what it sent up to 'k02'"),
        (lists(KEYS, by=(), tokens=True), "repeats what it sent up to 'k02'"),
        (lambda _: page(KEYS[:3], truncated=True, token="same"), "repeats what it sent up to 'k02'"),
        (lambda _: page([], truncated=True), "sends nothing after"),
        (lambda _: page([], truncated=True, token="same"), "sends nothing after"),
        (lambda query: page([], truncated=True, token=query.get("continuation-token", "") + "x"), "sends nothing"),
        (lambda query: page(["k1"] if not query.get("start-after") else [], truncated=True), "nothing after 'k1'"),
        (lambda _: page(["b", "a", "c"], truncated=True, token="t"), "not listed in the order of its keys: 'a' after"),
        (
            lambda _: (200, {}, b"<ListAllMyBucketsResult><Owner/></ListAllMyBucketsResult>"),
            "the answer is not a listing",
        ),
        (lambda _: page([], more="<MaxKeys>many</MaxKeys>"), "cannot be read"),
    ],
)
def test_a_listing_that_makes_no_progress_ends_with_the_reason(odd, monkeypatch, pages, words):
    monkeypatch.setattr("dpiqa.objects.listing._MAX_EMPTY_PAGES", 20)
    odd.pages = pages
    with pytest.raises(ConfigurationError, match=words) as caught:
        listed(odd.client())
    assert caught.value.hint
    assert len(odd.requests) <= 30


def test_a_server_that_includes_the_key_to_start_after_makes_progress(odd):
    def answer(query):
        start = next((n for n, key in enumerate(KEYS) if key >= query.get("start-after", "")), len(KEYS))
        return page(KEYS[start : start + 3], truncated=start + 3 < len(KEYS))

    odd.pages = answer
    assert listed(odd.client()) == KEYS


def test_a_page_that_is_all_there_is_may_be_in_any_order(odd):
    odd.pages = lambda _: page(["b", "a/1", "a"])
    assert listed(odd.client()) == ["a", "a/1", "b"]


def test_keys_outside_the_prefix_are_left_out(odd):
    odd.pages = lambda _: page(["a/1", "b/1", "b/2", "c/1"])
    assert listed(odd.client(), prefix="b/") == ["b/1", "b/2"]


def test_rows_that_lack_what_aws_sends_are_listed(odd):
    body = (
        b"<ListBucketResult><Name>bucket</Name><Contents><Key>bare</Key></Contents>"
        b"<Contents><Key>odd</Key><ETag>W/&amp;quot;x&amp;quot;</ETag><Size>3</Size>"
        b"<LastModified>yesterday, about noon</LastModified></Contents>"
        b"<Contents><Key>posix</Key><ETag>y</ETag><Size>3</Size><LastModified>1767225600</LastModified></Contents>"
        b"<Contents><Key>rfc</Key><ETag>'z'</ETag><Size>3</Size>"
        b"<LastModified>Thu, 01 Jan 2026 00:00:00 GMT</LastModified></Contents></ListBucketResult>"
    )
    odd.pages = lambda _: (200, {}, body)
    (refs,) = odd.client().list("bucket", "")
    assert [(ref.key, ref.etag, ref.size, ref.last_modified and ref.last_modified.year) for ref in refs] == [
        ("bare", "", None, None),
        ("odd", "x", 3, None),
        ("posix", "y", 3, 2026),
        ("rfc", "z", 3, 2026),
    ]


@pytest.mark.parametrize(
    ("encoding", "sent", "keys"),
    [
        ("<EncodingType>url</EncodingType>", ["a+b%2Bc%20d%25", "%C3%BC%2F"], ["a b+c d%", "ü/"]),
        ("", ["a+b%2Bc%20d%25"], ["a+b%2Bc%20d%25"]),  # did not encode, and says so
    ],
)
def test_keys_are_decoded_if_and_only_if_the_server_encoded_them(odd, encoding, sent, keys):
    odd.pages = lambda _: page(sent, more=encoding)
    assert listed(odd.client()) == keys


def answers(status, body=b"", **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: (status, headers, body)


def error_body(code):
    return f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode()


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (400, "InvalidRequest", Reason.ACCESS_DENIED),  # encrypted with a customer's key
        (403, "AccessDenied", Reason.ACCESS_DENIED),
        (403, "InvalidObjectState", Reason.ARCHIVED),
        (400, "KMS.DisabledException", Reason.ACCESS_DENIED),
        (400, "SomethingNew", Reason.ACCESS_DENIED),
        (451, "UnavailableForLegalReasons", Reason.ACCESS_DENIED),
    ],
)
def test_a_head_without_a_body_is_rejected_for_what_a_get_says(odd, status, code, reason):
    odd.head_answer, odd.answer = answers(status), answers(status, error_body(code))
    with pytest.raises(ImageRejected) as caught:
        odd.client().head("bucket", "k")
    assert caught.value.reason is reason
    assert code in caught.value.message or reason is Reason.ARCHIVED
    assert (odd.requests[0][0], odd.requests[-1][0]) == ("HEAD", "GET")


@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "RequestTimeTooSkewed"), (400, "ExpiredToken"), (403, "SignatureDoesNotMatch"), (301, "PermanentRedirect")],
)
def test_what_is_wrong_with_us_is_not_the_objects(odd, status, code):
    odd.head_answer, odd.answer = answers(status), answers(status, error_body(code))
    odd.pages = answers(status)
    client = odd.client()
    for call in (lambda: client.head("bucket", "k"), lambda: client.get(REF, 100)):
        with pytest.raises(StoreUnavailable) as caught:
            call()
        assert code in str(caught.value)
        assert not caught.value.is_object


def test_a_proxy_that_forbids_head_hides_nothing(odd):
    odd.head_answer = answers(405)
    odd.answer = answers(200, b"0123", ETag='"abc"')
    assert odd.client().head("bucket", "k").size == 4


def read(odd, body, *, ref=REF, max_bytes=1000, **headers):
    odd.answer = answers(200, body, **{"ETag": '"abc"', **headers})
    return odd.client().get(ref, max_bytes).data


def gzipped(data):
    return gzip_file.compress(data, mtime=0)


PICTURE = bytes(range(200)) * 3


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzipped(PICTURE)),
        ("x-gzip", gzipped(PICTURE)),
        ("GZIP, aws-chunked", gzipped(PICTURE)),
        ("aws-chunked", PICTURE),
        ("identity", PICTURE),
        ("gzip", PICTURE),  # not true: the bytes are the picture
        ("gzip", gzipped(PICTURE[:100]) + gzipped(PICTURE[100:]) + bytes(20)),
        ("deflate", zlib.compress(PICTURE)),
        ("deflate", zlib.compress(PICTURE, wbits=-15)),
        ("deflate", b"\xff\xd8" + PICTURE),
        ("gzip, gzip", gzipped(gzipped(PICTURE))),
    ],
)
def test_a_content_encoding_is_undone(odd, encoding, body):
    expected = body if encoding == "deflate" and body.startswith(b"\xff\xd8") else PICTURE
    assert read(odd, body, Content_Encoding=encoding) == expected


def test_brotli_is_undone(odd):
    brotli = pytest.importorskip("brotli")
    assert read(odd, brotli.compress(PICTURE), Content_Encoding="br") == PICTURE
    assert read(odd, PICTURE, Content_Encoding="br") == PICTURE
    for body, reason in (
        (brotli.compress(PICTURE)[:-5], Reason.TRUNCATED),
        (brotli.compress(bytes(10**8), quality=1), Reason.TOO_MANY_BYTES),
    ):
        with pytest.raises(ImageRejected) as caught:
            read(odd, body, Content_Encoding="br")
        assert caught.value.reason is reason


@pytest.mark.parametrize(
    ("encoding", "body", "reason"),
    [
        ("zstd", b"(\xb5/\xfd0000", Reason.UNSUPPORTED_ENCODING),
        ("compress", b"0000", Reason.UNSUPPORTED_ENCODING),
        (",".join(["gzip"] * 5), gzipped(PICTURE), Reason.UNSUPPORTED_ENCODING),
        (",".join(["gzip"] * 9), gzipped(PICTURE), Reason.UNSUPPORTED_ENCODING),
        ("gzip", gzipped(PICTURE)[:-20], Reason.TRUNCATED),
        ("gzip", gzipped(PICTURE)[:-8] + b"00000000", Reason.CORRUPT),
        ("gzip", gzipped(bytes(10**8)), Reason.TOO_MANY_BYTES),
        ("gzip, gzip", gzipped(gzipped(bytes(10**8))), Reason.TOO_MANY_BYTES),
        ("gzip", gzipped(b""), Reason.EMPTY),
        ("gzip", gzipped(b"") * 20_000, Reason.CORRUPT),
        ("deflate", zlib.compress(bytes(10**8)), Reason.TOO_MANY_BYTES),
    ],
)
def test_a_content_encoding_that_is_not_undone_is_named(odd, encoding, body, reason):
    start = time.process_time()
    with pytest.raises(ImageRejected) as caught:
        read(odd, body, max_bytes=10**6, Content_Encoding=encoding)
    assert caught.value.reason is reason
    assert time.process_time() - start < 5


@pytest.mark.parametrize("etag", ['W/"abc"', "abc", '"abc"', "'abc'", "&quot;abc&quot;"])
def test_etags_in_odd_forms_are_the_same(odd, etag):
    assert read(odd, b"0123", ETag=etag) == b"0123"


def test_without_an_etag_time_and_size_are_the_identity(odd):
    odd.answer = answers(200, b"0123", Last_Modified="Thu, 01 Jan 2026 00:00:00 GMT")
    client = odd.client()
    ref = client.head("bucket", "k")
    assert ref.etag == "modified-6955b900-4"
    assert client.get(ref, 100).etag == ref.etag
    assert client.read_part(ref, 0, 4) == b"0123"
    odd.answer = answers(200, b"01234", Last_Modified="Thu, 01 Jan 2026 00:00:00 GMT")
    with pytest.raises(ObjectChanged):
        client.get(ref, 100)


def test_the_etag_of_the_listing_holds_where_the_object_names_none(odd):
    odd.answer = answers(200, b"0123")
    assert odd.client().get(REF, 100).etag == "abc"


def test_a_body_of_unknown_length_is_read_up_to_the_limit(odd):
    assert read(odd, b"0123", Content_Length=None) == b"0123"
    for body, reason in ((b"0" * 1001, Reason.TOO_MANY_BYTES), (b"", Reason.EMPTY)):
        with pytest.raises(ImageRejected) as caught:
            read(odd, body, Content_Length=None)
        assert caught.value.reason is reason


def test_an_error_that_is_sent_as_an_object_is_an_error(odd):
    odd.answer = answers(200, b'<?xml version="1.0"?>\n' + error_body("AccessDenied"))
    with pytest.raises(ImageRejected) as caught:
        odd.client().get(REF, 1000)
    assert caught.value.reason is Reason.ACCESS_DENIED
    odd.answer = answers(200, error_body("SlowDown"))
    with pytest.raises(StoreUnavailable):
        odd.client().get(REF, 1000)
    assert read(odd, error_body("AccessDenied")) == error_body("AccessDenied")  # with an ETag it is what is stored


def test_who_is_asked_to_wait_waits(odd):
    odd.answer = answers(503, error_body("SlowDown"), Retry_After="30")
    with pytest.raises(StoreUnavailable) as caught:
        odd.client().get(REF, 1000)
    assert caught.value.retry_after == 30
    assert len(odd.requests) == 1  # not asked again before
    assert not caught.value.is_object


def test_a_fault_at_one_object_is_told_from_an_outage(odd):
    def answer(path):
        return (200, {"ETag": '"e"'}, b"fine") if path.endswith("good") else (500, {}, error_body("InternalError"))

    odd.answer, odd.pages = answer, lambda _: page(["good", "k"])
    client = odd.client()

    def fails(is_object, key="k"):
        with pytest.raises(StoreUnavailable) as caught:
            client.get(ImageRef(bucket="bucket", key=key, etag=""), 100)
        assert caught.value.is_object is is_object

    fails(True)  # noqa: FBT003 - another object of the listing is returned
    client.get(ImageRef(bucket="bucket", key="good", etag=""), 100)
    n_requests = len(odd.requests)
    fails(True)  # noqa: FBT003
    assert len(odd.requests) - n_requests == 3  # nothing is asked for so soon after
    odd.answer = answers(500, error_body("InternalError"))
    client._returned.clear()
    fails(False)  # noqa: FBT003
    odd.pages = answers(403, error_body("AccessDenied"))
    fails(False)  # noqa: FBT003
    odd.answer = answers(503, error_body("SlowDown"))
    fails(False)  # noqa: FBT003


def test_every_request_accepts_the_costs_if_it_is_set(odd):
    odd.pages, odd.answer = (lambda _: page(["k"])), answers(200, b"0123", ETag='"abc"')
    client = odd.client(s3_requester_pays=True)
    listed(client)
    client.head("bucket", "k")
    client.get(REF, 100)
    client.read_part(REF, 0, 4)
    client.require_bucket("bucket")
    assert len(odd.requests) == 5
    for *_, headers in odd.requests:
        assert headers["x-amz-request-payer"] == "requester"
        assert "x-amz-request-payer" in headers["Authorization"]  # signed
    odd.requests.clear()
    listed(odd.client())
    assert "x-amz-request-payer" not in odd.requests[0][3]


def test_a_public_bucket_is_read_without_credentials(odd):
    odd.pages, odd.answer = (lambda _: page(["k"])), answers(200, b"0123", ETag='"abc"')
    client = odd.client(s3_anonymous=True)
    assert listed(client) == ["k"]
    client.get(REF, 100)
    assert all("Authorization" not in headers for *_, headers in odd.requests)
    odd.requests.clear()
    listed(odd.client())
    assert "Authorization" in odd.requests[0][3]


def test_the_bucket_may_be_in_the_host_and_the_endpoint_may_have_a_path(odd):
    odd.pages = lambda _: page(["k"])
    odd.url += "/swift/v1"
    odd.answer = lambda _: page(["k"])
    assert listed(odd.client()) == ["k"]
    assert odd.requests[-1][1] == "/swift/v1/bucket"


def test_a_server_that_ignores_ranges_is_named(odd):
    odd.answer = answers(200, b"0123456789", ETag='"abc"')
    client = odd.client()
    assert client.read_part(REF, 0, 4) == b"0123"
    with pytest.raises(ConfigurationError, match="returns no parts"):
        client.read_part(REF, 4, 4)
