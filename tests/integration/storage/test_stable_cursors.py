"""Cursors while results arrive and change: a result that stays the same comes exactly once, by every way of reading."""

import random

import pytest
from sqlalchemy import text
from support.ledger import ALONE, ref

from dpiqa.storage import score_walks, scores
from dpiqa.storage.score_filter import ScoreFilter
from dpiqa.storage.scores import list_scores
from dpiqa.types import ScoreOrder

WAYS = {
    "all": {},
    "bucket": {"bucket": "photos"},
    "prefix by bins": {"bucket": "photos", "prefix": "a/"},
    "suffix, checked on each row": {"bucket": "photos", "suffix": ".jpg"},
    "prefix and suffix": {"bucket": "photos", "prefix": "a/", "suffix": "1.jpg"},
    "scorer, by bins that hold its scores": {"bucket": "photos", "model": "student"},
    "prefix and scorer": {"bucket": "photos", "prefix": "a/", "model": "student"},
}
FEW_ROWS = {"all rows are few": 5_000, "none are": 3}


@pytest.mark.parametrize("order", ScoreOrder)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("few", FEW_ROWS)
def test_what_does_not_change_comes_exactly_once(ledger, monkeypatch, order, way, few):
    monkeypatch.setattr(scores, "MAX_READ", 11)
    monkeypatch.setattr(score_walks, "FEW", FEW_ROWS[few])
    monkeypatch.setattr(score_walks, "FEW_OF_PREFIX", FEW_ROWS[few])
    numbers = random.Random(f"{order} {way}")
    keys = [f"{'ab'[i % 2]}/{i % 3}.jpg".replace("/", f"/{i}-") for i in range(120)]
    _, ids = ledger.submit([ref(key, key) for key in keys])
    ledger.score(ids, value=lambda _: round(numbers.random(), 2))
    conditions = ScoreFilter(profile=ALONE.id, **WAYS[way])
    expected = {row.image_id for row in everything(ledger, conditions, order)}
    assert expected
    touched, seen, cursor = set(), [], None
    while True:
        page = ledger.do(list_scores, conditions, order=order, limit=7, cursor=cursor)
        seen += [row.image_id for row in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
        assert len(page.items) == 7 or page.partial
        moved = numbers.sample(sorted(expected), 2)
        touched.update(moved)
        with ledger.engine.begin() as c:
            c.execute(
                text("UPDATE results SET score = :score, updated_at = clock_timestamp() WHERE image_id = ANY(:ids)"),
                {"score": round(numbers.random(), 2), "ids": moved},
            )
        if len(seen) < 60:  # what arrives behind the cursor is found, too: it must end sometime
            new = [ref(f"a/new{len(seen)}-{i}1.jpg", f"n{len(seen)}-{i}") for i in range(3)]
            ledger.score(ledger.submit(new)[1], value=round(numbers.random(), 2))
    same = [image_id for image_id in seen if image_id in expected - touched]
    assert len(same) == len(set(same))
    assert set(same) == expected - touched


def everything(ledger, conditions, order):
    rows, cursor = [], None
    while True:
        page = ledger.do(list_scores, conditions, order=order, limit=1000, cursor=cursor)
        rows, cursor = rows + page.items, page.next_cursor
        if cursor is None:
            return rows
