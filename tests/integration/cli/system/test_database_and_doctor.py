"""`dpiqa db` and `doctor` with real servers."""

import json
from datetime import timedelta

from support.ledger import ALONE, refs

from dpiqa.access import Actor, acting_as
from dpiqa.models.brightness import BRIGHTNESS
from dpiqa.pipeline.findings import find_old_profiles
from dpiqa.profiles import load_profile
from dpiqa.storage.api_keys import KeyRequest, create_key
from dpiqa.storage.engine import transaction
from dpiqa.storage.jobs import ensure_watch
from dpiqa.storage.workers import heartbeat
from dpiqa.types import Stage


def test_tables_are_made_and_found(run, empty_database_url, monkeypatch):
    monkeypatch.setenv("DPIQA_DATABASE_URL", empty_database_url)
    result = run("jobs")
    assert (result.exit_code, "dpiqa db upgrade" in result.stderr) == (78, True)
    assert run("db", "current").exit_code == 1
    upgrade = json.loads(run("db", "upgrade", "--json").stdout)
    assert (upgrade["before"], run("db", "current").exit_code) == (None, 0)
    assert json.loads(run("db", "upgrade", "--json").stdout)["before"] == upgrade["now"]
    assert run("jobs").exit_code == 0


def test_doctor_finds_health_and_what_is_missing(run, system, sqs_queue, ledger, monkeypatch):
    monkeypatch.setenv("DPIQA_QUEUE_URL", sqs_queue)
    ledger.do(heartbeat, "w1", Stage.STUDENT, "brightness:1")
    result = run("doctor", "--json")
    findings = {item["name"]: item for item in json.loads(result.stdout)}
    assert {name for name, item in findings.items() if item["level"] == "fail"} == set(), result.stdout
    assert result.exit_code == 0
    assert findings["workers"]["level"] == "warn"
    assert findings["workers"]["hint"] == "start `dpiqa worker teacher`"
    ledger.do(heartbeat, "w2", Stage.TEACHER, "brightness:1")
    ledger.job(bucket=system.name)
    findings = {item["name"]: item for item in json.loads(run("doctor", "--json").stdout)}
    assert (findings["workers"]["level"], system.name in findings["S3"]["message"]) == ("ok", True)


def test_doctor_reports_what_waits_and_what_nobody_takes_care_of(run, system, sqs_queue, ledger, monkeypatch):
    monkeypatch.setenv("DPIQA_QUEUE_URL", sqs_queue)
    ids = ledger.add(ledger.watch(), refs(3))
    ledger.claim(ids[:1])
    ledger.sql("UPDATE jobs SET active_since = active_since - interval '1 h'")
    ledger.sql("UPDATE items SET not_before = not_before - interval '300 s' WHERE state = 'queued'")
    with acting_as(Actor(name="cli")):
        ledger.do(create_key, KeyRequest(name="soon", lifetime=timedelta(days=2)))
    findings = {item["name"]: item for item in json.loads(run("doctor", "--json").stdout)}
    assert {name: findings[name]["level"] for name in ("queues", "API keys", "event queue")} == dict.fromkeys(
        ("queues", "API keys", "event queue"), "warn"
    )
    assert "live: 30" in findings["queues"]["message"]
    assert "2.0 days" in findings["API keys"]["message"]
    assert findings["event queue"]["hint"] == "start `dpiqa listen`"
    ledger.sql("UPDATE items SET lease_until = clock_timestamp() - interval '200 s' WHERE state = 'leased'")
    findings = {item["name"]: item for item in json.loads(run("doctor", "--json").stdout)}
    assert "1 lease(s) ran out" in findings["queues"]["message"]


def test_doctor_sees_a_vanished_bucket(run, system, ledger):
    ledger.job(bucket="no-such-bucket-here")
    result = run("doctor", "--json")
    findings = {item["name"]: item for item in json.loads(result.stdout)}
    assert (findings["S3"]["level"], result.exit_code) == ("warn", 0)
    assert "no-such-bucket-here" in findings["S3"]["message"]
    assert "dpiqa jobs" in findings["S3"]["hint"]


def test_doctor_names_watches_of_an_older_profile_whose_model_has_other_weights(run, system, ledger, monkeypatch):
    def finding():
        findings = json.loads(run("doctor", "--json").stdout)
        return next(item for item in findings if item["name"] == "profiles")

    first = load_profile("smoke")
    watch = ledger.do(ensure_watch, "photos", "in/", first)
    ledger.do(ensure_watch, "photos", "in/", ALONE)
    released = [load_profile(name) for name in ("default", "tiny")]
    monkeypatch.setattr("dpiqa.profiles._built_in", lambda: (*released, first.model_copy(update={"version": 2})))
    today = BRIGHTNESS.scorer_id
    ledger.sql("INSERT INTO scorers (id, card) VALUES (:id, '{}')", id=today)
    assert finding()["level"] == "ok"

    ledger.sql("INSERT INTO scorers (id, card) VALUES (:id, '{}')", id=today.replace(BRIGHTNESS.sha256[:12], "0" * 12))
    found = finding()
    assert found["level"] == "warn"
    assert found["message"] == (
        f"s3://photos/in/ is watched under smoke@1 ({watch.short_id}), and brightness has other weights now: further "
        "images are scored with the new weights beside the old results"
    )
    assert found["hint"].startswith(
        "add a watch of s3://photos/in/ under smoke@2 and end the old one; docs/profiles.md"
    )

    with transaction(ledger.engine) as c:
        kept = find_old_profiles(c, first, None)
    assert kept.message.startswith("DPIQA_PROFILE is smoke@1, and brightness has other weights now; s3://photos/in/ is")
    assert kept.hint.startswith("set DPIQA_PROFILE=smoke; add a watch")
