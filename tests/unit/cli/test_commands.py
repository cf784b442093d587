"""Commands that need no server."""

import json
import os

import pytest

from dpiqa.cli.jobs.follow import pace
from dpiqa.cli.support import targets
from dpiqa.doorbell import Queue
from dpiqa.errors import ImageRejected, ObjectGone
from dpiqa.objects.store import LocalFiles
from dpiqa.storage.job_queries import JobReport
from dpiqa.storage.jobs import Job
from dpiqa.types import ImageRef, JobKind, JobState, Reason


def test_models(run):
    listed = json.loads(run("models", "list", "--json").stdout)
    assert "brightness" in {card["name"] for card in listed}
    shown = json.loads(run("models", "show", "brightness", "--json").stdout)
    assert shown["scorer_id"].startswith("brightness:")
    assert "Apache-2.0" in run("models", "show", "brightness").stdout
    assert run("models", "verify", "brightness").exit_code == 0


def test_a_damaged_model_is_found(run, tmp_path, monkeypatch):
    card = json.loads(run("models", "show", "brightness", "--json").stdout)
    del card["scorer_id"], card["stale_figures"]
    card |= {"name": "mine", "kind": "student", "weights": "mine.safetensors"}
    (tmp_path / "mine.json").write_text(json.dumps(card))
    (tmp_path / "mine.safetensors").write_bytes(b"other bytes")
    monkeypatch.setenv("DPIQA_MODELS_DIR", str(tmp_path))
    shown = run("models", "verify", "mine", "--json")
    assert shown.exit_code == 1
    (finding,) = json.loads(shown.stdout)
    assert (finding["ok"], "sha256" in finding["message"]) == (False, True)
    assert finding["hint"]


def test_profiles(run):
    listed = json.loads(run("profiles", "list", "--json").stdout)
    assert {"default@1", "smoke@1", "student-only@1"} <= {profile["id"] for profile in listed}
    assert "0.5 ± 0.1" in run("profiles", "show", "smoke").stdout


def test_config_masks_secrets(run, monkeypatch):
    monkeypatch.setenv("DPIQA_DATABASE_URL", "postgresql://me:hush-1@host/db")
    monkeypatch.setenv("DPIQA_BROKER_URL", "redis://:hush-2@host:6379/0")
    monkeypatch.setenv("DPIQA_API_KEY", "hush-3")
    for words in (["config", "show"], ["config", "show", "--json"]):
        shown = run(*words).stdout
        assert "hush" not in shown
        assert "me:***@host" in shown


@pytest.fixture
def executed(monkeypatch):
    """What the process would have become."""
    became = {}

    def become(file, argv, env):
        became.update(file=file, argv=argv, env=env)
        raise SystemExit(0)

    monkeypatch.setattr(os, "execvpe", become)
    monkeypatch.setenv("DPIQA_BROKER_URL", "redis://:hush@127.0.0.1:1/0")
    monkeypatch.setenv("DPIQA_QUEUE_URL", "http://127.0.0.1:1/queue")
    return became


@pytest.mark.parametrize(
    ("words", "module", "variables"),
    [
        (["worker", "student"], "celery", {"DPIQA_WORKER_STAGE": "student"}),
        (["worker", "teacher"], "celery", {"DPIQA_WORKER_STAGE": "teacher"}),
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
    shown = run("flower")
    login = executed["env"]["FLOWER_BASIC_AUTH"]
    assert len(login) > 15
    assert login.partition(":")[2] in shown.stderr
    monkeypatch.setenv("DPIQA_FLOWER_BASIC_AUTH", "me:mine")
    assert "mine" not in run("flower").stderr
    assert executed["env"]["FLOWER_BASIC_AUTH"] == "me:mine"
    monkeypatch.setenv("DPIQA_FLOWER_BASIC_AUTH", "mine")
    assert run("flower").exit_code == 78


def test_doctor_where_nothing_is(run, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("DPIQA_PROFILE", "smoke")
    shown = run("doctor", "--json")
    found = {one["name"]: one for one in json.loads(shown.stdout)}
    assert shown.exit_code == 1
    assert [name for name, one in found.items() if one["level"] == "fail"] == [
        "database",
        "tables",
        "broker",
        "S3",
        "workers",
    ]
    assert all(one["hint"] for one in found.values() if one["level"] != "ok")
    assert found["models"]["level"] == "ok"


def test_doctor_names_a_wrong_setting(run, monkeypatch):
    monkeypatch.setenv("DPIQA_API_PORT", "many")
    shown = run("doctor", "--json")
    (finding,) = json.loads(shown.stdout)
    assert (shown.exit_code, finding["level"]) == (1, "fail")
    assert "DPIQA_API_PORT" in finding["message"]


def test_local_status_where_nothing_runs(run):
    shown = run("local", "status", "--json")
    assert (shown.exit_code, json.loads(shown.stdout)["running"]) == (1, False)
    assert json.loads(run("local", "down", "--json").stdout) == {"stopped": False}


def test_folders_are_searched_for_images(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("b/2.JPG", "b/1.png", "a.webp", "notes.txt", "b/.cache"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "b" / "circle").symlink_to(tmp_path)
    (tmp_path / "b" / "gone.jpg").symlink_to(tmp_path / "nowhere")
    places = targets.parse_targets([str(tmp_path), str(tmp_path / "notes.txt"), str(tmp_path / "a.webp")])
    names = [ref.key.removeprefix(f"{tmp_path}/") for ref in targets.local_refs(places)]
    assert names == ["a.webp", "b/1.png", "b/2.JPG", "notes.txt"]


def test_local_files_fail_one_by_one(tmp_path):
    files = LocalFiles()
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "big").write_bytes(b"12345")

    def get(name):
        return files.get(ImageRef(bucket="", key=str(tmp_path / name), etag=""), 4)

    with pytest.raises(ObjectGone):
        get("nowhere")
    with pytest.raises(ImageRejected) as empty:
        get("empty")
    with pytest.raises(ImageRejected) as big:
        get("big")
    assert (empty.value.reason, big.value.reason) == (Reason.EMPTY, Reason.TOO_MANY_BYTES)


def report(**changes):
    job = Job(
        **dict.fromkeys(Job.__dataclass_fields__)
        | {"kind": JobKind.PREFIX, "state": changes.pop("state", JobState.RUNNING), "queue": Queue.BULK}
    )
    values = {"by_state": {}, "open_by_stage": {}, "failures": {}, "total": 10, "done": 4, "rate": 2.0}
    return JobReport(job=job, **values | {"eta_seconds": 3.0, "waiting_for": None} | changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "2.0/s, 3s left"),
        ({"state": JobState.LISTING}, "2.0/s, still listing the bucket"),
        ({"rate": 0.0, "eta_seconds": None}, "0.0/s"),
        ({"done": 10, "eta_seconds": 0.0}, "2.0/s"),
        ({"waiting_for": "a teacher worker: 3 items"}, "2.0/s, 3s left, waits for a teacher worker: 3 items"),
    ],
)
def test_progress_says_rate_time_left_and_what_is_waited_for(changes, words):
    assert pace(report(**changes)) == words
