"""Explanations over HTTP: asked for, followed until a worker made them, and refused to who may not."""

from support.ledger import ALONE, STUDENT, Ledger
from support.scored import score_all

from dpiqa.storage.explanations import finish_explanation, start_explanation

IMAGE = {"bucket": "photos", "key": "a.jpg", "profile": ALONE.id}
PATH = "/v1/explanations"


def test_an_explanation_is_asked_for_and_shown_once_it_is_made(client):
    ledger = Ledger(client.app.state.engine)
    score_all(ledger, {"a.jpg": 0.4}, ALONE, STUDENT)
    before = client.get(PATH, params=IMAGE)
    assert (before.status_code, "POST /v1/explanations" in before.json()["hint"]) == (404, True)
    asked = client.post(PATH, json=IMAGE)
    assert (asked.status_code, asked.json()["state"], asked.json()["effect"]) == (202, "pending", None)
    assert client.post(PATH, json=IMAGE).json()["created_at"] == asked.json()["created_at"]  # the same one
    row_id = ledger.one("SELECT id FROM explanations")
    held, _ = ledger.do(start_explanation, row_id, 60)
    cells = [n / 100 for n in range(64)]
    ledger.do(finish_explanation, held, scorer_id=STUDENT.scorer_id, score=0.4, effect=cells)
    shown = client.get(PATH, params=IMAGE).json()
    assert (shown["state"], shown["scorer_id"], shown["score"]) == ("ready", STUDENT.scorer_id, 0.4)
    assert (len(shown["effect"]), shown["effect"][1]) == (8, cells[8:16])


def test_what_is_not_known_is_refused(client):
    unknown = client.post(PATH, json=IMAGE)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    named = client.get(PATH, params=IMAGE | {"profile": "no-such-profile"})
    assert (named.status_code, named.json()["code"]) == (422, "invalid_request")
