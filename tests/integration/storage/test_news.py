"""News of an object whose item ended unscored: what could not be had is tried again, bad bytes are not."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.ledger import STUDENT, ref

from dpiqa.events import Access
from dpiqa.routing import decide
from dpiqa.storage import results
from dpiqa.storage.access_news import find_readable
from dpiqa.storage.engine import transaction
from dpiqa.storage.images import add_images
from dpiqa.storage.items import Failed, Gone, Rejected
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


def access(key, etag="e1", *, is_restored=False):
    return Access(bucket="photos", key=key, etag=etag, is_restored=is_restored)


def tell(c, watch, *news):
    """Do what ingestion does with news of access; return the items that wait again."""
    return add_images(c, watch, find_readable(c, news))


REFUSALS = {
    "access_denied": lambda claim: Rejected(claim, Reason.ACCESS_DENIED),
    "archived": lambda claim: Rejected(claim, Reason.ARCHIVED),
    "the last failure": lambda claim: Failed(claim, "500", 60.0, Reason.UNAVAILABLE),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize("is_restored", [True, False])
@pytest.mark.parametrize("is_first", [True, False], ids=["news first", "refusal first"])
def test_news_of_access_in_the_moment_of_a_refusal_are_not_lost(ledger, refusal, is_restored, is_first):
    watch = ledger.watch()
    ids = ledger.add(watch, [ref("k"), ref("other")])
    claims = {claim.ref.key: claim for claim in ledger.claim(ids)}
    if is_first:
        assert ledger.do(tell, watch, access("k", is_restored=is_restored)) == []
    ledger.record([refusal(claims["k"]), Rejected(claims["other"], Reason.ACCESS_DENIED)], max_errors=1)
    if not is_first:
        assert ledger.do(tell, watch, access("k", is_restored=is_restored)) == [claims["k"].item_id]
    assert (ledger.item("k").state, ledger.item("k").reason) == ("queued", None)
    assert ledger.item("other").state == "rejected"
    assert [claim.ref.key for claim in ledger.claim(ids)] == ["k"]  # due now


def test_an_object_that_is_restored_while_it_is_not_found_is_read_again(ledger):
    watch = ledger.watch()
    ids = ledger.add(watch, [ref("k")])
    claims = ledger.claim(ids)
    assert ledger.do(tell, watch, access("k", is_restored=True)) == []
    ledger.record([Gone(claim) for claim in claims])
    assert (ledger.item("k").state, ledger.current("k")) == ("queued", "e1")
    ledger.record([Gone(claim) for claim in ledger.claim(ids)])
    assert (ledger.item("k").state, ledger.current("k")) == ("deleted", None)
    (by_key,) = ledger.do(tell, watch, access("k", is_restored=True))
    assert by_key not in ids  # whatever its bytes are now


def test_news_of_access_reopen_nothing_else_that_is_held(ledger):
    """A worker that was told before it began, bad bytes, an old version, another object."""
    watch = ledger.watch()
    ids = ledger.add(watch, [ref("told"), ref("corrupt"), ref("old"), ref("other")])
    claims = {claim.ref.key: claim for claim in ledger.claim(ids)}
    ledger.record([Rejected(claims["told"], Reason.ACCESS_DENIED)])
    ledger.do(tell, watch, access("told"), access("corrupt"), access("old", "e0"), access("unknown"))
    (again,) = ledger.claim([claims["told"].item_id])
    reasons = {key: Reason.CORRUPT if key == "corrupt" else Reason.ACCESS_DENIED for key in claims}
    ledger.record([Rejected(claims[key], reasons[key]) for key in ("corrupt", "old", "other")])
    ledger.record([Rejected(again, Reason.ACCESS_DENIED)])
    assert ledger.states(watch) == {"rejected": 4}


def test_news_of_access_reach_the_items_of_every_job_that_are_held(ledger):
    job, ids = ledger.submit([ref("k"), ref("by key only", "", at=None)])
    claims = ledger.claim(ids)
    watch = ledger.watch()
    ledger.do(find_readable, [access("k"), access("by key only", is_restored=True)])
    ledger.record([Rejected(claim, Reason.ARCHIVED) for claim in claims])
    assert ledger.states(job) == {"queued": 2}
    assert ledger.states(watch) == {}


@pytest.mark.parametrize("is_first", [True, False], ids=["news first", "refusal first"])
def test_news_and_refusal_whose_transactions_overlap(ledger, engine, is_first):
    """The first one holds its locks until the second one waits for them."""
    watch = ledger.watch()
    ids = ledger.add(watch, [ref("k")])
    (claim,) = ledger.claim(ids)

    def record(c):
        refusals = [Rejected(claim, Reason.ACCESS_DENIED)]
        return results.record(c, claim.stage, ledger.profile, STUDENT, refusals, decide=decide)

    first, second = (tell, record) if is_first else (record, tell)
    arguments = {tell: (watch, access("k")), record: ()}
    with ThreadPoolExecutor(1) as pool:
        with transaction(engine) as c:
            first(c, *arguments[first])
            later = pool.submit(ledger.do, second, *arguments[second])
            blocked = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            while not ledger.one(blocked):
                assert not later.done()
        later.result(10)
    assert ledger.item("k").state == "queued"


def test_news_and_refusals_at_random_moments(ledger):
    watch, rounds, n = ledger.watch(), 12, 16
    refs = [ref(f"k{i}") for i in range(n)]
    ids = ledger.add(watch, refs)
    with ThreadPoolExecutor(6) as pool:
        for _ in range(rounds):
            claims = ledger.claim(ids)
            assert len(claims) == n  # none is lost, and none waits
            start = threading.Barrier(6)

            def refuse(claims=claims, part=0, start=start):
                start.wait()
                ledger.record([Rejected(claim, Reason.ACCESS_DENIED) for claim in claims[part::3]])

            def news(part=0, start=start):
                start.wait()
                of_part = random.sample(refs[part::3], len(refs[part::3]))
                ledger.do(tell, watch, *[access(one.key) for one in of_part])

            calls = [pool.submit(function, part=part) for function in (refuse, news) for part in range(3)]
            for call in calls:
                call.result(30)
    assert ledger.states(watch) == {"queued": n}
