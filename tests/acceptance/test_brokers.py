"""A job over each kind of broker: TLS, access lists, a Unix socket, Sentinels, RabbitMQ, SQS."""

import base64
import json
import re
import time
import uuid
from functools import partial
from pathlib import Path

import amqp
import httpx
import pytest
import redis
from support.brokers import RawServer, Sentinels, TlsProxy, tls_program
from support.certificates import Certificate
from support.photos import png
from support.proxy import Proxy
from support.rabbitmq import RabbitMQ

from dpiqa.doorbell import Queue, load_doorbell
from dpiqa.errors import BrokerUnavailable
from dpiqa.local.commands import flower_command
from dpiqa.local.process import free_port
from dpiqa.local.s3 import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY

N = 40
PASSWORD = "pw-c4n4ry"


@pytest.fixture(scope="module")
def certificate(server_home):
    return Certificate.make(server_home / "certificates")


@pytest.fixture(scope="module")
def rabbitmq(server_home, certificate):
    server = RabbitMQ(server_home / "rabbitmq", server_home / "rabbitmq.log", certificate)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def tls_port(server_home, certificate):
    """Port of a server with TLS: a real one where it is installed."""
    files = [
        f"tls-cert-file {certificate.certificate}",
        f"tls-key-file {certificate.key}",
        f"tls-ca-cert-file {certificate.authority}",
        "tls-auth-clients no",
        f"requirepass {PASSWORD}",
    ]
    program = tls_program()
    server = RawServer(server_home / "tls", *(files if program else files[-1:]), program=program)
    if program is None:
        server.start(redis.Redis(port=server.port, password=PASSWORD).ping)
        proxy = TlsProxy(server.port, certificate)
        yield proxy.port
        proxy.close()
    else:
        path = server.folder / "server.conf"
        path.write_text(path.read_text().replace(f"port {server.port}", f"port 0\ntls-port {server.port}", 1))
        client = redis.Redis(port=server.port, password=PASSWORD, ssl=True, ssl_ca_certs=str(certificate.authority))
        server.start(client.ping)
        yield server.port
    server.stop()


#: Messages of AMQP that are not doorbells: body, properties.
GARBAGE = [
    (b"\xff", {}),
    (b"null", {"content_type": "application/json", "content_encoding": "utf-8"}),
    (b"[[[1]], {}, {}]", {"content_type": "application/json", "application_headers": {"task": "os.system", "id": "1"}}),
    (b"[[[1]], {}, {}]", {"content_type": "application/x-python-serialize",
                          "application_headers": {"task": "dpiqa.score", "id": "1"}}),
    (b"[[7], {}, {}]", {"content_type": "application/json", "application_headers": {"task": "dpiqa.score", "id": "1"}}),
    (b"x" * 5_000_000, {"content_type": "application/json",
                        "application_headers": {"task": "dpiqa.score", "id": "1"}}),
]  # fmt: skip


def publish_garbage(rabbitmq):
    """Publish garbage to the queue `bulk`."""
    with amqp.Connection(f"127.0.0.1:{rabbitmq.port}", "dpiqa", rabbitmq.password, confirm_publish=True) as connection:
        channel = connection.channel()
        channel.queue_declare("bulk", durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"})
        for body, properties in GARBAGE:
            channel.basic_publish(amqp.Message(body, **properties), routing_key="bulk")


def run_job(system, s3, n=N):
    """Score `n` images by a job and one by an event."""
    for number in range(n):
        s3.put(f"job/{number:04}.png", png(number % 20 / 20))
    system.worker("student")
    system.worker("teacher")
    system.listener()
    system.ready(2)
    job = system.submit("job/")
    system.wait(lambda: system.value("SELECT state FROM jobs WHERE id = :id", id=job.id) == "complete", "complete job")
    s3.put("event.png", png(0.5))
    found = "SELECT count(*) FROM results WHERE key = 'event.png'"
    system.wait(lambda: system.value(found) == 1, "score of an event")
    system.wait(lambda: system.value("SELECT count(*) FROM items WHERE state <> 'scored'") == 0, "all items scored")
    assert all(process.alive for process in system.processes)
    assert load_doorbell(system.settings).depth(Queue.BULK) == 0
    system.stop()
    assert "Traceback" not in system.logs()


def test_tls_with_a_certificate_that_is_verified(make_system, s3, tls_port, certificate):
    system = make_system(
        broker_url=f"valkeys://:{PASSWORD}@127.0.0.1:{tls_port}/1?ssl_ca_certs={certificate.authority}"
    )
    run_job(system, s3)
    assert f"Connected to rediss://127.0.0.1:{tls_port}/1" in system.logs()
    assert PASSWORD not in system.logs()


@pytest.mark.parametrize("parameters", ["", "?ssl_cert_reqs=CERT_REQUIRED", "?ssl_cert_reqs=optional"])
def test_a_worker_refuses_a_certificate_of_an_unknown_authority(make_system, tls_port, parameters):
    system = make_system(broker_url=f"rediss://:{PASSWORD}@127.0.0.1:{tls_port}/0{parameters}")
    worker = system.worker("student")
    assert worker.popen.wait(30) == 78
    assert "the certificate of the broker was refused" in system.logs()
    assert PASSWORD not in system.logs()


def test_a_unix_socket_and_another_database(make_system, s3, server_home):
    path = server_home / "Valkey.sock"
    server = RawServer(server_home / "socket", f"unixsocket {path}", f"requirepass {PASSWORD}")
    server.start(redis.Redis(unix_socket_path=str(path), password=PASSWORD).ping)
    try:
        system = make_system(broker_url=f"redis+socket://:{PASSWORD}@{path}?virtual_host=3")
        run_job(system, s3)
        assert f"Connected to redis+socket://{path}?virtual_host=3" in system.logs()
        assert PASSWORD not in system.logs()
    finally:
        server.stop()


def test_a_job_finishes_though_the_master_dies_under_it(make_system, s3, server_home):
    servers = Sentinels(server_home / "sentinels", PASSWORD)
    servers.start()
    try:
        system = make_system(broker_url=servers.url)
        for number in range(150):
            s3.put(f"{number:04}.png", png(number % 50 / 50))
        system.worker("student")
        system.worker("teacher")
        system.ready(2)
        job = system.submit()
        system.wait(lambda: system.value("SELECT count(*) FROM scores") >= 20, "20 scores")
        assert servers.master_port() == servers.master.port
        servers.master.process.kill()
        system.wait(lambda: servers.master_port() == servers.replica.port, "another master", 30)
        state = "SELECT state FROM jobs WHERE id = :id"
        system.wait(lambda: system.value(state, id=job.id) == "complete", "complete job")
        assert system.states() == {"scored": 150}
        assert all(process.alive for process in system.processes)
        assert PASSWORD not in system.logs()
    finally:
        servers.stop()


@pytest.mark.parametrize("scheme", ["amqp", "amqps"])
def test_rabbitmq(make_system, s3, rabbitmq, certificate, scheme):
    secure = f"{rabbitmq.tls_url}?ssl_ca_certs={certificate.authority}"
    system = make_system(broker_url=rabbitmq.url if scheme == "amqp" else secure)
    if scheme == "amqp":
        publish_garbage(rabbitmq)
    run_job(system, s3)
    assert system.logs().count("message_dropped") == (len(GARBAGE) if scheme == "amqp" else 0)
    assert "p@ss" not in system.logs()
    assert "p%40ss" not in system.logs()


def test_the_documented_rights_suffice_for_rabbitmq(make_system, s3, rabbitmq):
    page = (Path(__file__).parents[2] / "docs" / "brokers.md").read_text()
    ((own, sent),) = re.findall(r"^rabbitmqctl set_permissions dpiqa '(.+)' '(.+)' '\1'$", page, re.MULTILINE)
    rabbitmq.control("add_user", "least", PASSWORD)
    rabbitmq.control("set_permissions", "least", own, sent, own)
    system = make_system(broker_url=f"amqp://least:{PASSWORD}@127.0.0.1:{rabbitmq.port}//")
    run_job(system, s3)
    rabbitmq.control("set_permissions", "least", "^$", sent, own)
    assert system.worker("student").popen.wait(60) == 78
    assert "the broker refused this process" in system.logs()
    assert PASSWORD not in system.logs()
    queues = rabbitmq.control("list_queues", "name", "type").split()
    assert queues.count("quorum") == len(Queue)
    assert not [name for name in queues if "delayed" in name]


def test_a_job_finishes_though_rabbitmq_is_killed(make_system, s3, rabbitmq):
    system = make_system(broker_url=rabbitmq.url)
    for number in range(150):
        s3.put(f"{number:04}.png", png(number % 50 / 50))
    workers = system.worker("student"), system.worker("teacher")
    system.ready(2)
    job = system.submit()
    system.wait(lambda: system.value("SELECT count(*) FROM scores") >= 20, "20 scores")
    rabbitmq.process.kill()
    time.sleep(1)
    rabbitmq.start()
    state = "SELECT state FROM jobs WHERE id = :id"
    system.wait(lambda: system.value(state, id=job.id) == "complete", "complete job")
    assert system.states() == {"scored": 150}
    assert all(worker.alive for worker in workers)


def test_a_sender_is_not_held_by_a_link_to_rabbitmq_that_swallows_everything(make_system, rabbitmq):
    """TCP acknowledges what is sent, nobody answers, and no connection is closed."""
    proxy = Proxy(rabbitmq.port)
    doorbell = load_doorbell(make_system(broker_url=proxy.through(rabbitmq.url)).settings)
    doorbell.score(Queue.BULK, [1])
    before = doorbell.depth(Queue.BULK)
    assert before >= 1
    proxy.swallow()
    for request in (partial(doorbell.score, Queue.BULK, [2]), partial(doorbell.depth, Queue.BULK)):
        started = time.monotonic()
        with pytest.raises(BrokerUnavailable):
            request()
        assert time.monotonic() - started < 12
    proxy.restore()
    doorbell.score(Queue.BULK, [3])  # over a new connection
    assert doorbell.depth(Queue.BULK) == before + 1
    doorbell.close()
    proxy.close()


def test_sqs(make_system, s3, s3_server):
    prefix = f"dpiqa-{uuid.uuid4().hex[:6]}-"
    login = f"{ACCESS_KEY_ID}:{SECRET_ACCESS_KEY}"
    parameters = f"?is_secure=false&region={REGION}&queue_name_prefix={prefix}&wait_time_seconds=1"
    system = make_system(broker_url=f"sqs://{login}@127.0.0.1:{s3_server.port}{parameters}")
    queue_url = s3.sqs.create_queue(QueueName=f"{prefix}bulk")["QueueUrl"]
    garbage = ["hello", "bnVsbA==", base64.b64encode(b"\xff").decode(), "{}", json.dumps({"properties": 5})]
    for body in garbage:
        s3.sqs.send_message(QueueUrl=queue_url, MessageBody=body)
    run_job(system, s3)
    assert system.logs().count("message_dropped") == len(garbage)
    assert SECRET_ACCESS_KEY not in system.logs()


def test_flower_shows_workers_and_queues_and_no_password(make_system, tls_port, certificate):
    url = f"rediss://:{PASSWORD}@127.0.0.1:{tls_port}/2?ssl_ca_certs={certificate.authority}"
    port = free_port()
    system = make_system(broker_url=url, flower_port=port, flower_basic_auth="me:mine")
    system.worker("student")
    system.ready()
    system.start("flower", *flower_command(system.settings))

    def page(path):
        try:
            return httpx.get(f"http://127.0.0.1:{port}{path}", auth=("me", "mine"), timeout=10).text
        except httpx.TransportError:
            return ""

    system.wait(lambda: "student-" in page("/workers"), "worker in Flower")
    name = re.search(r"student-\w+@[\w.-]+", page("/workers"))[0]
    pages = {path: page(path) for path in ("/workers", "/broker", f"/worker/{name}", "/tasks")}
    assert re.search(r"bulk\s*</td>\s*<td[^>]*>\s*0\s*<", pages["/broker"]), pages["/broker"]
    assert f"rediss://127.0.0.1:{tls_port}/2" in pages["/broker"]
    for text in (*pages.values(), system.logs()):
        assert PASSWORD not in text
    assert "Traceback" not in system.logs()
