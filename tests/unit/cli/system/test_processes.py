"""`dpiqa worker`, `listen`, `api` and `flower` become their process."""

import os
import socket

import pytest

from dpiqa.local.process import free_port


@pytest.fixture
def executed(monkeypatch):
    """The command that would have replaced the process."""
    became = {}

    def become(file, argv, env):
        became.update(file=file, argv=argv, env=env)
        raise SystemExit(0)

    monkeypatch.setattr(os, "execvpe", become)
    monkeypatch.setenv("DPIQA_BROKER_URL", "redis://:hush@127.0.0.1:1/0")
    monkeypatch.setenv("DPIQA_QUEUE_URL", "http://127.0.0.1:1/queue")
    for name in ("DPIQA_API_PORT", "DPIQA_FLOWER_PORT"):  # the default ones may be taken
        monkeypatch.setenv(name, str(free_port()))
    return became


@pytest.mark.parametrize(
    ("words", "module", "variables"),
    [
        (["worker", "student"], "dpiqa.workers", {"DPIQA_WORKER_STAGE": "student"}),
        (["worker", "teacher"], "dpiqa.workers", {"DPIQA_WORKER_STAGE": "teacher"}),
        (["listen"], "dpiqa.pipeline.listener", {"DPIQA_QUEUE_URL": "http://127.0.0.1:1/queue"}),
        (["api", "--port", "8123"], "dpiqa.api", {"DPIQA_API_PORT": "8123"}),
        (["flower"], "celery", {"DPIQA_BROKER_URL": "redis://:hush@127.0.0.1:1/0"}),
    ],
)
def test_commands_become_their_process(run, executed, words, module, variables):
    run(*words)
    assert executed["argv"][1:4] == ["-P", "-m", module]
    assert variables.items() <= executed["env"].items()
    assert executed["env"]["PATH"] == os.environ["PATH"]
    assert not any("hush" in word for word in executed["argv"])


def test_flower_asks_for_a_login(run, executed, monkeypatch):
    result = run("flower")
    login = executed["env"]["FLOWER_BASIC_AUTH"]
    assert len(login) > 15
    assert login.partition(":")[2] in result.stderr
    monkeypatch.setenv("DPIQA_FLOWER_BASIC_AUTH", "me:mine")
    assert "mine" not in run("flower").stderr
    assert executed["env"]["FLOWER_BASIC_AUTH"] == "me:mine"
    monkeypatch.setenv("DPIQA_FLOWER_BASIC_AUTH", "mine")
    assert run("flower").exit_code == 78


def test_flower_refuses_a_taken_port_and_a_broker_without_events(run, executed, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("DPIQA_FLOWER_PORT", str(taken.getsockname()[1]))
        result = run("flower")
    assert result.exit_code == 78
    assert "DPIQA_FLOWER_PORT" in result.stderr
    monkeypatch.setenv("DPIQA_BROKER_URL", "sqs://")
    result = run("flower")
    assert result.exit_code == 78
    assert "SQS" in result.stderr
    assert not executed
