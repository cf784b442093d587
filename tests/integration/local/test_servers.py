import os
import signal
import socket
import stat
import subprocess
import sys

import psutil
import psycopg
import pytest
import redis
from conftest import TEMPLATE
from redis.backoff import NoBackoff
from redis.retry import Retry
from support.postgres import UNSAFE_AND_FAST
from support.processes import still_running

from dpiqa.errors import ConfigurationError
from dpiqa.local.ports import free_port
from dpiqa.local.postgres import Postgres, open_to_others
from dpiqa.local.process import Command, owns_port, spawn, wait_ended, wait_ready
from dpiqa.local.s3 import S3
from dpiqa.local.valkey import Valkey


def connect(url):
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


def is_free(port):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture
def folder(server_home, request):
    path = server_home / request.node.name
    path.mkdir(mode=0o711)
    return path


def test_postgres_keeps_its_data_over_a_kill(folder):
    server = Postgres(folder / "pg", folder / "pg.log", options=UNSAFE_AND_FAST)
    server.start()
    try:
        with connect(server.url()) as connection:
            connection.execute("CREATE TABLE kept (n int)")
            assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
        server.process.kill()
        server.start()
        with connect(server.url()) as connection:
            connection.execute("SELECT n FROM kept")
    finally:
        server.stop()
    assert is_free(server.port)
    again = Postgres(folder / "pg", folder / "pg.log", options=UNSAFE_AND_FAST)
    again.start()
    try:
        with connect(again.url()) as connection:
            connection.execute("SELECT n FROM kept")
    finally:
        again.stop()


def test_postgres_wants_its_password_and_keeps_it_private(postgres_server):
    with pytest.raises(psycopg.OperationalError, match="password"):
        connect(postgres_server.url().replace(postgres_server.password, "wrong"))
    password = postgres_server.folder / "password"
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    assert postgres_server.password not in " ".join(postgres_server.process.command.argv)


def test_every_database_is_fresh(database_url, postgres_server):
    with connect(database_url) as connection:
        connection.execute("CREATE TABLE mine (n int)")
    with connect(postgres_server.url(TEMPLATE)) as connection:
        assert connection.execute("SELECT to_regclass('mine')").fetchone() == (None,)


def test_valkey_wants_its_password_and_starts_twice(folder):
    server = Valkey(folder / "valkey", folder / "valkey.log")
    for _ in range(2):
        server.start()
        with redis.Redis.from_url(server.url) as client:
            assert client.ping()
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        stranger = redis.Redis(port=server.port, retry=Retry(NoBackoff(), 0))
        with stranger as client, pytest.raises(redis.AuthenticationError):
            client.ping()
        server.stop()
        assert is_free(server.port)


def test_s3_sends_events_and_starts_twice(folder, s3, sqs_queue):
    s3.messages()  # the test event of the configuration
    etag = s3.put("a b/ü.jpg", b"bytes")
    names = [record["s3"]["object"] for message in s3.messages() for record in message["Records"]]
    assert {"key": names[0]["key"], "eTag": names[0]["eTag"]} == {"key": "a+b%2F%C3%BC.jpg", "eTag": etag}
    server = S3(folder / "s3.log")
    for _ in range(2):
        server.start()
        assert server.client("s3").list_buckets()["Buckets"] == []
        server.stop()
        assert is_free(server.port)


def test_objects_outlive_s3(folder):
    server = S3(folder / "s3.log", folder / "s3")
    server.start()
    client = server.client("s3")
    client.create_bucket(Bucket="archive")
    client.create_bucket(Bucket="gone")
    client.put_object(Bucket="archive", Key="a b/ü.png", Body=b"first", ContentType="image/png", Metadata={"by": "me"})
    client.put_object(Bucket="archive", Key="changed", Body=b"old")
    client.put_object(Bucket="archive", Key="changed", Body=b"new")
    client.copy_object(Bucket="archive", Key="copy", CopySource={"Bucket": "archive", "Key": "changed"})
    for key in ("deleted", "one", "two"):
        client.put_object(Bucket="archive", Key=key, Body=b"")
    client.delete_object(Bucket="archive", Key="deleted")
    client.delete_objects(Bucket="archive", Delete={"Objects": [{"Key": "one"}, {"Key": "two"}]})
    client.delete_bucket(Bucket="gone")
    upload = client.create_multipart_upload(Bucket="archive", Key="parts")["UploadId"]
    part = client.upload_part(Bucket="archive", Key="parts", UploadId=upload, PartNumber=1, Body=b"part")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    client.complete_multipart_upload(Bucket="archive", Key="parts", UploadId=upload, MultipartUpload=parts)

    def objects():
        names = ("Key", "ETag", "Size", "LastModified", "StorageClass")
        return [{name: row[name] for name in names} for row in client.list_objects_v2(Bucket="archive")["Contents"]]

    before = objects()
    assert [row["Key"] for row in before] == ["a b/ü.png", "changed", "copy", "parts"]

    server.process.kill()
    server.start()
    try:
        assert objects() == before
        assert [bucket["Name"] for bucket in client.list_buckets()["Buckets"]] == ["archive"]
        assert client.get_object(Bucket="archive", Key="changed")["Body"].read() == b"new"
        head = client.head_object(Bucket="archive", Key="a b/ü.png")
        assert (head["ContentType"], head["Metadata"]) == ("image/png", {"by": "me"})
    finally:
        server.stop()


def test_readiness_is_not_fooled_by_another_server_on_the_port(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process = spawn(Command(name="sleeper", argv=["sleep", "60"], log=tmp_path / "log"))
        assert owns_port(os.getpid(), port)
        with pytest.raises(ConfigurationError, match="sleeper was not ready"):
            wait_ready(process, lambda: owns_port(process.pid, port), 0.2)
        assert free_port(port) != port
        process.stop()


def test_a_port_that_another_stack_chose_is_not_chosen_before_its_server_listens():
    script = "from dpiqa.local.ports import free_port; import sys; print(free_port(), flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        port = int(other.stdout.readline())
        assert free_port(port) != port
        other.communicate()
    assert free_port(port) == port


def test_a_failed_start_quotes_the_log(tmp_path):
    argv = [sys.executable, "-c", "print('it is broken'); raise SystemExit(3)"]
    process = spawn(Command(name="broken", argv=argv, log=tmp_path / "log"))
    with pytest.raises(ConfigurationError, match="broken ended with status 3: it is broken"):
        wait_ready(process, lambda: False, 30)


def test_stop_kills_what_ignores_it_and_its_children(tmp_path):
    script = "import signal,subprocess,time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    script += "subprocess.Popen(['sleep','300'], start_new_session=True); print('up', flush=True); time.sleep(300)"
    argv = [sys.executable, "-c", script]
    process = spawn(Command(name="stubborn", argv=argv, log=tmp_path / "log", stop_seconds=0.5))
    wait_ready(process, lambda: "up" in (tmp_path / "log").read_text(), 30)
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    process.stop()
    assert still_running(family, 5) == []


def test_a_zombie_has_ended():
    zombie = subprocess.Popen(["true"])  # which nobody waits for, as process 1 of some containers does
    assert wait_ended([psutil.Process(zombie.pid)], 60) == []
    assert zombie.wait() == 0


def test_a_process_that_runs_on_is_named():
    with subprocess.Popen(["sleep", "300"]) as process:
        assert [left.pid for left in wait_ended([psutil.Process(process.pid)], 0.1)] == [process.pid]
        process.kill()


HOLDER = """
import sys, time
from pathlib import Path
from dpiqa.local.postgres import Postgres
from dpiqa.local.s3 import S3
from dpiqa.local.valkey import Valkey
folder = Path(sys.argv[1])
servers = [Postgres(folder / "pg", folder / "pg.log"), S3(folder / "s3.log")]
servers.append(Valkey(folder / "valkey", folder / "valkey.log"))
for server in servers:
    server.start()
print(*(server.process.pid for server in servers), flush=True)
time.sleep(300)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG")
def test_servers_die_with_their_killed_parent(folder):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True)
    servers = [psutil.Process(int(pid)) for pid in holder.stdout.readline().split()]
    assert len(servers) == 3
    family = servers + [child for server in servers for child in server.children(recursive=True)]
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert still_running(family, 20) == []
    # and the next one starts on the same data at once
    server = Postgres(folder / "pg", folder / "pg.log")
    server.start()
    server.stop()


def test_open_to_others(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    assert not open_to_others(closed)
    assert open_to_others(tmp_path.parent.parent.parent.parent) is True
