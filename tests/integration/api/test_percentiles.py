"""Percentiles and bands over HTTP: by the reference of the scorer whose score counts."""

import pytest
from support.ledger import BOTH, STUDENT, TEACHER, Ledger, refs

from dpiqa.percentiles import Reference
from dpiqa.routing import decide
from dpiqa.storage.items import Scored
from dpiqa.storage.results import record
from dpiqa.types import Direction, Stage

PROFILE = {"profile": BOTH.id}


def with_reference(card, lowest, highest, direction=Direction.HIGHER):
    """The card with a reference whose scores are spread evenly between two."""
    quantiles = tuple(lowest + (highest - lowest) * n / 100 for n in range(101))
    reference = Reference(
        population="p", n=1000, scorer_id=card.scorer_id, command="c", direction=direction, quantiles=quantiles
    )
    return card.model_copy(update={"references": (reference,)})


@pytest.fixture
def ledger(client):
    return Ledger(client.app.state.engine, BOTH)


@pytest.fixture
def fill(ledger):
    """Score a hundred images 0.00 to 0.99 by these cards; the teacher gives 0.505 to two of the borderline ones."""

    def score(student, teacher):
        _, ids = ledger.submit(refs(100))
        claims = ledger.claim(ids)
        outcomes = [Scored(claim, int(claim.ref.key[1:]) / 100, claim.ref.etag) for claim in claims]
        recorded = ledger.do(record, Stage.STUDENT, BOTH, student, outcomes, decide=decide)
        escalated = ledger.claim(recorded.teacher_items[:2], stage=Stage.TEACHER)
        ledger.do(
            record,
            Stage.TEACHER,
            BOTH,
            teacher,
            [Scored(claim, 0.505, claim.ref.etag) for claim in escalated],
            decide=decide,
        )

    return score


def get_scores(client, **query):
    answer = client.get("/v1/scores", params=PROFILE | query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def keys(page):
    return [row["key"] for row in page["items"]]


def test_each_score_is_read_by_the_reference_of_its_own_scorer(client, fill):
    fill(with_reference(STUDENT, 0, 1), with_reference(TEACHER, 0.5, 0.6))
    rows = {row["key"]: row for row in get_scores(client, limit=1000)["items"]}
    assert (rows["k00005"]["percentile"], rows["k00005"]["band"]) == (pytest.approx(5), "bad")
    assert rows["k00095"]["band"] == "excellent"
    by_teacher = [row for row in rows.values() if row["stage"] == "teacher"]
    assert [(row["percentile"], row["band"]) for row in by_teacher] == [(pytest.approx(5), "bad")] * 2
    bad = get_scores(client, band="bad", limit=1000)
    assert sorted(keys(bad)) == sorted([*(f"k{n:05}" for n in range(10)), *(row["key"] for row in by_teacher)])


def test_bands_go_with_the_other_filters(client, fill):
    fill(with_reference(STUDENT, 0, 1), TEACHER)
    assert keys(get_scores(client, band=["bad", "excellent"], max=0.02)) == ["k00000", "k00001", "k00002"]
    assert keys(get_scores(client, band="bad", worst="20%")) == ["k00000", "k00001"]
    first = get_scores(client, band=["poor", "good"], limit=25)
    rest = get_scores(client, band=["poor", "good"], limit=25, cursor=first["next_cursor"])
    listed = keys(first) + keys(rest)
    assert listed == [f"k{n:05}" for n in (*range(10, 30), *range(70, 90))]
    assert (
        client.get("/v1/scores", params=PROFILE | {"band": "fair", "cursor": first["next_cursor"]}).status_code == 422
    )


def test_a_scale_on_which_lower_is_better(client, fill):
    fill(with_reference(STUDENT, 0, 1, Direction.LOWER), TEACHER)
    # the cut itself is excellent
    assert sorted(keys(get_scores(client, band="excellent"))) == [f"k{n:05}" for n in range(11)]
    assert sorted(keys(get_scores(client, band="bad"))) == [f"k{n:05}" for n in range(91, 100)]


def test_without_references(client, fill):
    fill(STUDENT, TEACHER)
    assert {(row["percentile"], row["band"]) for row in get_scores(client)["items"]} == {(None, None)}
    answer = client.get("/v1/scores", params=PROFILE | {"band": "bad"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert "dpiqa models reference student" in answer.json()["hint"]


def test_nothing_scored_is_no_error(client):
    assert get_scores(client, band="bad")["items"] == []
    assert client.get("/v1/scores", params=PROFILE | {"band": "awful"}).status_code == 422


def test_lookup_says_what_each_score_means(client, fill):
    fill(with_reference(STUDENT, 0, 1), TEACHER)
    key = next(row["key"] for row in get_scores(client, limit=1000)["items"] if row["stage"] == "teacher")
    image = client.get("/v1/scores/lookup", params={"bucket": "photos", "key": key}).json()
    bands = {row["model"]: row["band"] for row in image["scores"]}
    assert bands == {STUDENT.scorer_id: "fair", TEACHER.scorer_id: None}
    assert [row["band"] for row in image["results"]] == [None]
