"""submit, jobs, watch, items, scores, lookup, db, doctor on real Postgres, Valkey and S3."""

import csv
import json
from pathlib import Path

import pyarrow.parquet
import pytest
from support.photos import png

from dpiqa.doorbell import Queue, load_doorbell
from dpiqa.settings import load_settings
from dpiqa.storage.outcomes import Rejected, Scored
from dpiqa.storage.workers import heartbeat
from dpiqa.types import ImageRef, Reason, Stage


def refs(bucket, count):
    return [ImageRef(bucket=bucket, key=f"k/{n:04}.png", etag=f"e{n}") for n in range(count)]


@pytest.fixture
def scored(book, system):
    """A complete job: 1,100 images with scores 0.000 to 1.099, one rejected; those at 0.400-0.600 by the teacher."""
    job, ids = book.submit(refs(system.name, 1101), bucket=system.name, prefix="k/")
    claims = book.take(ids)
    outcomes = [Scored(claim, n / 1000, claim.ref.etag) for n, claim in enumerate(claims[:-1])]
    recorded = book.say(Stage.STUDENT, [*outcomes, Rejected(claims[-1], Reason.TRUNCATED, "ends early")])
    asked = book.take(recorded.teacher_items, Stage.TEACHER)
    book.say(Stage.TEACHER, [Scored(claim, 0.55, claim.ref.etag) for claim in asked])
    return job


def rows(shown):
    assert shown.exit_code in (0, 1), shown.stderr
    return json.loads(shown.stdout)


def test_submit_writes_the_job_and_rings(run, system):
    system.put("in/a.png", png(0.1))
    shown = run("submit", f"s3://{system.name}/in/")
    assert shown.exit_code == 0, shown.stderr
    (report,) = rows(run("jobs", "--json"))
    assert shown.stdout.strip() == report["job"]["id"]
    assert (report["job"]["state"], report["job"]["profile"]) == ("listing", "smoke@1")
    assert report["waiting_for"] == "a worker to list its objects"
    assert load_doorbell(load_settings()).depth(Queue.MAINTENANCE) == 1


def test_submit_with_a_watch(run, system):
    system.put("in/a.png", png(0.1))
    first = rows(run("submit", f"s3://{system.name}/in/", "--watch", "--json"))
    second = rows(run("submit", f"s3://{system.name}/in/", "--watch", "--json"))
    assert first["id"] != second["id"]
    assert first["watch"] == second["watch"] is not None
    states = {report["job"]["id"]: report["job"]["state"] for report in rows(run("jobs", "--json"))}
    assert states[first["watch"]] == "watching"


def test_submit_to_nowhere(run, system, monkeypatch):
    shown = run("submit", "s3://no-such-bucket-here/x")
    assert (shown.exit_code, shown.stderr.count("\n")) == (78, 1)
    shown = run("submit", f"s3://{system.name}/x", "--profile", "nope")
    assert shown.exit_code == 4
    assert rows(run("jobs", "--json")) == []
    assert "case-sensitive" in run("submit", f"s3://{system.name}/nothing").stderr


def test_an_absent_broker_loses_nothing(run, system, monkeypatch):
    monkeypatch.setenv("DPIQA_BROKER_URL", "redis://127.0.0.1:1/0")
    shown = run("submit", f"s3://{system.name}/")
    assert shown.exit_code == 0
    assert "the job is recorded" in shown.stderr
    assert len(rows(run("jobs", "--json"))) == 1


def test_an_absent_s3_is_a_warning(run, system, monkeypatch):
    monkeypatch.setenv("DPIQA_S3_ENDPOINT_URL", "http://127.0.0.1:1")
    shown = run("submit", f"s3://{system.name}/")
    assert shown.exit_code == 0, shown.stderr
    assert "until the workers reach S3" in shown.stderr


def test_watch_reports_and_ends_with_one_for_a_rejected_image(run, scored):
    shown = run("follow", scored.id, "--json")
    report = json.loads(shown.stdout)
    assert shown.exit_code == 1
    assert (report["job"]["state"], report["done"], report["total"]) == ("complete", 1101, 1101)
    assert report["failures"] == {"truncated": 1}
    assert "1 truncated" in run("follow", scored.id).stdout


def test_watch_ends_with_zero_when_all_is_scored(run, book, system):
    job, ids = book.submit(refs(system.name, 1), bucket=system.name)
    book.say(Stage.STUDENT, [Scored(claim, 0.9, claim.ref.etag) for claim in book.take(ids)])
    assert run("follow", job.id).exit_code == 0


def test_watch_waits_and_gives_up(run, book, system):
    job, _ = book.submit(refs(system.name, 3), bucket=system.name)
    shown = run("follow", job.id, "--timeout", "0.2")
    assert shown.exit_code == 1
    assert "0 of 3 done" in shown.stderr
    assert "a student worker: 3 items" in shown.stdout


def test_unknown_jobs(run, system):
    nobody = "0b9b6f3e-8a51-4b7e-9a57-0d1c3a0a5d5f"
    for words in (["follow", nobody], ["items", nobody], ["scores", "--job", nobody]):
        shown = run(*words)
        assert (shown.exit_code, shown.stderr.count("\n")) == (4, 1), shown.stderr


def test_items_say_why(run, scored):
    (rejected,) = rows(run("items", scored.id, "--state", "rejected", "--json"))
    assert (rejected["reason"], rejected["detail"]) == ("truncated", "ends early")
    assert len(rows(run("items", scored.id, "--json"))) == 1101
    assert run("items", scored.id, "-o", "all.csv").exit_code == 0
    with Path("all.csv").open(newline="") as file:
        assert sum(1 for _ in csv.DictReader(file)) == 1101
    shown = run("items", scored.id, "--limit", 5)
    assert shown.stdout.count("s3://") == 5
    assert "there are more" in shown.stderr


def test_scores_stream_every_page(run, scored):
    found = rows(run("scores", "--json"))
    assert len(found) == 1100
    assert [row["score"] for row in found] == sorted(row["score"] for row in found)
    assert len({row["key"] for row in found}) == 1100
    assert run("scores", "-o", "all.parquet").exit_code == 0
    assert pyarrow.parquet.read_table("all.parquet").num_rows == 1100


def test_scores_filter_and_sort(run, scored, system):
    assert [row["score"] for row in rows(run("scores", "--max", "0.002", "--json"))] == [0.0, 0.001, 0.002]
    best = rows(run("scores", "--sort", "-score", "--limit", "2", "--json"))
    assert [row["score"] for row in best] == [1.099, 1.098]
    assert len(rows(run("scores", "--prefix", "k/001", "--json"))) == 10
    assert rows(run("scores", "--bucket", "elsewhere", "--json")) == []
    assert rows(run("scores", "--profile", "default", "--json")) == []
    assert len(rows(run("scores", "--job", scored.id, "--profile", "smoke", "--model", "brightness", "--json"))) == 899
    assert len(rows(run("scores", "--min", "0.55", "--max", "0.55", "--json"))) == 201


def test_worst_and_best_shares(run, scored):
    worst = run("scores", "--worst", "5%", "--json")
    assert len(rows(worst)) == 55
    assert "the worst 5%: scores of at most 0.0540" in worst.stderr
    best = rows(run("scores", "--best", "1%", "--json"))
    assert 11 <= len(best) <= 12
    assert best[0]["score"] == 1.099
    assert run("scores", "--worst", "5%", "--best", "5%").exit_code == 2
    assert run("scores", "--worst", "5%", "--bucket", "elsewhere").exit_code == 4


def test_a_table_says_that_there_are_more(run, scored):
    shown = run("scores")
    assert shown.stdout.count("s3://") == 20
    assert "the first 20; there are more" in shown.stderr


def test_lookup_tells_where_a_score_comes_from(run, scored, system):
    found = rows(run("lookup", f"s3://{system.name}/k/0500.png", "--json"))
    assert found["results"][0]["score"] == 0.55
    assert {(one["scorer_id"].partition(":")[0], one["score"]) for one in found["scores"]} == {
        ("brightness", 0.5),
        ("judge", 0.55),
    }
    assert "teacher" in run("lookup", f"s3://{system.name}/k/0500.png").stdout
    assert run("lookup", f"s3://{system.name}/k/nope.png").exit_code == 4


def test_tables_are_made_and_found(run, empty_database_url, monkeypatch):
    monkeypatch.setenv("DPIQA_DATABASE_URL", empty_database_url)
    shown = run("jobs")
    assert (shown.exit_code, "dpiqa db upgrade" in shown.stderr) == (78, True)
    assert run("db", "current").exit_code == 1
    made = rows(run("db", "upgrade", "--json"))
    assert (made["before"], run("db", "current").exit_code) == (None, 0)
    assert rows(run("db", "upgrade", "--json"))["before"] == made["now"]
    assert run("jobs").exit_code == 0


def test_doctor_finds_health_and_what_is_missing(run, system, sqs_queue, book, monkeypatch):
    monkeypatch.setenv("DPIQA_QUEUE_URL", sqs_queue)
    book.do(heartbeat, "w1", Stage.STUDENT, "brightness:1")
    shown = run("doctor", "--json")
    found = {one["name"]: one for one in json.loads(shown.stdout)}
    assert {name for name, one in found.items() if one["level"] == "fail"} == set(), shown.stdout
    assert shown.exit_code == 0
    assert found["workers"]["level"] == "warn"
    assert found["workers"]["hint"] == "start `dpiqa worker teacher`"
    book.do(heartbeat, "w2", Stage.TEACHER, "brightness:1")
    book.job(bucket=system.name)
    found = {one["name"]: one for one in json.loads(run("doctor", "--json").stdout)}
    assert (found["workers"]["level"], system.name in found["S3"]["message"]) == ("ok", True)


def test_doctor_sees_a_vanished_bucket(run, system, book):
    book.job(bucket="no-such-bucket-here")
    found = {one["name"]: one for one in json.loads(run("doctor", "--json").stdout)}
    assert found["S3"]["level"] == "fail"
    assert "no-such-bucket-here" in found["S3"]["message"]
