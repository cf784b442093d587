"""Measures of pictures over HTTP: asked for with a job, shown beside scores, exported, reported."""

import io
import json

import pyarrow.parquet
import pytest
from support.ledger import ALONE, Ledger, ref, refs

from dpiqa.exports import rows
from dpiqa.exports.schemas import ITEMS, SCORES
from dpiqa.imaging.measured import MEASURE_NAMES, Measures
from dpiqa.storage.items import Scored
from dpiqa.storage.measures import request_details
from dpiqa.storage.watches import list_watches

SHARP = Measures(
    width=4000, height=3000, sharpness=0.7312, contrast=0.5, clipped_dark=0.0, clipped_bright=0.0107, noise=2.25,
    blockiness=0.01, colour_cast=0.0333,
)  # fmt: skip
TINY = Measures(
    width=6, height=6, sharpness=float("nan"), contrast=0.0, clipped_dark=1.0, clipped_bright=0.0, noise=float("nan"),
    blockiness=float("nan"), colour_cast=0.0,
)  # fmt: skip
QUERY = {"profile": ALONE.id, "bucket": "photos"}


@pytest.fixture
def ledger(client):
    return Ledger(client.app.state.engine, ALONE)


@pytest.fixture
def job(ledger):
    """Three scored images: one measured, one too small for some measures, one that was scored without details."""
    ledger.score(ledger.submit([ref("k2", "e2")])[1], value=0.2)
    job, ids = ledger.submit(refs(2))
    ledger.do(request_details, job.id)
    claims = ledger.claim(ids)
    assert all(claim.wants_measures for claim in claims)
    pairs = zip(claims, (SHARP, TINY), strict=True)
    ledger.record([Scored(claim, 0.1, claim.ref.etag, measures=measures) for claim, measures in pairs])
    return job


def test_scores_and_the_look_up_have_them(client, job):
    found = {row["key"]: row["measures"] for row in client.get("/v1/scores", params=QUERY).json()["items"]}
    assert found == {"k00000": SHARP.as_row(), "k00001": TINY.as_row(), "k2": None}
    image = client.get("/v1/scores/lookup", params={"bucket": "photos", "key": "k00000"}).json()
    assert [row["measures"] for row in image["results"]] == [SHARP.as_row()]


def test_exports_have_them_where_they_are_asked_for(client, job, monkeypatch):
    monkeypatch.setattr(rows, "PAGE_ROWS", 2)
    plain = client.get("/v1/scores/export", params=QUERY | {"format": "jsonl"}).text.splitlines()
    assert tuple(json.loads(plain[0])) == SCORES.names
    answer = client.get("/v1/scores/export", params=QUERY | {"format": "parquet", "details": True})
    table = pyarrow.parquet.read_table(io.BytesIO(answer.content)).select(["key", *MEASURE_NAMES]).to_pylist()
    nothing = dict.fromkeys(MEASURE_NAMES)
    assert table == [
        {"key": "k00000"} | SHARP.as_row(),
        {"key": "k00001"} | TINY.as_row(),
        {"key": "k2"} | nothing,
    ]


def test_the_report_of_a_job_with_details_has_them(client, job):
    lines = client.get(f"/v1/jobs/{job.id}/report", params={"format": "jsonl"}).text.splitlines()
    items = [json.loads(line) for line in lines]
    assert tuple(items[0]) == ITEMS.with_details().names
    assert [item["sharpness"] for item in items] == [0.7312, None]


def test_a_job_says_whether_its_pictures_are_measured(client, ledger):
    submit = {"bucket": "photos", "prefix": "2026/"}
    without = client.post("/v1/jobs", json=submit).json()
    wanted = client.post("/v1/jobs", json=submit | {"details": True}, headers={"Idempotency-Key": "a"}).json()
    again = client.post("/v1/jobs", json=submit | {"details": True}, headers={"Idempotency-Key": "a"}).json()
    assert (without["details"], wanted["details"], again) == (False, True, wanted)
    assert client.get(f"/v1/jobs/{wanted['id']}").json()["details"]
    assert [job["details"] for job in client.get("/v1/jobs").json()["items"]] == [True, False]


def test_a_watch_that_exists_begins_to_measure(client, ledger):
    ledger.watch()
    watch = {"kind": "watch", "bucket": "photos", "profile": "smoke"}
    first = client.post("/v1/jobs", json=watch).json()
    second = client.post("/v1/jobs", json=watch | {"details": True}).json()
    assert (first["id"], first["details"], second["details"]) == (second["id"], False, True)
    assert [one.job.details for one in ledger.do(list_watches)] == [False, True]


def test_the_page_of_an_image_shows_them(client, job):
    page = client.get("/image", params={"bucket": "photos", "key": "k00000"}).text
    assert "4000 x 3000 pixels" in page
    assert '<td>Sharpness</td><td class="number">0.731</td>' in page
    assert "1.1%" in page
    assert "What the picture is like" not in client.get("/image", params={"bucket": "photos", "key": "k2"}).text
