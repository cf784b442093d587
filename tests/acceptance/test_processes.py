"""Start and stop of processes."""

import platform
import signal
import time
import urllib.request

import pytest
import redis
from support.photos import png
from support.processes import own_arenas

from dpiqa.local.commands import worker_command
from dpiqa.local.ports import free_port
from dpiqa.local.process import python
from dpiqa.storage import schema


def ended(process, seconds=30):
    process.popen.wait(seconds)
    lines = process.command.log.read_text().splitlines()
    return process.popen.returncode, [line for line in lines if line.startswith("dpiqa: ")]


def test_idle_processes_stop_in_seconds(system):
    worker, listener = system.worker("student"), system.listener()
    system.ready()
    system.wait(lambda: "listening" in listener.command.log.read_text(), "listener")
    started = time.monotonic()
    worker.signal(15)
    listener.signal(15)
    assert ended(worker)[0] == ended(listener)[0] == 0
    assert time.monotonic() - started < 15


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="arenas are glibc's")
def test_threads_of_a_worker_share_one_arena_unless_the_environment_says_otherwise(system, monkeypatch):
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    worker, other = system.worker("student"), system.worker("student", MALLOC_ARENA_MAX="8")
    system.ready(2)
    assert own_arenas(worker.popen.pid) == 0
    assert own_arenas(other.popen.pid) > 0


def test_processes_refuse_a_database_without_tables(make_system, postgres_server, database_url):
    system = make_system()
    schema.downgrade(database_url, "base")
    for process in (system.worker("student"), system.listener()):
        code, lines = ended(process)
        assert code == 78
        assert len(lines) == 1
        assert "run `dpiqa db upgrade`" in lines[0]


def test_a_worker_refuses_a_broker_that_evicts(system, broker_url):
    with redis.Redis.from_url(broker_url) as client:
        client.config_set("maxmemory", 512 * 1024 * 1024)
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            code, lines = ended(system.worker("student"))
        finally:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", 0)
    assert code == 78
    assert "evicts" in lines[0]


def test_a_worker_refuses_a_model_that_is_not_what_its_card_says(make_system, tmp_path):
    profile = 'name = "broken"\nversion = 1\nstudent = "broken-model"\n'
    (tmp_path / "profiles").mkdir()
    (tmp_path / "models").mkdir()
    (tmp_path / "profiles" / "broken.toml").write_text(profile)
    card = (
        '{"name": "broken-model", "kind": "student", "weights": "w.safetensors", "sha256": "00",'
        ' "preprocessing": {"width": 64, "height": 64}, "licence": "none"}'
    )
    (tmp_path / "models" / "broken-model.json").write_text(card)
    (tmp_path / "models" / "w.safetensors").write_bytes(b"other bytes")
    system = make_system(profile="broken", profiles_dir=tmp_path / "profiles", models_dir=tmp_path / "models")
    code, lines = ended(system.worker("student"))
    assert code == 78
    assert "sha256" in lines[0]


def test_the_listener_refuses_a_queue_that_does_not_exist(make_system, s3):
    system = make_system(queue_url=s3.queue_url + "-not")
    code, lines = ended(system.listener())
    assert code == 78
    assert "there is no queue" in lines[0]


def by_celery(pool):
    """Return the command of a worker that somebody starts by Celery's own command line."""
    argv = python("celery", "--quiet", "--app", "dpiqa.workers.app", "worker", "--pool", pool, "--concurrency", "12")
    return [*argv, "--queues", "live,bulk,maintenance"]


def test_a_worker_refuses_a_pool_that_forks(system):
    _, env = worker_command(system.settings, "student")
    code, lines = ended(system.start("prefork", by_celery("prefork"), env))
    assert code == 78
    assert "-P threads" in lines[0]


def test_a_worker_that_celery_starts_scores_and_ends(system, s3):
    s3.put("good.png", png(0.1))
    _, env = worker_command(system.settings, "student")
    worker = system.start("student", by_celery("threads"), env)
    system.listener()
    system.wait(lambda: system.states() == {"scored": 1}, "scored item")
    worker.signal(signal.SIGTERM)
    assert worker.popen.wait(30) == 0


def test_a_worker_serves_its_metrics(system, s3):
    port = free_port()
    s3.put("bad.png", b"no image")
    s3.put("good.png", png(0.1))
    system.worker("student", DPIQA_METRICS_PORT=str(port))
    system.listener()
    system.wait(lambda: system.ended() == 2, "2 ended items")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    assert 'dpiqa_images_total{outcome="scored",stage="student"} 1.0' in text
    assert 'dpiqa_images_total{outcome="not_an_image",stage="student"} 1.0' in text
    assert "dpiqa_batch_images_count 1.0" in text
    assert 'dpiqa_worker_ready{stage="student"} 1.0' in text
    for step in ("claim", "fetch", "decode", "transfer", "model", "decide", "record"):
        assert f'dpiqa_stage_seconds_count{{step="{step}"}}' in text
