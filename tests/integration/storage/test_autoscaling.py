"""The query by which the Helm chart adds and removes workers."""

import re
from pathlib import Path

import yaml
from support.ledger import BOTH, refs

from dpiqa.storage import steering
from dpiqa.storage.items import Scored

TEMPLATE = Path(__file__).resolve().parents[3] / "deploy" / "helm" / "templates" / "scaling.yaml"


def wanted(ledger, stage):
    """Items by which the workers of a stage are scaled, as Postgres answers the chart's query."""
    found = re.search(r"( +query: >-\n(?: +.*\n)+?)(?= +\{\{- else)", TEMPLATE.read_text())
    query = yaml.safe_load(found[1])["query"].replace("{{ $worker.stage }}", stage)
    return ledger.one(query)


def test_workers_are_added_for_what_waits_or_runs_and_not_for_paused_jobs(ledger):
    ledger.profile = BOTH
    assert (wanted(ledger, "student"), wanted(ledger, "teacher")) == (0, 0)
    job, ids = ledger.submit(refs(10))
    assert wanted(ledger, "student") == 10
    claims = ledger.claim(ids[:4])
    assert wanted(ledger, "student") == 10, "running items still need their workers"
    ledger.record([Scored(claim, 0.5, claim.ref.etag) for claim in claims[:2]])  # half of them may go to the teacher
    assert (wanted(ledger, "student"), wanted(ledger, "teacher")) == (8, 1)
    ledger.do(steering.pause_job, job.id)
    assert (wanted(ledger, "student"), wanted(ledger, "teacher")) == (0, 0)
    ledger.do(steering.resume_job, job.id)
    assert wanted(ledger, "student") == 8
