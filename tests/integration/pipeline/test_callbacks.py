"""Callbacks: a receiver is told of the end of a job, signed, at least once, whatever dies meanwhile."""

import base64
import hashlib
import hmac
import json
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from support.ledger import Ledger, refs

from dpiqa.callbacks import delivery
from dpiqa.callbacks.delivery import TOTAL_SECONDS, Signer, new_secret
from dpiqa.errors import ConfigurationError, InvalidRequest
from dpiqa.pipeline import callbacks
from dpiqa.pipeline.callbacks import DELAYS, CallbackSender, check_callback
from dpiqa.settings import load_settings
from dpiqa.storage import steering
from dpiqa.storage.callbacks import MAX_DUE, MAX_DUE_OF_RECEIVER, read_callback, request_callback, start_delivery
from dpiqa.storage.engine import make_engine
from dpiqa.types import CallbackState, ItemState

SECRET = new_secret()


class Receiver:
    """An HTTP server that keeps what it was sent, and answers with what `answers` says, then with 204."""

    def __init__(self, context=None):
        self.requests, self.answers = [], []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append((self.path, dict(self.headers), body))
                answer = receiver.answers.pop(0) if receiver.answers else 204
                if callable(answer):
                    answer(self)
                    return
                status, headers = answer if isinstance(answer, tuple) else (answer, {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context is not None:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/ended?token=of-the-receiver"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver():
    opened = Receiver()
    yield opened
    opened.close()


@pytest.fixture
def ledger(database_url):
    engine = make_engine(database_url)
    yield Ledger(engine)
    engine.dispose()


@pytest.fixture
def settings(database_url, broker_url):
    return load_settings(
        database_url=database_url, broker_url=broker_url, callback_secret=SECRET, callback_hosts="127.0.0.1 hooks.test"
    )


@pytest.fixture
def sender(ledger, settings):
    return CallbackSender(ledger.engine, settings)


def ended_job(ledger, url, n=3):
    job, ids = ledger.submit(refs(n))
    ledger.do(request_callback, job.id, url)
    ledger.score(ids)
    assert ledger.report(job).job.state == "complete"
    return job


def callback_of(ledger, job):
    return ledger.do(read_callback, job.id)


def due_now(ledger):
    ledger.sql("UPDATE callbacks SET due_at = clock_timestamp()")


def verify(headers, body, secret):
    """Verify as docs/callbacks.md tells a receiver to."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.new(base64.b64decode(secret.removeprefix("whsec_")), signed, hashlib.sha256).digest()
    expected = "v1," + base64.b64encode(digest).decode()
    return any(hmac.compare_digest(expected, given) for given in headers["webhook-signature"].split())


def test_a_receiver_is_told_once_the_job_has_ended(ledger, receiver, sender):
    job, ids = ledger.submit(refs(3))
    ledger.do(request_callback, job.id, receiver.url)
    assert sender.send_due() == 0
    ledger.score(ids)
    assert sender.send_due() == 1
    ((path, headers, body),) = receiver.requests
    assert path == "/ended?token=of-the-receiver"
    assert headers["Content-Type"] == "application/json"
    assert headers["Host"] == f"127.0.0.1:{receiver.port}"
    assert verify(headers, body, SECRET)
    assert not verify(headers, body + b" ", SECRET)
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    document = json.loads(body)
    assert document["type"] == "job.ended"
    assert document["data"] == {
        "job_id": str(job.id),
        "state": "complete",
        "deleted": False,
        "counts": {"scored": 3},
        "links": {"job": f"http://127.0.0.1:8000/v1/jobs/{job.id}"},
    }
    callback = callback_of(ledger, job)
    assert (callback.state, callback.attempts, callback.status, callback.error) == ("delivered", 1, 204, None)
    assert callback.finished_at is not None
    assert sender.send_due() == 0
    shown = ledger.report(job).callback
    assert (shown.url, shown.next_attempt_at) == (f"http://127.0.0.1:{receiver.port}/...", None)


def test_failures_are_tried_again_with_the_same_id_for_about_a_day(ledger, receiver, sender):
    receiver.answers = [500, (503, {"Retry-After": "900"}), 404, 200]
    job = ended_job(ledger, receiver.url)
    seen = []
    for _ in range(4):
        due_now(ledger)
        assert sender.send_due() == 1
        callback = callback_of(ledger, job)
        seen.append((callback.state, callback.status, callback.error))
        if callback.attempts == 2:  # the receiver asked for more time than the second delay
            (wait,) = ledger.sql("SELECT extract(epoch FROM due_at - clock_timestamp()) AS s FROM callbacks")
            assert 890 < wait.s <= 900
    pending = CallbackState.PENDING
    assert seen == [
        (pending, 500, "HTTP 500"),
        (pending, 503, "HTTP 503"),
        (pending, 404, "HTTP 404"),
        ("delivered", 200, None),
    ]
    assert len({headers["webhook-id"] for _, headers, _ in receiver.requests}) == 1
    assert 20 * 3600 < sum(DELAYS) < 28 * 3600


def test_it_is_given_up_after_the_last_attempt_or_when_the_receiver_says_so(ledger, receiver, sender):
    job, gone = ended_job(ledger, receiver.url), ended_job(ledger, receiver.url)
    receiver.answers = [410]
    ledger.sql("UPDATE callbacks SET due_at = clock_timestamp() + interval '1 h' WHERE job_id = :id", id=job.id)
    sender.send_due()
    assert callback_of(ledger, gone).state == "failed"
    receiver.answers = [500] * 20
    for _ in range(len(DELAYS) + 1):
        assert callback_of(ledger, job).state == "pending"
        due_now(ledger)
        sender.send_due()
    callback = callback_of(ledger, job)
    assert (callback.state, callback.attempts, callback.error) == ("failed", len(DELAYS) + 1, "HTTP 500")


def test_redirects_are_not_followed(ledger, receiver, sender):
    other = Receiver()
    receiver.answers = [(307, {"Location": other.url})]
    job = ended_job(ledger, receiver.url)
    sender.send_due()
    assert callback_of(ledger, job).error == "HTTP 307, which is not followed"
    assert other.requests == []
    other.close()


def test_a_worker_that_dies_between_sending_and_recording_loses_nothing(ledger, receiver, sender):
    job = ended_job(ledger, receiver.url)
    due = ledger.one("SELECT id FROM callbacks")
    assert ledger.do(start_delivery, due) is not None  # and dies
    assert sender.send_due() == 0
    ledger.sql("UPDATE callbacks SET lease_until = clock_timestamp() - interval '1 s'")
    assert sender.send_due() == 1
    assert callback_of(ledger, job).state == "delivered"


def test_callbacks_that_failed_already_do_not_go_before_new_ones(ledger, receiver, sender):
    failing = [ended_job(ledger, f"{receiver.url}&n={n}") for n in range(MAX_DUE)]
    receiver.answers = [500] * MAX_DUE
    while sender.send_due():
        pass
    new = ended_job(ledger, f"{receiver.url}&new=1")
    due_now(ledger)
    ledger.sql("UPDATE callbacks SET due_at = due_at + interval '1 ms' WHERE attempts = 0")
    time.sleep(0.01)
    sender.send_due()
    assert callback_of(ledger, new).state == "delivered"
    assert [callback_of(ledger, job).state for job in failing].count("pending") == MAX_DUE - (MAX_DUE_OF_RECEIVER - 1)


def test_a_slow_receiver_does_not_hold_up_others(ledger, receiver, sender):
    """Its callbacks were due first, and there are more of them than a round takes."""
    slow = Receiver()
    slow.answers = [lambda _handler: time.sleep(0.5)] * (2 * MAX_DUE)
    for _ in range(2 * MAX_DUE):
        ended_job(ledger, slow.url, n=1)
    job = ended_job(ledger, receiver.url, n=1)
    assert sender.send_due() == MAX_DUE_OF_RECEIVER + 1
    assert callback_of(ledger, job).state == CallbackState.DELIVERED
    assert len(slow.requests) == MAX_DUE_OF_RECEIVER
    slow.close()


def test_two_workers_send_it_once(ledger, receiver, settings):
    ended_job(ledger, receiver.url)
    receiver.answers = [lambda handler: (time.sleep(0.5), handler.send_response(204), handler.end_headers())]
    senders = [CallbackSender(ledger.engine, settings) for _ in range(3)]
    threads = [threading.Thread(target=sender.send_due) for sender in senders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(receiver.requests) == 1


def test_a_job_that_is_opened_again_tells_of_its_next_end(ledger, receiver, sender):
    job, ids = ledger.submit(refs(2))
    ledger.do(request_callback, job.id, receiver.url)
    ledger.do(steering.cancel_job, job.id)
    sender.send_due()
    ledger.do(steering.retry_job, job.id)
    assert sender.send_due() == 0
    ledger.score(ids)
    sender.send_due()
    states = [json.loads(body)["data"]["state"] for _, _, body in receiver.requests]
    assert states == ["cancelled", "complete"]
    assert len({headers["webhook-id"] for _, headers, _ in receiver.requests}) == 2


def test_a_job_that_is_deleted_has_ended(ledger, receiver, sender):
    job, _ = ledger.submit(refs(2))
    ledger.do(request_callback, job.id, receiver.url)
    ledger.do(steering.delete_job, job.id, force=True)
    sender.send_due()
    data = json.loads(receiver.requests[0][2])["data"]
    assert (data["state"], data["deleted"]) == ("cancelled", True)


def test_a_client_has_a_secret_of_its_own(ledger, receiver, sender):
    job = ended_job(ledger, receiver.url)
    ledger.sql("UPDATE jobs SET client = 'shop' WHERE id = :id", id=job.id)
    sender.send_due()
    ((_, headers, body),) = receiver.requests
    (own,) = Signer(SECRET).secrets_of("shop")
    assert verify(headers, body, own)
    assert not verify(headers, body, SECRET)
    assert not verify(headers, body, Signer(SECRET).secrets_of("other")[0])


def test_while_secrets_are_changed_both_sign(ledger, receiver, settings):
    new = new_secret()
    rotated = settings.model_copy(update={"callback_secret": type(settings.callback_secret)(f"{new} {SECRET}")})
    ended_job(ledger, receiver.url)
    CallbackSender(ledger.engine, rotated).send_due()
    ((_, headers, body),) = receiver.requests
    assert verify(headers, body, new)
    assert verify(headers, body, SECRET)


def test_a_receiver_that_never_finishes_is_cut_off(ledger, receiver, sender, monkeypatch):
    monkeypatch.setattr(callbacks.deliver.__globals__["threading"], "Timer", Hasty)

    def drip(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        try:
            for n in range(100):
                handler.wfile.write(f"X-{n}: y\r\n".encode())
                handler.wfile.flush()
                time.sleep(0.1)
        except OSError:
            pass

    receiver.answers = [drip]
    job = ended_job(ledger, receiver.url)
    started = time.monotonic()
    sender.send_due()
    assert time.monotonic() - started < 5
    assert callback_of(ledger, job).state == "pending"
    assert callback_of(ledger, job).error == "it does not answer in time"


def test_a_receiver_may_take_longer_to_answer_than_to_connect(ledger, receiver, sender, monkeypatch):
    monkeypatch.setattr(delivery, "CONNECT_SECONDS", 0.3)
    receiver.answers = [lambda handler: (time.sleep(0.8), handler.send_response(204), handler.end_headers())]
    job = ended_job(ledger, receiver.url)
    sender.send_due()
    assert callback_of(ledger, job).state == "delivered"


def test_a_connection_that_is_made_too_late_is_not_used(ledger, receiver, sender, monkeypatch):
    """Nothing would cut it any more: a receiver that sends slowly would hold the sender for ever."""
    monkeypatch.setattr(delivery, "TOTAL_SECONDS", 0.2)
    connect = socket.create_connection
    monkeypatch.setattr(socket, "create_connection", lambda *args: (time.sleep(0.5), connect(*args))[1])
    job = ended_job(ledger, receiver.url)
    sender.send_due()
    assert receiver.requests == []
    assert callback_of(ledger, job).error == "it does not answer in time"


class Hasty(threading.Timer):
    """The deadline of an attempt, after a tenth of its time."""

    def __init__(self, seconds, *args):
        assert 0 < seconds <= TOTAL_SECONDS
        super().__init__(seconds / 20, *args)


def test_the_name_of_the_certificate_is_verified_at_the_address_that_was_checked(
    ledger, sender, tmp_path, monkeypatch, trusted
):
    certificate, key = trusted("hooks.test")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    opened = Receiver(context)
    calls = []
    resolver = callbacks.CallbackRules.resolve.__globals__["socket"]
    real = resolver.getaddrinfo

    def getaddrinfo(host, port, *args, **kwargs):
        if host in ("hooks.test", "other.hooks.test"):
            calls.append(host)
            return [(None, 1, 0, "", ("127.0.0.1" if len(calls) == 1 else "10.255.255.1", port))]
        return real(host, port, *args, **kwargs)

    monkeypatch.setattr(resolver, "getaddrinfo", getaddrinfo)
    job = ended_job(ledger, f"https://hooks.test:{opened.port}/")
    sender.send_due()
    assert callback_of(ledger, job).error is None
    assert calls == ["hooks.test"]  # resolved once, and never again for the connection
    calls.clear()
    wrong = CallbackSender(ledger.engine, sender._settings.model_copy(update={"callback_hosts": "*.hooks.test"}))
    job = ended_job(ledger, f"https://other.hooks.test:{opened.port}/")
    wrong.send_due()
    assert "certificate" in callback_of(ledger, job).error
    opened.close()


@pytest.fixture
def trusted(tmp_path, monkeypatch):
    """Make a certificate for a name that this process trusts."""

    def make(name):
        import subprocess  # noqa: PLC0415

        certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
        words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", f"/CN={name}"]
        words += ["-addext", f"subjectAltName=DNS:{name}", "-keyout", key, "-out", certificate]
        subprocess.run(words, check=True, capture_output=True)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        return certificate, key

    return make


def test_what_may_not_be_called_is_refused_when_it_is_submitted_and_when_it_is_sent(ledger, settings, sender):
    with pytest.raises(InvalidRequest):
        check_callback(settings, "https://169.254.169.254/latest/meta-data/")
    with pytest.raises(ConfigurationError, match="DPIQA_CALLBACK_SECRET"):
        check_callback(settings.model_copy(update={"callback_secret": None}), "https://hooks.test/")
    job = ended_job(ledger, "https://169.254.169.254/")  # stored under other settings
    sender.send_due()
    callback = callback_of(ledger, job)
    assert (callback.state, callback.attempts) == ("failed", 1)
    assert callback.error.startswith("refused")


def test_counts_are_by_state(ledger, receiver, sender):
    job, ids = ledger.submit(refs(4))
    ledger.do(request_callback, job.id, receiver.url)
    ledger.score(ids[:3])
    ledger.do(steering.cancel_job, job.id)
    sender.send_due()
    data = json.loads(receiver.requests[0][2])["data"]
    assert data["counts"] == {ItemState.CANCELLED: 1, ItemState.SCORED: 3}
