"""The Celery shell: it reads no settings until Celery asks for them, and refuses in one line."""

import subprocess
import sys

import pytest
from dpiqa.workers import app as app_module
from dpiqa.workers.app import WorkerApp, checked_worker

from dpiqa.doorbell import Task
from dpiqa.errors import ConfigurationError

IMPORT = "import dpiqa.workers.app as module; assert 'settings' not in vars(module.app); print('imported')"


def run(code, **env):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)


def test_importing_reads_no_settings_and_makes_no_worker():
    ended = run(IMPORT, DPIQA_LOG_LEVEL="nonsense")
    assert (ended.returncode, ended.stdout) == (0, "imported\n"), ended.stderr


@pytest.mark.parametrize(
    ("env", "message"), [({"DPIQA_WORKER_STAGE": "nonsense"}, "DPIQA_WORKER_STAGE is wrong"), ({}, "no broker")]
)
def test_a_wrong_setting_ends_the_process_with_one_line_once_it_is_needed(env, message, tmp_path):
    code = "from dpiqa.workers.app import app; print(app.conf.broker_url)"
    ended = run(code, DPIQA_HOME=str(tmp_path), **env)
    assert ended.returncode == 78
    assert ended.stderr.startswith(f"dpiqa: {message}")
    assert ended.stderr.count("\n") == 1


def test_the_settings_reach_celery(monkeypatch):
    monkeypatch.setenv("DPIQA_BROKER_URL", "redis://127.0.0.1:1/7")
    app = WorkerApp()
    assert app.conf.broker_url == "redis://127.0.0.1:1/7"
    assert app.conf.worker_prefetch_multiplier == 1
    assert app.conf.broker_transport_options["socket_timeout"] == 10
    assert set(map(str, Task)) <= set(app.tasks)
    assert app.tasks[Task.SCORE].run.__name__ == "score"  # a name that stack traces show


def test_a_pool_that_forks_is_refused():
    class TaskPool:
        __module__ = "celery.concurrency.prefork"

    with pytest.raises(ConfigurationError, match="does not suit this worker"):
        checked_worker(TaskPool)


def test_sigterm_stops_the_worker_at_once_and_the_process_soon(monkeypatch):
    timers, stopped = [], []

    class Timer:
        def __init__(self, seconds, function, args):
            timers.append((seconds, function, args))

        def start(self):
            stopped.append("timer")

    monkeypatch.setattr(app_module.threading, "Timer", Timer)
    monkeypatch.setattr(app_module.state, "should_stop", None)
    worker = type("Worker", (), {"stop": lambda self: stopped.append("worker")})()
    monkeypatch.setattr(app_module.app, "worker", worker)
    app_module.stop()
    assert stopped == ["worker", "timer"]
    assert app_module.state.should_stop == 0
    assert timers == [(app_module.STOP_SECONDS, app_module.os._exit, (0,))]
