import sys

import pytest

from dpiqa.doorbell import Queue
from dpiqa.local.commands import api_command, flower_command, listen_command, settings_env, worker_command
from dpiqa.settings import load_settings
from dpiqa.types import Stage


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return load_settings(
        database_url="postgresql://u:db-secret@h/d",
        broker_url="redis://:broker-secret@h/0",
        aws_secret_access_key="s3-secret",
        flower_basic_auth="me:flower-secret",
        models_dir="models",
        api_port=1234,
    )


def every_command(settings):
    yield from (worker_command(settings, stage) for stage in Stage)
    yield from (listen_command(settings), api_command(settings), flower_command(settings))


def test_arguments_hold_no_secrets_and_the_environment_all_that_is_needed(settings):
    for argv, env in every_command(settings):
        assert argv[0] == sys.executable
        assert "secret" not in " ".join(argv)
        assert env["DPIQA_DATABASE_URL"] == "postgresql+psycopg://u:db-secret@h/d"
        assert env["DPIQA_BROKER_URL"] == "redis://:broker-secret@h/0"


def test_a_process_started_with_the_environment_has_the_same_settings(settings, monkeypatch, tmp_path):
    for name, value in settings_env(settings).items():
        monkeypatch.setenv(name, value)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert load_settings() == settings.model_copy(update={"models_dir": tmp_path / "models"})


def test_every_queue_is_served_and_student_work_by_students_only(settings):
    queues = {}
    for stage in Stage:
        argv, env = worker_command(settings, stage)
        queues[stage] = set(argv[argv.index("--queues") + 1].split(","))
        assert env["DPIQA_WORKER_STAGE"] == stage
    assert queues[Stage.STUDENT] | queues[Stage.TEACHER] == set(Queue)
    assert queues[Stage.STUDENT] & queues[Stage.TEACHER] == {Queue.MAINTENANCE}
    assert Queue.TEACHER in queues[Stage.TEACHER]


def test_workers_of_one_host_may_have_names_of_their_own(settings):
    argv, _ = worker_command(settings, "student", name="student-7")
    assert "student-7@%h" in argv


def test_flower_cannot_change_anything_and_asks_for_the_login(settings):
    argv, env = flower_command(settings, port=99)
    assert {"--read-only=True", "--address=127.0.0.1", "--port=99"} <= set(argv)
    assert env["FLOWER_BASIC_AUTH"] == "me:flower-secret"
    assert "FLOWER_BASIC_AUTH" not in flower_command(load_settings())[1]
