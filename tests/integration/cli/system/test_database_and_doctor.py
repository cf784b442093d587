"""`dpiqa db` and `doctor` with real servers."""

import json

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


def test_doctor_sees_a_vanished_bucket(run, system, ledger):
    ledger.job(bucket="no-such-bucket-here")
    result = run("doctor", "--json")
    findings = {item["name"]: item for item in json.loads(result.stdout)}
    assert (findings["S3"]["level"], result.exit_code) == ("warn", 0)
    assert "no-such-bucket-here" in findings["S3"]["message"]
    assert "dpiqa jobs" in findings["S3"]["hint"]
