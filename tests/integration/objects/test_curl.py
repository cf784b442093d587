"""Objects read by libcurl as boto3 would read them: same request, same trust, same proxies."""

import datetime
import ipaddress
import os
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dpiqa.errors import StoreUnavailable
from dpiqa.objects.s3 import S3Store
from dpiqa.settings import load_settings
from dpiqa.types import ImageRef

ODD_KEYS = [
    "a b+c",
    "x//y",
    "/lead",
    "a/./b/../c",
    "ü/😀",
    "q?x=1&y#f",
    "~tilde",
    "a=b;c,d",
    'back\\"q"',
    "%2B%",
    "t\tb",
]
BODY = bytes(range(256)) * 4096


class Recorder:
    """An S3 with one object under every key. It notes what it was asked."""

    def __init__(self):
        self.requests = []
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                recorder.requests.append((self.path, dict(self.headers)))
                self.send_response(200)
                self.send_header("ETag", '"e"')
                self.send_header("Content-Length", str(len(BODY)))
                self.end_headers()
                self.wfile.write(BODY)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port

    def store(self, endpoint=None, **settings):
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "canary"}
        endpoint = endpoint or f"http://127.0.0.1:{self.port}"
        return S3Store.from_settings(load_settings(s3_endpoint_url=endpoint, **{**keys, **settings}))


@pytest.fixture
def recorder():
    recorder = Recorder()
    thread = threading.Thread(target=recorder.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield recorder
    recorder.server.shutdown()
    thread.join()
    recorder.server.server_close()


def get(store, key="k", version=None):
    return store.get(ImageRef(bucket="bucket", key=key, etag="e", version_id=version), 2 << 20).data


@pytest.mark.parametrize("key", ODD_KEYS)
@pytest.mark.parametrize("version", [None, "v/1 +"])
def test_the_request_is_the_one_that_boto3_sends(recorder, key, version):
    """To the last character of its path, and with the same signature, which covers that path."""
    store = recorder.store()
    name = {"Bucket": "bucket", "Key": key, **({"VersionId": version} if version else {})}
    for _ in range(5):
        recorder.requests.clear()
        store._client.get_object(**name)["Body"].read()
        assert get(store, key, version) == BODY
        (path, headers), (our_path, our_headers) = recorder.requests
        if headers["X-Amz-Date"] == our_headers["X-Amz-Date"]:
            break
    assert our_path == path
    assert headers["X-Amz-Content-SHA256"] == our_headers["X-Amz-Content-SHA256"]
    assert headers["Authorization"] == our_headers["Authorization"]


def test_the_bucket_may_be_in_the_host_and_the_endpoint_may_have_a_path(recorder):
    get(recorder.store(f"http://localhost:{recorder.port}", s3_addressing_style="virtual"), "a/k")
    get(recorder.store(f"http://localhost:{recorder.port}/swift/v1"), "a/k")
    (path, headers), (other_path, _) = recorder.requests
    assert (path, headers["Host"]) == ("/a/k", f"bucket.localhost:{recorder.port}")
    assert other_path == "/swift/v1/bucket/a/k"


def test_the_session_token_of_the_environment_is_sent_and_signed(recorder, monkeypatch):
    for name, value in {"ACCESS_KEY_ID": "id", "SECRET_ACCESS_KEY": "s", "SESSION_TOKEN": "the-token"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    get(recorder.store(aws_access_key_id=None, aws_secret_access_key=None))
    ((_, headers),) = recorder.requests
    assert headers["X-Amz-Security-Token"] == "the-token"
    assert "x-amz-security-token" in headers["Authorization"]


def test_proxies_of_the_environment_are_used_as_boto3_uses_them(recorder, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{recorder.port}")
    get(recorder.store("http://objects.invalid:9000"))
    assert recorder.requests[-1][0] == "http://objects.invalid:9000/bucket/k"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    get(recorder.store())
    assert recorder.requests[-1][0] == "/bucket/k"


@pytest.fixture
def certificate(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "objects")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = serialization.Encoding.PEM
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "key.pem").write_bytes(key.private_bytes(pem, *plain))
    (tmp_path / "certificate.pem").write_bytes(signed.public_bytes(pem))
    return tmp_path / "certificate.pem", tmp_path / "key.pem"


def test_only_certificates_that_boto3_trusts_are_trusted(recorder, certificate, monkeypatch):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    recorder.server.socket = context.wrap_socket(recorder.server.socket, server_side=True)
    with pytest.raises(StoreUnavailable, match="SSL validation failed"):
        get(recorder.store(f"https://127.0.0.1:{recorder.port}"))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate[0]))
    assert get(recorder.store(f"https://127.0.0.1:{recorder.port}")) == BODY


def test_a_fork_opens_connections_of_its_own(recorder):
    store = recorder.store()
    get(store)
    child = os.fork()
    if child == 0:
        os._exit(0 if get(store) == BODY else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert get(store) == BODY  # over the parent's connection, which the child left alone


def test_memory_does_not_grow(recorder):
    store = recorder.store()
    for _ in range(50):
        get(store)
    before = psutil.Process().memory_info().rss
    for _ in range(300):
        get(store)
    assert psutil.Process().memory_info().rss - before < 16 << 20
