"""`dpiqa doctor` without servers."""

import json


def test_doctor_where_nothing_is(run, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("DPIQA_PROFILE", "smoke")
    result = run("doctor", "--json")
    findings = {item["name"]: item for item in json.loads(result.stdout)}
    assert result.exit_code == 1
    assert [name for name, item in findings.items() if item["level"] == "fail"] == [
        "database",
        "tables",
        "broker",
        "S3",
        "buckets",
        "queues",
        "API keys",
        "workers",
        "profiles",
    ]
    assert all(item["hint"] for item in findings.values() if item["level"] != "ok")
    assert findings["models"]["level"] == "ok"


def test_doctor_names_a_wrong_setting(run, monkeypatch):
    monkeypatch.setenv("DPIQA_API_PORT", "many")
    result = run("doctor", "--json")
    (finding,) = json.loads(result.stdout)
    assert (result.exit_code, finding["level"]) == (1, "fail")
    assert "DPIQA_API_PORT" in finding["message"]
