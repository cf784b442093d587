"""`dpiqa jobs prune`: what ended long ago goes, and what it says is what it does."""

import json

import pytest
from support.ledger import refs


@pytest.fixture
def old_job(ledger):
    """A job of five scored images that ended forty days ago."""
    job, ids = ledger.submit(refs(5))
    ledger.score(ids)
    ledger.sql("UPDATE jobs SET finished_at = now() - interval '40 days'")
    ledger.sql("UPDATE items SET finished_at = now() - interval '40 days'")
    return job


def test_a_dry_run_says_what_the_next_one_removes(run, ledger, old_job):
    dry = json.loads(run("jobs", "prune", "--older-than", "30d", "--dry-run", "--json").stdout)
    assert dry == {"removed": False, "jobs": [{"job": str(old_job.id), "items": 5}], "old_versions": 0}
    assert ledger.one("SELECT count(*) FROM items") == 5
    done = run("jobs", "prune", "--older-than", "30d", "--old-versions")
    assert done.exit_code == 0, done.stderr
    assert "5 items of 1 jobs were removed" in done.stderr
    assert ledger.one("SELECT count(*) FROM items") == 0
    assert ledger.one("SELECT count(*) FROM results") == 5
    shown = json.loads(run("jobs", "show", old_job.short_id, "--json").stdout)
    assert (shown["done"], shown["counts"]["scored"]) == (5, 5)
    again = json.loads(run("jobs", "prune", "--older-than", "4w", "--json").stdout)
    assert again["jobs"] == []


def test_what_is_younger_stays(run, ledger, old_job):
    assert json.loads(run("jobs", "prune", "--older-than", "8w", "--json").stdout)["jobs"] == []
    assert ledger.one("SELECT count(*) FROM items") == 5


@pytest.mark.parametrize("age", ["30", "-1d", "30 days", "", "1y"])
def test_an_age_has_a_number_and_a_unit(run, old_job, age):
    refused = run("jobs", "prune", f"--older-than={age}")
    assert refused.exit_code == 2
    assert "12h, 30d, 8w" in refused.stderr
