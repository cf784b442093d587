"""Scores over HTTP: filtered, ordered, paged, by share, and all of one image."""

import base64
import json

import pytest
from support.ledger import BOTH, STUDENT, TEACHER, Ledger, ref, refs

from dpiqa.storage.items import Gone, Rejected
from dpiqa.types import Reason, Stage

PROFILE = {"profile": BOTH.id}
HOSTILE = ["' OR '1'='1", "'; DROP TABLE results; --", "%", "_", "\\", "k%_", "$1", ":min", "%(key)s", "é☃", "\u202e"]


@pytest.fixture
def ledger(client):
    """A hundred images of scores 0.00 to 0.99; of the borderline ones, some went to the teacher."""
    return Ledger(client.app.state.engine, BOTH)


@pytest.fixture
def job(ledger):
    job, ids = ledger.submit(refs(100))
    recorded = ledger.score(ids, value=lambda claim: int(claim.ref.key[1:]) / 100)
    ledger.score(recorded.teacher_items[:2], stage=Stage.TEACHER, value=0.505)
    return job


def get_scores(client, **query):
    answer = client.get("/v1/scores", params=PROFILE | query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def keys(page):
    return [row["key"] for row in page["items"]]


def test_each_row_says_who_and_why(client, ledger, job):
    rows = {row["key"]: row for row in get_scores(client, limit=1000)["items"]}
    assert len(rows) == 100
    clear = rows["k00010"]
    assert (clear["stage"], clear["status"], clear["route"]) == ("student", "final", "clear")
    assert (clear["model"], clear["etag"], clear["job_id"]) == (STUDENT.scorer_id, "etag-10", str(job.id))
    assert (clear["score"], clear["student_score"], clear["teacher_score"]) == (0.1, 0.1, None)
    by_teacher = [row for row in rows.values() if row["stage"] == "teacher"]
    assert len(by_teacher) == 2
    assert all(row["model"] == TEACHER.scorer_id and row["score"] == 0.505 for row in by_teacher)
    waiting = [row for row in rows.values() if row["status"] == "provisional"]
    assert waiting
    assert {row["route"] for row in waiting} == {"borderline"}
    status = client.get(f"/v1/jobs/{job.id}").json()
    assert "teacher" in status["waiting_for"]
    assert status["open_by_stage"] == {"teacher": len(waiting)}
    assert status["done"] == 100 - len(waiting)


def test_filters(client, ledger, job):
    ledger.submit([ref("k00001", bucket="other")])
    assert keys(get_scores(client, max=0.03)) == ["k00000", "k00001", "k00002", "k00003"]
    assert keys(get_scores(client, min=0.97, sort="-score")) == ["k00099", "k00098", "k00097"]
    assert keys(get_scores(client, min=0.1, max=0.1)) == ["k00010"]
    assert len(keys(get_scores(client, bucket="photos", prefix="k0009"))) == 10
    assert keys(get_scores(client, bucket="other")) == []
    assert len(keys(get_scores(client, model="teacher"))) == 2
    assert len(keys(get_scores(client, model=STUDENT.scorer_id, limit=1000))) == 98
    assert all(row["status"] == "provisional" for row in get_scores(client, status="provisional")["items"])
    assert len(keys(get_scores(client, job=str(job.id), limit=1000))) == 100
    assert client.get("/v1/scores").json()["items"] == []  # the service's own profile has none


def test_a_job_without_a_profile_shows_its_own_first_one(client, ledger, job):
    assert len(keys(client.get("/v1/scores", params={"job": str(job.id), "limit": 1000}).json())) == 100
    assert len(client.get("/v1/scores/export", params={"job": str(job.id)}).text.splitlines()) == 101
    assert client.get("/v1/stats", params={"job": str(job.id)}).json()["profile"] == BOTH.id
    named = {"job": str(job.id), "profile": "default"}
    assert client.get("/v1/scores", params=named).json()["items"] == []


def test_pages_meet_without_gap_or_double(client, job):
    for sort in ("score", "-score", "updated", "-updated"):
        seen, url = [], f"/v1/scores?profile={BOTH.id}&sort={sort}&limit=17"
        while url:
            answer = client.get(url)
            seen += keys(answer.json())
            url = answer.links.get("next", {}).get("url")
        assert len(seen) == len(set(seen)) == 100
        whole = keys(get_scores(client, sort=sort, limit=1000))
        assert seen == whole


def test_shares(client, ledger, job):
    worst = get_scores(client, worst="5%")
    assert keys(worst) == [f"k{n:05}" for n in range(5)]
    assert worst["threshold"] == 0.04
    assert keys(get_scores(client, best="5%"))[0] == "k00099"
    assert len(keys(get_scores(client, best="5%"))) == 5
    assert len(keys(get_scores(client, worst="100%", limit=1000))) == 100
    assert keys(get_scores(client, worst="50", bucket="photos", prefix="k0000")) == [f"k{n:05}" for n in range(5)]
    assert get_scores(client, worst="5%", bucket="photos", prefix="none")["items"] == []


def test_a_share_stays_put_while_scores_arrive(client, ledger, job):
    first = get_scores(client, worst="10%", limit=4)
    _, ids = ledger.submit([ref(f"new{n}", f"n{n}") for n in range(50)])
    ledger.score(ids, value=0.0)
    second = get_scores(client, worst="10%", limit=100, cursor=first["next_cursor"])
    assert second["threshold"] == first["threshold"]
    assert keys(first) + keys(second) == [f"k{n:05}" for n in range(10)]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "min=nan",
        "max=inf",
        "min=x",
        "min=0.5&max=0.4",
        "sort=score;drop",
        "sort=key",
        "job=1",
        "status=done",
        "worst=0%",
        "worst=101%",
        "worst=-5%",
        "worst=5%25&best=5%25",
        "worst=nan",
        "worst=%D9%A5%25",
        "profile=nonesuch",
        "profile=",
        "colour=red",
        "bucket=b&prefix=%00",
        "prefix=k",
        "suffix=.png",
        "since=2026-01-01",
        "since=2026-01-02T00:00Z&until=2026-01-01T00:00Z",
        "route=none",
        "profile=default&requirement=r",
        "bucket=",
        "bucket=a%00",
        "model=%00",
        "profile=a@%00",
    ],
)
def test_wrong_questions(client, query):
    answer = client.get(f"/v1/scores?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), answer.text
    assert answer.json()["hint"]


def inner(cursor):
    return json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))


def wrapped(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def test_tampered_cursors(client, job):
    cursor = get_scores(client, limit=10)["next_cursor"]
    share = get_scores(client, worst="50%", limit=10)["next_cursor"]
    threshold, kernel = inner(cursor)
    digest, position = inner(kernel)
    assert threshold is None
    forged = [
        "x",
        "e30",
        "é",
        cursor[:-3],
        cursor + "A",
        "A" * 8192,
        wrapped([None]),
        wrapped([None, 5]),
        wrapped({"a": 1}),
        wrapped([0.5, kernel]),
        wrapped([10**400, kernel]),
        wrapped([float("nan"), kernel]),
        wrapped([None, wrapped(["0" * 16, position])]),
        wrapped([None, wrapped([digest, ["0", 1]])]),
        wrapped([None, wrapped([digest, [0.1]])]),
        wrapped([None, wrapped([digest, [0.1, 10**30]])]),
        wrapped([None, wrapped([digest, [0.1, "1; DROP TABLE results"]])]),
        wrapped([0.9, inner(share)[1]]),
    ]
    for text in forged:
        answer = client.get("/v1/scores", params=PROFILE | {"limit": 10, "cursor": text})
        assert answer.status_code == 422, text
        assert answer.json()["code"] == "invalid_request"
    other = client.get("/v1/scores", params=PROFILE | {"sort": "-score", "cursor": cursor})
    assert other.status_code == 422
    for text in (wrapped([0.9, inner(share)[1]]), cursor):
        answer = client.get("/v1/scores", params=PROFILE | {"worst": "50%", "cursor": text})
        assert answer.status_code == 422, text


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_text(client, ledger, job, text):
    for name in ("bucket", "prefix", "suffix", "model"):
        assert get_scores(client, **{"bucket": "photos", name: text})["items"] == []
    assert client.get("/v1/scores", params={"profile": f"{text}@1"}).json()["items"] == []
    assert client.get("/v1/scores/lookup", params={"bucket": text, "key": text}).status_code == 404
    assert client.get("/v1/scores", params={"cursor": text}).status_code == 422
    assert client.post("/v1/jobs", json={"bucket": "photos", "prefix": text}).json()["prefix"] == text
    assert len(keys(get_scores(client, limit=1000))) == 100


def test_lookup(client, ledger, job):
    escalated = next(row for row in get_scores(client, model="teacher")["items"])
    answer = client.get("/v1/scores/lookup", params={"bucket": "photos", "key": escalated["key"]})
    assert answer.status_code == 200
    image = answer.json()
    assert (image["bucket"], image["key"], image["deleted"]) == ("photos", escalated["key"], False)
    by_model = {score["model"]: score for score in image["scores"]}
    assert set(by_model) == {STUDENT.scorer_id, TEACHER.scorer_id}
    for card in (STUDENT, TEACHER):
        score = by_model[card.scorer_id]
        assert client.get(f"/v1/models/{score['model']}").json()["card"]["sha256"] == card.sha256
        assert (score["etag"], score["job_id"]) == (escalated["etag"], str(job.id))
    [result] = image["results"]
    assert (result["profile"], result["stage"], result["route"]) == (BOTH.id, "teacher", "borderline")


def test_lookup_of_unknown_objects(client, job):
    for bucket, key in (("photos", "k1"), ("other", "k00001")):
        answer = client.get("/v1/scores/lookup", params={"bucket": bucket, "key": key})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert client.get("/v1/scores/lookup", params={"bucket": "photos"}).status_code == 422
    assert client.get("/v1/scores/lookup", params={"bucket": "photos", "key": "k" * 1025}).status_code == 422


def test_failures_by_reason(client, ledger):
    job, ids = ledger.submit(refs(3))
    claims = ledger.claim(ids)

    ledger.record([Rejected(claims[0], Reason.TRUNCATED, "cut"), Rejected(claims[1], Reason.EMPTY), Gone(claims[2])])
    status = client.get(f"/v1/jobs/{job.id}").json()
    assert status["failures"] == {"truncated": 1, "empty": 1, "object_deleted": 1}
    assert (status["state"], status["done"], status["total"]) == ("complete", 3, 3)
    rejected = client.get(f"/v1/jobs/{job.id}/items", params={"state": "rejected", "limit": 1})
    [item] = rejected.json()["items"]
    assert (item["reason"], item["detail"]) == ("truncated", "cut")
    rest = client.get(rejected.links["next"]["url"]).json()
    assert [item["reason"] for item in rest["items"]] == ["empty"]
    assert client.get(f"/v1/jobs/{job.id}/items", params={"state": "lost"}).status_code == 422
