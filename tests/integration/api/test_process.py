"""`python -m dpiqa.api` as a process: its imports, refused starts, its end."""

import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

HEAVY = ("torch", "timm", "diffusers", "transformers", "boto3")


def environment(database_url, broker_url, **more):
    return os.environ | {"DPIQA_DATABASE_URL": database_url, "DPIQA_BROKER_URL": broker_url} | more


def test_the_api_imports_no_models():
    code = f"import dpiqa.api.app, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"DPIQA_API_HOST": "0.0.0.0"}, "DPIQA_API_KEY"),
        ({"DPIQA_DATABASE_URL": "", "DPIQA_HOME": "/nonexistent"}, "dpiqa local up"),
        ({"DPIQA_BROKER_URL": "", "DPIQA_HOME": "/nonexistent"}, "dpiqa local up"),
        ({"DPIQA_API_PORT": "many"}, "DPIQA_API_PORT"),
        ({"DPIQA_BROKER_URL": "redis://:s3cret@127.0.0.1:zz/0"}, "DPIQA_BROKER_URL"),
        ({"DPIQA_BROKER_URL": "redis://:s3/cret@127.0.0.1/0"}, "percent-encoded"),
        ({"DPIQA_BROKER_URL": "redis+cluster://:s3cret@h"}, "Redis Cluster"),
    ],
)
def test_a_wrong_setting_ends_with_one_line(more, words):
    env = environment("postgresql://u:s3cret@127.0.0.1:1/x", "redis://127.0.0.1:1/0", **more)
    done = subprocess.run(
        [sys.executable, "-m", "dpiqa.api"], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 78
    assert len(done.stderr.strip().splitlines()) == 1
    assert words in done.stderr
    assert "s3cret" not in done.stderr


def test_a_taken_port_and_a_wrong_password_end_with_one_line(database_url, valkey_server):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for url, more, words in (
            (valkey_server.url, {"DPIQA_API_PORT": str(port)}, "set DPIQA_API_PORT to a free port"),
            (valkey_server.url.replace(":", ":no-", 2).replace("no-//", "//"), {}, "the broker refused this process"),
        ):
            done = subprocess.run(
                [sys.executable, "-m", "dpiqa.api"],
                env=environment(database_url, url, **{"DPIQA_API_PORT": "0", **more}),
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert done.returncode == 78, done.stderr
            assert len(done.stderr.strip().splitlines()) == 1
            assert words in done.stderr
            assert valkey_server.password not in done.stderr


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def wait_for(url, process):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()
        try:
            return httpx.get(url, timeout=5)
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("the API did not answer")


def test_it_serves_and_ends(database_url, broker_url):
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    env = environment(
        database_url, broker_url, DPIQA_API_PORT=str(port), DPIQA_API_KEY="canary-key", DPIQA_LOG_JSON="1"
    )
    process = subprocess.Popen([sys.executable, "-m", "dpiqa.api"], env=env, stderr=subprocess.PIPE, text=True)
    try:
        assert wait_for(f"{base}/healthz", process).json() == {"status": "ok"}
        assert httpx.get(f"{base}/readyz").status_code == 200
        assert httpx.get(f"{base}/v1/jobs").status_code == 401
        headers = {"X-API-Key": "canary-key"}
        assert httpx.get(f"{base}/v1/jobs?bucket=b&oops=canary-value", headers=headers).status_code in (200, 422)
        long = httpx.get(f"{base}/v1/scores/lookup", params={"bucket": "b", "key": "k" * 900}, headers=headers)
        assert long.status_code == 404
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert "/v1/jobs" in log
    assert "canary" not in log
    assert "k" * 300 not in log
    assert process.returncode in (0, -signal.SIGTERM)
