"""Score queries: bands and shares become bounds, pages keep them, and the profile is found alike for all callers."""

from dataclasses import replace

import pytest
from support.ledger import ALONE, STUDENT, refs

from dpiqa.errors import InvalidRequest, NotFound
from dpiqa.percentiles import Share
from dpiqa.profiles import Profile
from dpiqa.settings import load_settings
from dpiqa.storage.items import Scored
from dpiqa.storage.recorded_scores import store_scores
from dpiqa.storage.score_filter import ScoreFilter
from dpiqa.storage.score_query import ScoreQuery, find_profile
from dpiqa.types import Band, ScoreOrder

ALL = ScoreQuery(conditions=ScoreFilter(profile=ALONE.id))
WORST = replace(ALL, share=Share(10, worst=True))


@pytest.fixture
def scored(ledger):
    """Twenty images of scores 0.00 to 0.95."""
    _, ids = ledger.submit(refs(20))
    ledger.score(ids, value=lambda claim: int(claim.ref.key[1:]) / 20)
    return ledger


def resolve(ledger, query):
    resolved = ledger.do(query.resolve)
    return resolved.conditions.min, resolved.conditions.max, resolved.order


def test_a_share_becomes_a_bound_and_its_end_comes_first(scored):
    assert resolve(scored, ALL) == (None, None, ScoreOrder.LOWEST_FIRST)
    assert resolve(scored, WORST) == (None, 0.05, ScoreOrder.LOWEST_FIRST)
    best = replace(ALL, share=Share(10, worst=False))
    assert resolve(scored, best) == (0.9, None, ScoreOrder.HIGHEST_FIRST)
    newest = replace(best, order=ScoreOrder.NEWEST_FIRST)
    assert resolve(scored, newest) == (0.9, None, ScoreOrder.NEWEST_FIRST)


def test_scores_of_a_plug_in_may_be_better_the_lower(scored):
    # What was asked before anything was scored is not remembered.
    odd = replace(ALL, conditions=ScoreFilter(profile="odd@1"))
    scored.job(profile=Profile(name="odd", version=1, student="odd.metric"))
    assert resolve(scored, odd)[2] is ScoreOrder.LOWEST_FIRST
    card = STUDENT.model_copy(update={"name": "odd.metric", "lower_is_better": True})
    images = refs(1, start=50)
    _, ids = scored.submit(images, profile=Profile(name="odd", version=1, student="odd.metric"))
    held = scored.claim(ids)
    scored.do(store_scores, card, [Scored(held[0], 0.5, images[0].etag)])
    assert resolve(scored, odd)[2] is ScoreOrder.HIGHEST_FIRST
    assert resolve(scored, ALL)[2] is ScoreOrder.LOWEST_FIRST


def test_a_share_is_of_what_the_conditions_leave(scored):
    query = replace(WORST, conditions=replace(WORST.conditions, min=0.5))
    assert resolve(scored, query) == (0.5, 0.5, ScoreOrder.LOWEST_FIRST)
    nothing = replace(WORST, conditions=replace(WORST.conditions, bucket="none"))
    assert scored.do(nothing.resolve).threshold is None
    page = scored.do(nothing.page, limit=10)
    assert (page.items, page.next_cursor, page.threshold) == ([], None, None)


def test_pages_keep_the_threshold_of_the_first(scored):
    query = replace(WORST, share=Share(50, worst=True))
    first = scored.do(query.page, limit=6)
    _, ids = scored.submit(refs(20, start=100))
    scored.score(ids, value=0.99)
    second = scored.do(query.page, limit=6, cursor=first.next_cursor)
    assert (first.threshold, second.threshold, second.next_cursor) == (0.45, 0.45, None)
    assert [row.score for row in first.items + second.items] == [n / 20 for n in range(10)]


def test_a_cursor_serves_only_its_own_query(scored):
    for query, other in ((ALL, WORST), (WORST, ALL), (ALL, replace(ALL, order=ScoreOrder.HIGHEST_FIRST))):
        cursor = scored.do(query.page, limit=1).next_cursor
        with pytest.raises(InvalidRequest, match="a different query"):
            scored.do(other.page, limit=1, cursor=cursor)
    resolved = scored.do(ALL.resolve)
    inner = scored.do(resolved.page, limit=1).next_cursor
    with pytest.raises(InvalidRequest, match="cursor"):
        scored.do(ALL.page, limit=1, cursor=inner)


def test_bands_need_a_reference(scored):
    with pytest.raises(InvalidRequest, match="have no bands"):
        scored.do(replace(ALL, bands=(Band.BAD,)).resolve)


def test_a_query_needs_a_profile(scored):
    with pytest.raises(ValueError, match="profile"):
        scored.do(ScoreQuery(conditions=ScoreFilter()).resolve)
    query = ScoreQuery(conditions=ScoreFilter(bucket="photos"), share=Share(10, worst=True)).under(ALONE.id)
    assert scored.do(query.resolve).threshold == 0.05


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"min": 0.5, "max": 0.4}, "--min is above --max"),
        ({"min": float("nan")}, "--min and --max must be finite numbers"),
        ({"max": float("inf")}, "--min and --max must be finite numbers"),
    ],
)
def test_bounds_that_leave_nothing_are_refused(bounds, message):
    with pytest.raises(InvalidRequest, match=message):
        ScoreFilter(**bounds).check("--{}")
    ScoreFilter(min=0.5, max=0.5).check()


def test_the_profile_of_a_query(scored):
    settings = load_settings(profile="smoke")

    def find(name=None, **choice):
        return scored.do(find_profile, settings, name, **choice)

    job = scored.job()
    assert find() == "smoke@1"
    assert find("student-only").startswith("student-only@")
    assert find("gone@7", requirement="any", job=job.id) == "gone@7"
    assert find(job=job.id) == ALONE.id
    with pytest.raises(NotFound, match="no requirement 'none'"):
        find(requirement="none", job=job.id)
    with pytest.raises(NotFound):
        find("nonesuch")
