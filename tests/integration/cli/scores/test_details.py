"""Measures of pictures on the command line: asked for with a job or a watch, shown beside scores."""

import csv
import json
from pathlib import Path

import pytest
from support.ledger import ref
from support.photos import png

from dpiqa.imaging.measured import MEASURE_NAMES, Measures
from dpiqa.storage.images import add_images
from dpiqa.storage.items import Scored
from dpiqa.storage.jobs import read_job
from dpiqa.types import Stage

BLURRED = Measures(
    width=4000, height=3000, sharpness=0.0512, contrast=0.5, clipped_dark=0.25, clipped_bright=0.0, noise=1.5,
    blockiness=0.01, colour_cast=0.0333,
)  # fmt: skip


@pytest.fixture
def job(run, ledger, system):
    """A job that was submitted with details, whose image a worker has scored and measured."""
    system.put("k/0.png", png(0.2))
    submitted = json.loads(run("submit", f"s3://{system.name}/k/", "--details", "--json").stdout)
    assert submitted["details"]
    job = ledger.do(read_job, submitted["id"])
    ids = ledger.do(add_images, job, [ref("k/0.png", "e", bucket=system.name)])
    claims = ledger.worker_claims(ids)
    ledger.worker_records(Stage.STUDENT, [Scored(claim, 0.2, "e", measures=BLURRED) for claim in claims])
    return job


def test_scores_lookup_and_items_show_them(run, job, system):
    (row,) = json.loads(run("scores", "--details", "--json").stdout)
    assert {name: row[name] for name in MEASURE_NAMES} == BLURRED.as_row()
    assert "sharpness" not in run("scores", "--json").stdout
    assert "0.0512" in run("scores", "--details").stdout
    assert (
        "4000x3000 pixels, sharpness 0.05, contrast 0.50, dark 25%"
        in run("lookup", f"s3://{system.name}/k/0.png").stdout
    )
    assert run("items", job.id, "-o", "items.csv").exit_code == 0
    with Path("items.csv").open(newline="") as file:
        assert [float(item["clipped_dark"]) for item in csv.DictReader(file)] == [0.25]
    assert run("validate", "items.csv").exit_code == 0
    assert run("gallery", "--job", job.id, "-o", "g.html").exit_code == 0
    assert "sharpness 0.05" in Path("g.html").read_text("utf-8")


def test_a_watch_and_its_back_fill_measure(run, ledger, system):
    added = run("watches", "add", f"s3://{system.name}/in/", "--details", "--no-probe", "--json")
    watch = json.loads(added.stdout)
    assert watch["details"]
    assert ledger.do(read_job, watch["backfill_job_id"]).details
    submitted = run("submit", f"s3://{system.name}/other/", "--watch", "--details", "--json")
    document = json.loads(submitted.stdout)
    assert ledger.do(read_job, document["id"]).details
    assert ledger.do(read_job, document["watch"]).details
