"""Statistics over HTTP against the scores themselves; lists of models, profiles and workers."""

import statistics

import pytest
from support.ledger import BOTH, STUDENT, TEACHER, Ledger, ref

from dpiqa.storage.items import Rejected
from dpiqa.types import Reason

PROFILE = {"profile": BOTH.id}


@pytest.fixture
def ledger(client):
    return Ledger(client.app.state.engine, BOTH)


@pytest.fixture
def job(ledger):
    """200 images of scores 0.000 to 0.995 in two buckets and four folders, two rejected; borderline ones wait."""
    images = [ref(f"2024/{n % 4:02}/{n:05}", f"e{n}", bucket="a" if n < 100 else "b") for n in range(200)]
    job, ids = ledger.submit(images)
    ledger.score(ids, value=lambda claim: int(claim.ref.key[-5:]) / 200)
    _, bad = ledger.submit([ref(f"bad{n}", f"bad{n}") for n in range(2)])
    ledger.record([Rejected(claim, Reason.TRUNCATED, "ends early") for claim in ledger.claim(bad)])
    return job


def get_stats(client, **query):
    answer = client.get("/v1/stats", params=PROFILE | query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def scores_of(client, **query):
    page = client.get("/v1/scores", params=PROFILE | {"limit": 1000} | query).json()
    return [row["score"] for row in page["items"]]


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"bucket": "a"},
        {"bucket": "a", "prefix": "2024/01/"},
        {"bucket": "a", "prefix": "2024/01/0000"},
        {"status": "provisional"},
        {"route": "clear", "bucket": "b"},
        {"min": 0.25, "max": 0.75},
        {"bucket": "a", "prefix": "2024/01/0000", "min": 0.0252, "max": 0.2},
        {"model": "nobody"},
    ],
)
def test_counts_means_and_quantiles_are_those_of_the_scores(client, job, query):
    values, found = scores_of(client, **query), get_stats(client, step=0.1, **query)
    assert found["n"] == pytest.approx(len(values), abs=1 if "min" in query and "prefix" not in query else 0)
    assert sum(bar["n"] for bar in found["histogram"]) == found["n"]
    if not values:
        assert (found["mean"], found["quantiles"], found["histogram"]) == (None, None, [])
        return
    assert found["mean"] == pytest.approx(statistics.fmean(values), abs=0.005)
    assert found["quantiles"]["p50"] == pytest.approx(statistics.median_low(values), abs=0.0051)
    for bar in found["histogram"][1:-1]:
        assert bar["n"] == sum(bar["low"] <= value < bar["high"] for value in values)


def test_groups(client, ledger, job):
    def numbers(by, **query):
        return {group["name"]: group["n"] for group in get_stats(client, group_by=by, **query)["groups"]}

    assert numbers("bucket") == {"a": 100, "b": 100}
    assert numbers("prefix", bucket="a", prefix="2024/") == {f"2024/{n:02}/": 25 for n in range(4)}
    folder = get_stats(client, group_by="prefix", bucket="a", prefix="2024/01/")
    assert (folder["n"], folder["groups"]) == (25, [])  # it has no folders, but images
    assert folder | {"computed_at": ""} == get_stats(client, bucket="a", prefix="2024/01/") | {
        "groups": [],
        "computed_at": "",
    }
    assert numbers("profile") == {BOTH.id: 200}
    assert numbers("model") == {STUDENT.scorer_id: 200}
    assert sum(numbers("day").values()) == 200
    assert numbers("status")["provisional"] == len(scores_of(client, status="provisional"))
    waiting = numbers("state", job=str(job.id))
    assert waiting == {"scored": 200 - waiting["queued"], "queued": len(scores_of(client, status="provisional"))}
    assert numbers("state", job="latest") == {"rejected": 2}
    assert numbers("reason", job="latest") == {"truncated": 2}
    for query in ({}, {"job": "latest", "bucket": "a"}):
        refused = client.get("/v1/stats", params=PROFILE | {"group_by": "reason"} | query)
        assert refused.status_code in (400, 422)
        assert refused.json()["hint"] == "name a job, without other filters"


def test_a_job_without_a_profile_is_under_its_own(client, job):
    found = client.get("/v1/stats", params={"job": str(job.id)}).json()
    assert (found["profile"], found["n"]) == (BOTH.id, 200)


def test_models_profiles_and_workers(client, ledger, job):
    [scorer] = client.get("/v1/models").json()["items"]
    assert (scorer["id"], scorer["n_results"]) == (STUDENT.scorer_id, 200)
    assert client.get(f"/v1/models/{STUDENT.scorer_id}").json()["card"]["name"] == STUDENT.name
    for beginning in (STUDENT.name, STUDENT.scorer_id[:20]):
        assert client.get(f"/v1/models/{beginning}").json()["id"] == STUDENT.scorer_id
    missing = client.get(f"/v1/models/{TEACHER.scorer_id}")
    assert missing.status_code == 404
    assert missing.json()["hint"]
    ledger.sql("INSERT INTO scorers (id, card) SELECT replace(id, 'float32', 'bfloat16'), card FROM scorers")
    several = client.get(f"/v1/models/{STUDENT.name}")
    assert (several.status_code, "2 scorers begin with" in several.json()["detail"]) == (404, True)
    assert client.get(f"/v1/models/{STUDENT.scorer_id}").json()["id"] == STUDENT.scorer_id
    ledger.sql("DELETE FROM scorers WHERE id LIKE '%bfloat16'")
    [profile] = client.get("/v1/profiles").json()["items"]
    assert (profile["id"], profile["n_results"]) == (BOTH.id, 200)
    assert client.get("/v1/workers").json() == {"items": []}
