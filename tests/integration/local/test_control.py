import json
import os
import signal
import stat
import subprocess
import sys
import time

import psycopg
import pytest
from support.processes import family, still_running, wait_for

from dpiqa.connection_file import connection_path, is_alive, local_dir, process_identity
from dpiqa.errors import AlreadyRunningError, ConfigurationError
from dpiqa.local import control
from dpiqa.local.control import state_path, supervise
from dpiqa.local.s3 import make_client
from dpiqa.settings import load_settings


@pytest.fixture
def home(server_home, request):
    path = server_home / request.node.name
    path.mkdir(mode=0o711)
    yield path
    control.down(path)


def pid_of(status, name):
    return next(process["pid"] for process in status.processes if process["name"] == name)


def test_up_status_down(home):
    assert control.status(home).running is False
    assert control.down(home) is False
    status = control.up(home, everything=False)
    assert (status.running, status.phase, status.already_running) == (True, "ready", False)
    assert [process["name"] for process in status.processes] == ["postgres", "valkey", "s3"]
    assert {process["state"] for process in status.processes} == {"ready"}
    processes = family(status.pid)

    settings = load_settings(home=home)
    with psycopg.connect(settings.require_database_url().replace("+psycopg", "")) as connection:
        assert connection.execute("SELECT to_regclass('items')::text").fetchone() == ("items",)
    bucket = status.connection["bucket"]
    make_client("s3", settings.s3_endpoint_url).put_object(Bucket=bucket, Key="a", Body=b"b")
    sqs = make_client("sqs", settings.sqs_endpoint_url)
    messages = sqs.receive_message(QueueUrl=settings.require_queue_url(), MaxNumberOfMessages=10)["Messages"]
    assert any('"ObjectCreated:Put"' in message["Body"] for message in messages)

    again = control.up(home, everything=False)
    assert (again.already_running, again.pid) == (True, status.pid)
    with pytest.raises(AlreadyRunningError, match="already running"):
        supervise(home)

    assert control.down(home) is True
    assert still_running(processes, 5) == []
    assert load_settings(home=home).database_url is None
    assert not connection_path(home).exists()
    assert not state_path(home).exists()


def test_nothing_secret_is_readable_by_others(home):
    status = control.up(home, everything=False)
    secrets = [load_settings(home=home).require_database_url().split(":")[2].split("@")[0]]
    for path in (connection_path(home), state_path(home)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for path in local_dir(home).rglob("*"):
        readable = path.is_file() and path.stat().st_mode & 0o044
        inside_closed = any(parent.stat().st_mode & 0o011 == 0 for parent in path.parents)
        if readable and not inside_closed:
            assert not any(secret in path.read_text(errors="replace") for secret in secrets), path
    for process in family(status.pid):
        assert not any(secret in " ".join(process.cmdline()) for secret in secrets)
    assert not any(secret in json.dumps(status.processes) for secret in secrets)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG")
def test_kill_9_of_the_supervisor_leaves_nothing_and_the_next_up_works(home):
    status = control.up(home, everything=False)
    processes = family(status.pid)
    assert len(processes) > 4
    os.kill(status.pid, signal.SIGKILL)
    assert still_running(processes) == []
    assert connection_path(home).exists()  # left by the killed one, and known as stale:
    assert load_settings(home=home).database_url is None
    assert control.status(home).running is False
    assert control.up(home, everything=False).already_running is False


def test_killed_servers_come_back_with_what_they_need(home):
    status = control.up(home, everything=False)
    settings = load_settings(home=home)
    for name in ("postgres", "valkey", "s3"):
        os.kill(pid_of(status, name), signal.SIGKILL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        now = control.status(home)
        if all(p["restarts"] == 1 and p["state"] == "ready" for p in now.processes):
            break
        time.sleep(0.1)
    assert {p["name"]: (p["restarts"], p["state"]) for p in now.processes} == dict.fromkeys(
        ("postgres", "valkey", "s3"), (1, "ready")
    )
    with psycopg.connect(settings.require_database_url().replace("+psycopg", "")) as connection:
        connection.execute("SELECT * FROM items")
    make_client("s3", settings.s3_endpoint_url).put_object(Bucket=status.connection["bucket"], Key="a", Body=b"b")
    sqs = make_client("sqs", settings.sqs_endpoint_url)
    assert "Messages" in sqs.receive_message(QueueUrl=settings.require_queue_url())


def test_ctrl_c_stops_the_foreground(home):
    code = "import sys; from pathlib import Path; from dpiqa.local.control import up\n"
    code += "up(Path(sys.argv[1]), everything=False, foreground=True); print('stopped')"
    process = subprocess.Popen([sys.executable, "-c", code, str(home)], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while control.status(home).phase != "ready" and time.monotonic() < deadline:
        time.sleep(0.05)
    processes = family(process.pid)
    assert len(processes) > 4
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[0].splitlines()[-1] == "stopped"
    assert process.returncode == 0
    assert still_running(processes, 5) == []


def test_ctrl_c_while_the_stack_starts_stops_what_was_started(home):
    code = "import sys; from pathlib import Path; from dpiqa.local.control import up\n"
    code += "up(Path(sys.argv[1]), everything=True)"  # which takes seconds: servers alone may be ready too soon
    process = subprocess.Popen([sys.executable, "-c", code, str(home)], stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(control.status(home).processes) > 1)  # the first server runs, the stack is not ready
    processes = family(process.pid)
    assert len(processes) > 2
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
    assert still_running(processes, 5) == []
    assert control.status(home).running is False


@pytest.mark.parametrize("pause", [0, 0.3])
def test_a_second_ctrl_c_while_the_demo_stops_leaves_nothing(home, tmp_path, monkeypatch, pause):
    monkeypatch.setenv("TMPDIR", str(home))  # of its temporary folder; open to the user of Postgres
    argv = [sys.executable, "-m", "dpiqa.local.demo", "--once"]
    process = subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    (folder,) = wait_for(lambda: list(home.glob("dpiqa-demo-*")))
    wait_for(lambda: len(control.read_state(folder).get("processes", [])) > 1)
    processes = family(process.pid)
    process.send_signal(signal.SIGINT)
    time.sleep(pause)
    process.send_signal(signal.SIGINT)
    assert "Traceback" not in process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert still_running(processes, 5) == []
    assert not folder.exists()


def test_a_part_that_does_not_start_is_named(home, monkeypatch):
    monkeypatch.setenv("DPIQA_DATABASE_URL", "postgresql://nobody:x@127.0.0.1:1/none")
    with pytest.raises(ConfigurationError, match=r"the stack did not start: .*database"):
        control.up(home, everything=False)
    assert control.status(home).running is False


def test_given_servers_are_used_instead_of_own_ones(home, monkeypatch, database_url, broker_url):
    monkeypatch.setenv("DPIQA_DATABASE_URL", database_url)
    monkeypatch.setenv("DPIQA_BROKER_URL", broker_url)
    status = control.up(home, everything=False)
    assert [process["name"] for process in status.processes] == ["s3"]
    assert status.connection["database_url"] == database_url


def test_a_mark_tells_a_process_from_a_later_one_of_the_same_id():
    identity = process_identity(os.getpid())
    assert is_alive(identity)
    assert not is_alive({**identity, "started": identity["started"] - 100})
    assert not is_alive({"pid": 2**22 + 1, "started": 0})
    assert not is_alive(None)
