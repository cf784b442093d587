"""A release gives a bundled model other weights: scores that were stored before keep their id, card and meaning."""

import json

import pytest
from support.ledger import Ledger, ref
from support.scored import score_all

from dpiqa.models.cards import find_card
from dpiqa.profiles import Profile
from dpiqa.storage.rollups import fold_results

BEFORE = Profile(name="everyday", version=1, student="bundled-student")
AFTER = BEFORE.model_copy(update={"version": 2})
SCORES = {f"{n:02}.jpg": n / 20 for n in range(20)}


def card_with(sha256, shift):
    """The card of the first bundled student under its first name, with these weights and a shifted reference."""
    card = find_card("bundled-tiny")
    (reference,) = card.references
    scorer_id = card.scorer_id.replace(card.name, "bundled-student").replace(card.sha256[:12], sha256[:12])
    quantiles = tuple(score + shift for score in reference.quantiles)
    moved = reference.model_copy(update={"scorer_id": scorer_id, "quantiles": quantiles})
    return card.model_copy(update={"name": "bundled-student", "sha256": sha256, "references": (moved,)})


OLD = card_with(find_card("bundled-tiny").sha256, 0)
NEW = card_with("c" * 64, 0.1)


@pytest.fixture
def ledger(client):
    """Scores of the old weights under the first version of a profile, of the new ones under the second."""
    ledger = Ledger(client.app.state.engine, BEFORE)
    score_all(ledger, SCORES, BEFORE, OLD)
    score_all(ledger, {key: score + 0.1 for key, score in SCORES.items()}, AFTER, NEW)
    ledger.do(fold_results)
    return ledger


def rows(client, profile, **query):
    answer = client.get("/v1/scores", params={"profile": profile.id, "limit": 100, **query})
    assert answer.status_code == 200, answer.text
    return {row["key"]: row for row in answer.json()["items"]}


def test_both_keep_their_scorer_id_percentile_and_card(client, ledger):
    assert OLD.scorer_id.startswith("bundled-student:3d1332457711:")
    old, new = rows(client, BEFORE), rows(client, AFTER)
    assert {row["model"] for row in old.values()} == {OLD.scorer_id}
    assert {row["model"] for row in new.values()} == {NEW.scorer_id}
    for key, score in SCORES.items():
        assert old[key]["percentile"] == pytest.approx(OLD.reference.percentile(score), abs=0.01)
        assert new[key]["percentile"] == pytest.approx(old[key]["percentile"], abs=0.01)
        assert new[key]["band"] == old[key]["band"]
    bad = {key for key, row in old.items() if row["band"] == "bad"}
    assert rows(client, BEFORE, band="bad").keys() == rows(client, AFTER, band="bad").keys() == bad
    for card in (OLD, NEW):
        stored = client.get(f"/v1/models/{card.scorer_id}").json()
        assert (stored["id"], stored["card"]["sha256"]) == (card.scorer_id, card.sha256)
    listed = {scorer["id"]: scorer for scorer in client.get("/v1/models").json()["items"]}
    for card in (OLD, NEW):
        assert (listed[card.scorer_id]["has_reference"], listed[card.scorer_id]["n_results"]) == (True, 20)
    ambiguous = client.get("/v1/models/bundled-student")
    assert (ambiguous.status_code, NEW.scorer_id in ambiguous.json()["hint"]) == (404, True)


def test_an_image_shows_both_scores_and_both_profiles_can_be_compared(client, ledger):
    image = client.get("/v1/scores/lookup", params={"bucket": "photos", "key": "07.jpg"}).json()
    percentiles = {score["model"]: score["percentile"] for score in image["scores"]}
    assert percentiles.keys() == {OLD.scorer_id, NEW.scorer_id}
    assert percentiles[OLD.scorer_id] == pytest.approx(percentiles[NEW.scorer_id], abs=0.01)
    assert {result["profile"] for result in image["results"]} == {BEFORE.id, AFTER.id}
    answer = client.get("/v1/comparison", params={"profile": BEFORE.id, "second": AFTER.id, "bucket": "photos"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["correlation"]["value"] == pytest.approx(1)


def test_exports_have_them(client, ledger):
    for profile, card in ((BEFORE, OLD), (AFTER, NEW)):
        query = {"profile": profile.id, "format": "jsonl"}
        lines = client.get("/v1/scores/export", params=query).text.splitlines()
        exported = {row["key"]: row for row in map(json.loads, lines)}
        assert {row["model"] for row in exported.values()} == {card.scorer_id}
        shown = rows(client, profile)
        assert {key: (row["percentile"], row["band"]) for key, row in exported.items()} == {
            key: (pytest.approx(row["percentile"]), row["band"]) for key, row in shown.items()
        }


def test_the_same_version_of_a_profile_keeps_its_results_and_the_next_one_scores_anew(ledger):
    """So a release that changes what a built-in profile computes gives it a new version."""
    images = ledger.sql("SELECT key, etag FROM images ORDER BY key")
    assert len(images) == 20
    later = AFTER.model_copy(update={"version": 3})
    for profile, waiting in ((BEFORE, 0), (AFTER, 0), (later, 20)):
        _, ids = ledger.submit([ref(row.key, row.etag) for row in images], profile=profile)
        assert len(ids) == waiting
