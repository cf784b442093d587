"""The whole stack as its users start it, with the test model (`smoke` profile) so that torch is not needed."""

import base64
import io
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import httpx
import pytest
from PIL import Image
from support.processes import family, still_running, wait_for

from dpiqa.local import control
from dpiqa.local.s3 import ACCESS_KEY_ID, SECRET_ACCESS_KEY, make_client
from dpiqa.settings import load_settings

NAMES = ["postgres", "valkey", "s3", "api", "listener", "student-worker", "teacher-worker", "flower"]


@pytest.fixture
def home(server_home, request, monkeypatch):
    monkeypatch.setenv("DPIQA_PROFILE", "smoke")
    path = server_home / request.node.name
    path.mkdir(mode=0o711)
    yield path
    control.down(path)


@pytest.fixture(scope="module")
def stack(server_home):
    """Home of a stack that runs for several tests, each of which leaves it ready."""
    path = server_home / "stack"
    path.mkdir(mode=0o711)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPIQA_PROFILE", "smoke")
        control.up(path)
        yield path
        control.down(path)


def png(grey):
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (grey, grey, grey)).save(buffer, "PNG")
    return buffer.getvalue()


def drop(status, settings, key, grey):
    bucket = status.connection["bucket"]
    make_client("s3", settings.s3_endpoint_url).put_object(Bucket=bucket, Key=key, Body=png(grey))
    return bucket


def score_of(settings, bucket, key):
    answer = httpx.get(f"{settings.api_url}/v1/scores", params={"bucket": bucket, "prefix": key}, trust_env=False)
    answer.raise_for_status()
    return answer.json()["items"]


def process(status, name):
    return next(process for process in status.processes if process["name"] == name)


def test_an_image_dropped_into_the_bucket_gets_a_score_over_crashes(stack):
    status = control.status(stack)
    assert [p["name"] for p in status.processes] == NAMES
    assert {p["state"] for p in status.processes} == {"ready"}
    settings = load_settings(home=stack)
    bucket = drop(status, settings, "first.png", 40)
    assert wait_for(lambda: score_of(settings, bucket, "first.png"))

    killed = ("student-worker", "listener", "api")
    for name in killed:
        os.kill(process(status, name)["pid"], signal.SIGKILL)

    def all_back():
        now = control.status(stack)
        restarts = [process(now, name)["restarts"] - process(status, name)["restarts"] for name in killed]
        return restarts == [1, 1, 1] and {p["state"] for p in now.processes} == {"ready"}

    wait_for(all_back, 120)
    drop(status, settings, "second.png", 50)
    assert wait_for(lambda: score_of(settings, bucket, "second.png"))


def test_a_crash_of_postgres_while_a_worker_starts_stops_nothing_else(stack):
    status = control.status(stack)
    os.kill(process(status, "student-worker")["pid"], signal.SIGKILL)
    wait_for(lambda: process(control.status(stack), "student-worker")["state"] == "starting")
    os.kill(process(status, "postgres")["pid"], signal.SIGQUIT)  # an immediate stop, as a crash is

    def all_ready():
        now = control.status(stack)
        crashed = now.running and process(now, "postgres")["restarts"] > process(status, "postgres")["restarts"]
        return crashed and {p["state"] for p in now.processes} == {"ready"}

    wait_for(all_ready, 120)
    now = control.status(stack)
    assert now.pid == status.pid
    kept = ("valkey", "s3", "api", "listener", "flower")
    assert {name: process(now, name)["pid"] for name in kept} == {name: process(status, name)["pid"] for name in kept}


def test_objects_outlive_the_stack_and_s3_and_those_whose_event_was_lost_are_scored(home):
    status = control.up(home)
    settings = load_settings(home=home)
    bucket = drop(status, settings, "first.png", 40)
    assert wait_for(lambda: score_of(settings, bucket, "first.png"))
    os.kill(process(status, "listener")["pid"], signal.SIGSTOP)
    drop(status, settings, "second.png", 50)
    os.kill(process(status, "s3")["pid"], signal.SIGKILL)
    wait_for(lambda: process(control.status(home), "s3")["restarts"])
    os.kill(process(status, "listener")["pid"], signal.SIGCONT)
    assert wait_for(lambda: score_of(settings, bucket, "second.png"), 120)
    assert [item["key"] for item in score_of(settings, bucket, "")] == ["first.png", "second.png"]

    everything = family(status.pid)
    assert len(everything) > len(NAMES)
    assert control.down(home)
    assert still_running(everything, 5) == []
    status = control.up(home)
    settings = load_settings(home=home)
    drop(status, settings, "third.png", 60)
    assert wait_for(lambda: score_of(settings, bucket, "third.png"))
    objects = make_client("s3", settings.s3_endpoint_url).list_objects_v2(Bucket=bucket)["Contents"]
    assert [entry["Key"] for entry in objects] == ["first.png", "second.png", "third.png"]

    everything = family(status.pid)
    os.kill(status.pid, signal.SIGKILL)
    assert still_running(everything) == []


def test_flower_asks_for_its_password_and_changes_nothing(stack):
    status = control.status(stack)
    url, login = status.connection["flower_url"], status.connection["flower_basic_auth"]
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{url}/workers", timeout=10)
    basic = {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/workers", headers=basic), timeout=10) as answer:
        assert answer.status == 200
    shutdown = urllib.request.Request(f"{url}/api/worker/shutdown/student", headers=basic, method="POST")
    with pytest.raises(urllib.error.HTTPError, match=r"40[0-9]"):
        urllib.request.urlopen(shutdown, timeout=10)
    assert {p["state"] for p in control.status(stack).processes} == {"ready"}


def demo(*arguments, **options):
    argv = [sys.executable, "-m", "dpiqa.local.demo", *arguments]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def test_the_demo_ends_with_tables_and_leaves_nothing(home):
    run = demo("--once", "--home", str(home))
    everything = wait_for(lambda: (found := family(run.pid))[len(NAMES) :] and found)
    output = run.communicate(timeout=250)[0]
    assert run.returncode == 0, output
    for part in ("Worst", "Best", "Sent to the teacher", "Mean score by strength", "240 images scored"):
        assert part in output
    assert still_running(everything, 5) == []


def test_the_demo_says_which_photographs_have_no_score(home, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    (tmp_path / "good.png").write_bytes(png(60))
    run = demo("--once", "--home", str(home), "--photos", str(tmp_path))
    output = run.communicate(timeout=250)[0]
    assert run.returncode == 1, output
    assert "Not scored" in output
    assert "not_an_image" in output


def test_ctrl_c_ends_the_demo_that_stays_up(home, tmp_path):
    (tmp_path / "good.png").write_bytes(png(60))
    run = demo("--home", str(home), "--photos", str(tmp_path), start_new_session=True)
    wait_for(lambda: control.status(home).phase == "ready", 200)
    everything = family(run.pid)
    settings = load_settings(home=home)
    assert score_of(settings, "dpiqa-inbox", "good")
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does
    output = run.communicate(timeout=60)[0]
    assert run.returncode == 0, output
    assert "Pages   http://" in output
    assert f"access key {ACCESS_KEY_ID}, secret key {SECRET_ACCESS_KEY}" in output
    assert still_running(everything, 5) == []
