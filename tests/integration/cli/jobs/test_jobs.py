"""`dpiqa submit`, `follow`, `jobs` and `items`."""

import csv
import json
from pathlib import Path

from support.ledger import ref
from support.photos import png

from dpiqa.doorbell import Queue, load_doorbell
from dpiqa.profiles import Cutoff, load_profile
from dpiqa.settings import load_settings
from dpiqa.storage.items import Scored
from dpiqa.storage.saved_profiles import save_profile
from dpiqa.types import Stage


def rows(result):
    assert result.exit_code in (0, 1), result.stderr
    return json.loads(result.stdout)


def test_submit_writes_the_job_and_rings(run, system):
    system.put("in/a.png", png(0.1))
    result = run("submit", f"s3://{system.name}/in/")
    assert result.exit_code == 0, result.stderr
    (report,) = rows(run("jobs", "--json"))
    assert result.stdout.strip() == report["id"]
    assert (report["state"], report["profile"]) == ("listing", "smoke@1")
    assert report["waiting_for"] == "a worker to list its objects"
    assert load_doorbell(load_settings()).depth(Queue.MAINTENANCE) == 1


def test_submit_with_a_watch(run, system):
    system.put("in/a.png", png(0.1))
    first = rows(run("submit", f"s3://{system.name}/in/", "--watch", "--json"))
    second = rows(run("submit", f"s3://{system.name}/in/", "--watch", "--json"))
    assert first["id"] != second["id"]
    assert first["watch"] == second["watch"] is not None
    states = {report["id"]: report["state"] for report in rows(run("jobs", "--json"))}
    assert states[first["watch"]] == "watching"


def test_submit_to_nowhere(run, system, monkeypatch):
    result = run("submit", "s3://no-such-bucket-here/x")
    assert (result.exit_code, result.stderr.count("\n")) == (78, 1)
    result = run("submit", f"s3://{system.name}/x", "--profile", "nope")
    assert result.exit_code == 4
    assert rows(run("jobs", "--json")) == []
    assert "case-sensitive" in run("submit", f"s3://{system.name}/nothing").stderr


def test_a_job_names_a_profile_that_only_the_database_has(run, system, ledger):
    ledger.do(save_profile, "portfolio", load_profile("smoke"), Cutoff(at=0.42, margin=0.05))
    result = run("submit", f"s3://{system.name}/", "--profile", "portfolio")
    assert (result.exit_code, "under portfolio@1" in result.stderr) == (0, True)
    assert rows(run("jobs", "--json"))[0]["profiles"] == ["portfolio@1"]


def test_a_manifest_for_a_bucket_that_does_not_exist_is_refused(run, system, tmp_path):
    (tmp_path / "keys.txt").write_text("a.jpg\n")
    result = run("submit", "s3://no-such-bucket-here", "--list", "keys.txt")
    assert (result.exit_code, result.stderr.count("\n")) == (78, 1)
    assert "there is no bucket no-such-bucket-here" in result.stderr
    assert rows(run("jobs", "--json")) == []


def test_a_pattern_in_a_prefix_is_pointed_out(run, system):
    assert "use --include" in run("submit", f"s3://{system.name}/*.jpg").stderr


def test_a_dry_run_submits_nothing_and_estimates_each_profile(run, system):
    system.put("in/a.png", png(0.1))
    system.put("in/notes.txt", b"text")
    words = ["submit", f"s3://{system.name}/in/", "--dry-run", "--profile", "smoke", "--profile", "tiny"]
    dry = rows(run(*words, "--json"))
    assert (dry["objects"], dry["bytes"], dry["passed_over"]) == (1, len(png(0.1)), {"name": 1})
    assert [each["profile"] for each in dry["estimates"]] == ["smoke@1", "tiny@1"]
    shown = run(*words).stdout
    assert "1 by name no image" in shown
    assert shown.count("unknown: no job of at least 20 images") == 2
    assert rows(run("jobs", "--json")) == []


def test_an_absent_broker_loses_nothing(run, system, monkeypatch):
    monkeypatch.setenv("DPIQA_BROKER_URL", "redis://127.0.0.1:1/0")
    result = run("submit", f"s3://{system.name}/")
    assert result.exit_code == 0
    assert "the job is recorded" in result.stderr
    assert len(rows(run("jobs", "--json"))) == 1


def test_an_absent_s3_is_a_warning(run, system, monkeypatch):
    monkeypatch.setenv("DPIQA_S3_ENDPOINT_URL", "http://127.0.0.1:1")
    result = run("submit", f"s3://{system.name}/")
    assert result.exit_code == 0, result.stderr
    assert "until the workers reach S3" in result.stderr


def test_follow_reports_and_ends_with_one_for_a_rejected_image(run, scored):
    result = run("follow", scored.id, "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (report["state"], report["done"], report["total"]) == ("complete", 1101, 1101)
    assert report["failures"] == {"truncated": 1}
    assert "1 truncated" in run("follow", scored.id).stdout


def test_follow_ends_with_zero_when_all_is_scored(run, ledger, system):
    job, ids = ledger.submit([ref("k/0.png", bucket=system.name)], bucket=system.name)
    ledger.worker_records(Stage.STUDENT, [Scored(claim, 0.9, claim.ref.etag) for claim in ledger.worker_claims(ids)])
    assert run("follow", job.id).exit_code == 0


def test_follow_waits_and_gives_up(run, ledger, system):
    job, _ = ledger.submit([ref(f"k/{n}.png", bucket=system.name) for n in range(3)], bucket=system.name)
    result = run("follow", job.id, "--timeout", "0.2")
    assert result.exit_code == 1
    assert "0 of 3 done" in result.stderr
    assert "a student worker: 3 items" in result.stdout


def test_unknown_jobs(run, system):
    nobody = "0b9b6f3e-8a51-4b7e-9a57-0d1c3a0a5d5f"
    for words in (["follow", nobody], ["items", nobody], ["scores", "--job", nobody]):
        result = run(*words)
        assert (result.exit_code, result.stderr.count("\n")) == (4, 1), result.stderr


def test_items_say_why(run, scored):
    (rejected,) = rows(run("items", scored.id, "--state", "rejected", "--json"))
    assert (rejected["reason"], rejected["detail"]) == ("truncated", "ends early")
    assert len(rows(run("items", scored.id, "--json"))) == 1101
    assert run("items", scored.id, "-o", "all.csv").exit_code == 0
    with Path("all.csv").open(newline="") as file:
        assert sum(1 for _ in csv.DictReader(file)) == 1101
    result = run("items", scored.id, "--limit", 5)
    assert result.stdout.count("s3://") == 5
    assert "there are more" in result.stderr
