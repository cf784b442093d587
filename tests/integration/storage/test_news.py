"""News of an object whose item ended unscored: what could not be had is tried again, bad bytes are not."""

import pytest
from support.ledger import ref

from dpiqa.storage.items import Failed, Rejected
from dpiqa.types import REASONS_OF, REOPENED_BY_NEWS, ItemState, Reason


def ended(ledger, watch, key, reason):
    """An item of the watch that ended for a reason."""
    ids = ledger.add(watch, [ref(key)])
    (claim,) = ledger.claim(ids)
    if reason in REASONS_OF[ItemState.REJECTED]:
        ledger.record([Rejected(claim, reason, "why")])
    else:
        ledger.record([Failed(claim, "why")], max_errors=1)
    return ids


@pytest.mark.parametrize("reason", [*sorted(REASONS_OF[ItemState.REJECTED]), Reason.REPEATED_ERRORS])
@pytest.mark.parametrize(
    "news", [ref("k"), ref("k", at=60), ref("k", sequencer="05"), ref("k", at=60, version_id="v2")]
)
def test_news_reopen_what_could_not_be_had_and_nothing_else(ledger, reason, news):
    watch = ledger.watch()
    ids = ended(ledger, watch, "k", reason)
    fence = ledger.item("k").attempt
    assert ledger.add(watch, [news]) == (ids if reason in REOPENED_BY_NEWS else [])
    item = ledger.item("k")
    if reason in REOPENED_BY_NEWS:
        assert (item.state, item.reason, item.detail, item.attempt) == ("queued", None, None, fence + 1)
        assert ledger.score(ids).n_recorded == 1
        assert ledger.states(watch) == {"scored": 1}
    else:
        assert (item.reason, item.attempt) == (reason, fence)


def test_a_copy_in_place_of_a_versioned_object_is_read_by_its_new_version(ledger):
    watch = ledger.watch()
    ids = ledger.add(watch, [ref("k", version_id="v1")])
    ledger.record([Rejected(claim, Reason.ARCHIVED) for claim in ledger.claim(ids)])
    assert ledger.add(watch, [ref("k", at=60, version_id="v2")]) == ids
    assert [claim.ref.version_id for claim in ledger.claim(ids)] == ["v2"]


def test_news_that_come_while_a_worker_is_refused_are_not_lost(ledger):
    watch = ledger.watch()
    ids = ledger.add(watch, [ref("k"), ref("same"), ref("bad")])
    claims = {claim.ref.key: claim for claim in ledger.claim(ids)}
    assert ledger.add(watch, [ref("k", at=60), ref("bad", at=60)]) == []  # both are held
    reasons = {"k": Reason.ACCESS_DENIED, "same": Reason.ACCESS_DENIED, "bad": Reason.CORRUPT}
    ledger.record([Rejected(claims[key], reason) for key, reason in reasons.items()])
    assert [ledger.item(key).state for key in ("k", "same", "bad")] == ["queued", "rejected", "rejected"]
    assert ledger.score([claims["k"].item_id]).n_recorded == 1


def test_a_key_without_an_etag_that_is_refused_ends(ledger):
    job, ids = ledger.submit([ref("k", "", at=None)])
    ledger.record([Rejected(claim, Reason.ACCESS_DENIED) for claim in ledger.claim(ids)])
    assert ledger.states(job) == {"rejected": 1}


def test_an_object_at_which_the_store_fails_ends_rejected_and_is_tried_again(ledger):
    watch = ledger.watch()
    ids = ledger.add(watch, [ref("k")])
    for n in range(1, 4):
        (claim,) = ledger.claim(ids)
        ledger.record([Failed(claim, "500 InternalError", reason=Reason.UNAVAILABLE)], max_errors=3)
        item = ledger.item("k")
        assert (item.state, item.reason) == (("queued", None) if n < 3 else ("rejected", "unavailable"))
    assert item.detail == "500 InternalError"
    assert ledger.add(watch, [ref("k")]) == ids
    assert ledger.item("k").errors == 0
