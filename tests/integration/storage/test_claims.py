import pytest
from sqlalchemy import text
from support.ledger import STUDENT, ref, refs

from dpiqa.storage.claims import CLAIM_ITEMS, RENEW_LEASES, claim, renew
from dpiqa.storage.engine import transaction
from dpiqa.storage.feed import ring_again
from dpiqa.storage.images import add_images
from dpiqa.storage.items import Changed, Failed, Gone, Postponed, Rejected, Released, Scored
from dpiqa.storage.results import LOCK_HELD_ITEMS
from dpiqa.types import Stage


def test_a_claim_says_all_a_worker_needs(ledger):
    job, (item,) = ledger.submit([ref("a", "e1", at=3, version_id="v", sequencer="0A")])
    (item_claim,) = ledger.claim([item])
    assert item_claim.ref == ref("a", "e1", at=3, version_id="v", sequencer="0A")
    assert (item_claim.item_id, item_claim.job_id, item_claim.profile_id, item_claim.stage) == (
        item,
        job.id,
        "alone@1",
        Stage.STUDENT,
    )
    assert (item_claim.fence, item_claim.crashes, item_claim.known_score, item_claim.student_score) == (
        1,
        0,
        None,
        None,
    )


def test_an_item_has_one_holder_at_a_time(ledger):
    _, ids = ledger.submit(refs(4))
    assert len(ledger.claim(ids[:3], owner="w1")) == 3
    assert [claim.item_id for claim in ledger.claim(ids, owner="w2")] == ids[3:]


def test_a_claim_keeps_to_its_stage_and_needs_no_scorer_of_the_profile(ledger):
    _, ids = ledger.submit(refs(2))
    assert ledger.claim(ids, stage=Stage.TEACHER) == []
    options = {"stage": Stage.STUDENT, "owner": "w", "lease_seconds": 60}
    for scorer_ids in ({"other@1": "x"}, {}):
        (item,) = ledger.submit(refs(1, prefix=f"of-{len(scorer_ids)}-"))[1]
        claims = ledger.do(claim, [item], **options, scorer_ids=scorer_ids)
        assert [(claim.item_id, claim.profile_id, claim.known_score) for claim in claims] == [(item, "alone@1", None)]
    assert len(ledger.do(claim, ids, **options, scorer_ids={"alone@1": STUDENT.scorer_id})) == 2


def test_a_mapping_names_the_known_score_of_each_profile(ledger):
    ledger.score(ledger.submit(refs(1))[1], value=0.7)
    _, ids = ledger.submit(refs(1), profile=ledger.profile.model_copy(update={"version": 2}))
    claims = ledger.do(
        claim, ids, stage=Stage.STUDENT, owner="w", lease_seconds=60, scorer_ids={"alone@2": STUDENT.scorer_id}
    )
    assert [claim.known_score for claim in claims] == [0.7]


def test_a_renewed_lease_outlives_its_first_end(ledger):
    _, ids = ledger.submit(refs(2))
    kept, dropped = ledger.claim(ids, lease_seconds=0.05)
    assert ledger.do(renew, [(kept.item_id, kept.fence)], 60) == {kept.item_id}
    ledger.sql("SELECT pg_sleep(0.1)")
    again = ledger.claim([dropped.item_id], owner="w2") + ledger.claim([kept.item_id], owner="w2")
    assert [claim.item_id for claim in again] == [dropped.item_id]


def test_a_stale_fence_changes_nothing(ledger):
    job, (item,) = ledger.submit(refs(1))
    (old,) = ledger.claim([item], owner="paused")
    ledger.expire([item])
    (new,) = ledger.claim([item], owner="w2")
    assert new.fence == old.fence + 1
    assert ledger.do(renew, [(item, old.fence)], 60) == set()
    every = [
        Scored(old, 0.1, old.ref.etag),
        Rejected(old, "corrupt"),
        Gone(old),
        Changed(old, ref("k00000", "e9", at=99)),
        Postponed(old, 5),
        Failed(old, "x"),
        Released(old),
    ]
    for outcome in every:
        assert ledger.record([outcome]).n_stale == 1
    assert ledger.states(job) == {"leased": 1}
    assert ledger.record([Scored(new, 0.8, new.ref.etag)]).n_recorded == 1
    assert ledger.record([Scored(new, 0.8, new.ref.etag)]).n_stale == 1  # the answer to COMMIT was lost
    assert ledger.one("SELECT score FROM scores") == 0.8
    assert ledger.one("SELECT count(*) FROM images") == 1


def test_three_crashes_end_an_item_as_dead(ledger):
    job, ids = ledger.submit(refs(3))
    for crash in range(3):
        assert len(ledger.claim([ids[0]], owner=f"w{crash}")) == 1
        ledger.expire(ids)
    assert ledger.claim([ids[0]]) == []
    assert ledger.states(job) == {"queued": 2, "dead": 1}
    row = ledger.item("k00000")
    assert (row.reason, row.crashes, row.detail) == ("worker_crashes", 3, "the lease of w2 ran out")
    ledger.score(ids[1:])
    assert ledger.report(job).job.state == "complete"


def test_after_a_crash_an_item_is_claimed_on_its_own(ledger):
    _, ids = ledger.submit(refs(3))
    ledger.claim(ids)
    ledger.expire(ids)
    assert ledger.claim(ids, owner="w2") == []  # counted, and left for the feeder to ring one by one
    assert sorted(ledger.feed()) == sorted(("bulk", [item]) for item in ids)
    assert [len(ledger.claim([item], owner="w2")) for item in ids] == [1, 1, 1]


def test_a_worker_holds_one_item_on_its_last_chance_and_no_other_suspect(ledger):
    _, ids = ledger.submit(refs(3))
    ledger.sql("UPDATE items SET crashes = 2 WHERE id <> :first", first=ids[0])
    assert len(ledger.claim([ids[1]], owner="w1")) == 1
    assert ledger.claim([ids[2]], owner="w1") == []
    assert len(ledger.claim([ids[0]], owner="w1")) == 1  # healthy items go on
    assert len(ledger.claim([ids[2]], owner="w2")) == 1


def test_what_was_refused_as_a_suspect_is_rung_again_at_once(ledger):
    _, ids = ledger.submit(refs(2))
    ledger.sql("UPDATE items SET crashes = 2")
    assert len(ledger.feed()) == 2
    ledger.claim([ids[0]])
    assert ledger.claim([ids[1]]) == []
    assert ledger.feed() == [("bulk", [ids[1]])]


def test_what_a_claim_skipped_is_rung_again_once_it_is_free(ledger):
    _, ids = ledger.submit(refs(4))
    assert ledger.feed() == [("bulk", ids)]
    with transaction(ledger.engine) as c:
        c.execute(text("SELECT 1 FROM items WHERE id = :id FOR NO KEY UPDATE"), {"id": ids[1]})
        assert [claim.item_id for claim in ledger.claim([*ids[:2], ids[3]])] == [ids[0], ids[3]]
        assert ledger.do(ring_again, {ids[1]}, stage=Stage.STUDENT) == ([], {ids[1]})
    assert ledger.feed() == []
    assert ledger.do(ring_again, {ids[1]}, stage=Stage.STUDENT) == ([("bulk", [ids[1]])], set())
    assert [claim.item_id for claim in ledger.claim([ids[1]])] == [ids[1]]
    assert ledger.do(ring_again, {ids[1]}, stage=Stage.STUDENT) == ([], set())  # leased, and no longer skipped
    assert ledger.do(ring_again, {ids[2]}, stage=Stage.TEACHER) == ([], set())


def test_a_repeated_event_holds_no_waiting_item(ledger):
    watch = ledger.watch()
    ids = ledger.add(watch, refs(3))
    with transaction(ledger.engine) as c:
        assert add_images(c, watch, refs(4)) != []  # three repeats and a new one, not committed yet
        assert [claim.item_id for claim in ledger.claim(ids)] == ids


@pytest.mark.parametrize("delay", [0.0, 0.2])
def test_postponed_work_waits_its_time(ledger, delay):
    _, (item,) = ledger.submit(refs(1))
    (item_claim,) = ledger.claim([item])
    ledger.record([Postponed(item_claim, delay, "S3 is down")])
    assert len(ledger.claim([item])) == (delay == 0)
    ledger.sql("SELECT pg_sleep(0.25)")
    assert len(ledger.claim([item])) == (delay > 0)


@pytest.mark.parametrize("statement", [CLAIM_ITEMS, LOCK_HELD_ITEMS, RENEW_LEASES])
def test_items_are_found_by_id_whatever_statistics_say_of_the_queue(ledger, statement):
    ledger.sql("ANALYZE items")  # nothing is queued or leased, say these statistics
    _, ids = ledger.submit(refs(3000))
    claims = ledger.claim(ids[:1500])
    some = {"ids": [held.item_id for held in claims[:256]], "fences": [held.fence for held in claims[:256]]}
    values = {"stage": Stage.STUDENT, "owner": "w", "alone": False, "only_suspect": False, "last_chance": 2}
    values |= {"seconds": 60, "profiles": [], "scorers": [], **some}
    names = statement.compile().params.keys()
    explain = text(f"EXPLAIN {statement.text}").bindparams(*(statement._bindparams[name] for name in names))
    with transaction(ledger.engine) as c:
        plan = "\n".join(c.execute(explain, {name: values[name] for name in names}).scalars())
    assert "items_leased" not in plan
    assert "items_open_image" not in plan
