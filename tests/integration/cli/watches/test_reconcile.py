"""`dpiqa reconcile` and `dpiqa reconciliations`."""

import json
from pathlib import Path

from support.photos import png


def parsed(result, code=0):
    assert result.exit_code == code, result.stdout + result.stderr
    return json.loads(result.stdout)


def test_a_report_is_printed_and_stored(run, system):
    for name in ("in/a.png", "in/b.png", "out.png"):
        system.put(name, png(0.2))
    address = f"s3://{system.name}/in/"
    assert run("reconcile", address, "--last").exit_code == 4
    dry = parsed(run("reconcile", address, "--dry-run", "--json"))
    assert (dry["counts"]["missing"], dry["job_id"], dry["state"]) == (2, None, "complete")
    report = parsed(run("reconcile", address, "--json"))
    assert report["examples"] == {"missing": ["in/a.png", "in/b.png"]}
    assert len(parsed(run("items", report["job_id"], "--json"))) == 2
    words = run("reconcile", address, "--last").stdout
    assert f"2, queued in job {report['job_id']}: in/a.png, in/b.png" in words
    assert [row["id"] for row in parsed(run("reconciliations", "--json"))] == [report["id"], dry["id"]]
    assert parsed(run("reconciliations", report["id"][:8], "--json"))["id"] == report["id"]
    assert "complete" in run("reconciliations").stdout
    assert run("reconciliations", report["id"], "--output", "all.csv").exit_code == 0
    assert Path("all.csv").read_text().splitlines() == [
        "kind,bucket,key",
        f"missing,{system.name},in/a.png",
        f"missing,{system.name},in/b.png",
    ]
    lines = run("reconcile", address, "--last", "--output", "-", "--format", "jsonl").stdout.splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["missing", "missing"]
    assert run("reconciliations", "--output", "all.csv").exit_code == 2


def test_wrong_addresses(run, system):
    assert run("reconcile", "s3://no-such-bucket-here/").exit_code == 78
    assert run("reconcile", "nowhere").exit_code == 2
    assert run("reconciliations", "abcdef").exit_code == 4
    assert run("reconciliations", "nonsense").exit_code == 2
    assert parsed(run("reconciliations", "--json")) == []
