"""`dpiqa jobs` and its commands that steer a job."""

import json
from datetime import datetime, timedelta

import pytest
from support.ledger import ref

from dpiqa.cli.support.options import complete_job
from dpiqa.doorbell import Queue, load_doorbell
from dpiqa.http_api.jobs import JobOut, JobStatus
from dpiqa.settings import load_settings
from dpiqa.storage.items import Rejected
from dpiqa.storage.job_queries import JOB_FIELDS
from dpiqa.types import Reason


def json_of(result):
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def job(ledger, system):
    """Five images: one rejected, four waiting."""
    job, ids = ledger.submit([ref(f"k/{n}.png", bucket=system.name) for n in range(5)], bucket=system.name)
    ledger.record([Rejected(claim, Reason.ACCESS_DENIED) for claim in ledger.worker_claims(ids[:1])])
    return job


def test_pause_resume_cancel_retry_and_delete(run, job, ledger):
    for action, state in [("pause", "paused"), ("resume", "running"), ("cancel", "cancelled"), ("cancel", "cancelled")]:
        result = run("jobs", action, job.short_id)
        assert result.exit_code == 0, result.stderr
        assert f"job {job.short_id} is {state}" in result.stderr
        assert json_of(run("jobs", "show", "latest", "--json"))["state"] == state
    refused = run("jobs", "resume", "latest")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert f"dpiqa jobs retry {job.short_id}" in refused.stderr
    result = run("jobs", "retry", "latest", "--reason", "access_denied")
    assert "1 item is open again" in result.stderr
    assert json_of(run("jobs", "retry", job.id, "--state", "cancelled", "--json"))["retried"] == 4
    assert "there is no such item to retry" in run("jobs", "retry", "latest").stderr
    assert run("jobs", "retry", "latest", "--state", "scored").exit_code == 2
    refused = run("jobs", "delete", "latest")
    assert (refused.exit_code, "dpiqa jobs cancel" in refused.stderr) == (2, True)
    assert run("jobs", "delete", "latest", "--force").exit_code == 0
    assert run("jobs", "show", "latest").exit_code == 4
    assert json_of(run("jobs", "--json")) == []


def test_resuming_a_listing_rings_for_it(run, ledger, system):
    job = ledger.job(bucket=system.name)
    run("jobs", "pause", "latest")
    assert "is listing" in run("jobs", "resume", job.short_id).stderr
    assert load_doorbell(load_settings()).depth(Queue.MAINTENANCE) == 1


def test_priorities_may_be_negative(run, job):
    assert "priority -3" in run("jobs", "priority", "latest", "-3").stderr
    assert json_of(run("jobs", "priority", job.id, "2", "--json"))["priority"] == 2
    for wrong in ("11", "-11", "high"):
        assert run("jobs", "priority", "latest", wrong).exit_code == 2


def test_json_has_the_names_of_the_api_and_no_internals(run, job):
    shown = json_of(run("jobs", "show", "latest", "--json"))
    assert set(shown) == set(JobStatus.model_fields)
    assert set(JOB_FIELDS) == set(JobOut.model_fields)
    assert [set(one) for one in json_of(run("jobs", "--json"))] == [set(JobStatus.model_fields)]


@pytest.mark.parametrize("columns", ["80", "60"])
def test_the_table_never_breaks_an_id(run, job, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr("dpiqa.cli.support.console._PIPE_WIDTH", int(columns))
    table = run("jobs").stdout
    assert job.short_id in table
    assert all(len(line) <= int(columns) for line in table.splitlines())


def test_the_list_is_filtered(run, job, ledger, system):
    ledger.watch()
    tomorrow = (datetime.now().astimezone() + timedelta(days=1)).strftime("%Y-%m-%d")

    def kinds(*options):
        return sorted(one["kind"] for one in json_of(run("jobs", *options, "--json")))

    assert kinds() == ["prefix", "watch"]
    assert kinds("--kind", "watch") == ["watch"]
    assert kinds("--state", "running") == ["prefix"]
    assert kinds("--state", "running", "--state", "watching") == ["prefix", "watch"]
    assert kinds("--bucket", system.name) == ["prefix"]
    assert kinds("--since", tomorrow) == []
    assert kinds("--before", tomorrow) == ["prefix", "watch"]
    assert "none found" in run("jobs", "list", "--state", "failed").stderr


def test_a_finished_job_shows_how_long_it_took(run, scored):
    shown = json_of(run("jobs", "show", scored.short_id, "--json"))
    assert shown["duration_seconds"] > 0
    assert shown["mean_rate_per_second"] == pytest.approx(1101 / shown["duration_seconds"])
    text = run("jobs", "show", scored.short_id).stdout
    assert "worked for" in text
    assert "mean rate" in text


def test_job_names_are_completed(job):
    assert [name for name, _ in complete_job(job.short_id[:4])] == [str(job.id)]
    assert [name for name, _ in complete_job("lat")] == ["latest"]
