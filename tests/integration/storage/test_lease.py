import pytest
from support.ledger import STUDENT, ref, refs

from dpiqa.storage.claims import claim, renew
from dpiqa.storage.outcomes import Changed, Failed, Gone, Postponed, Rejected, Release, Scored
from dpiqa.types import Stage


def test_a_claim_says_all_a_worker_needs(book):
    job, (item,) = book.submit([ref("a", "e1", at=3, version_id="v", sequencer="0A")])
    (item_claim,) = book.claim([item])
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


def test_nobody_claims_what_somebody_holds(book):
    _, ids = book.submit(refs(4))
    assert len(book.claim(ids[:3], owner="w1")) == 3
    assert [claim.item_id for claim in book.claim(ids, owner="w2")] == ids[3:]


def test_a_claim_keeps_to_its_stage_and_its_profiles(book):
    _, ids = book.submit(refs(2))
    assert book.claim(ids, stage=Stage.TEACHER) == []
    asked = {"stage": Stage.STUDENT, "owner": "w", "lease_seconds": 60}
    assert book.do(claim, ids, **asked, scorer_id={"other@1": "x"}) == []
    assert book.do(claim, ids, **asked, scorer_id={}) == []
    assert len(book.do(claim, ids, **asked, scorer_id={"alone@1": STUDENT.scorer_id})) == 2


def test_a_mapping_names_the_known_score_of_each_profile(book):
    book.score(book.submit(refs(1))[1], value=0.7)
    _, ids = book.submit(refs(1), profile=book.profile.model_copy(update={"version": 2}))
    claims = book.do(
        claim, ids, stage=Stage.STUDENT, owner="w", lease_seconds=60, scorer_id={"alone@2": STUDENT.scorer_id}
    )
    assert [claim.known_score for claim in claims] == [0.7]


def test_a_renewed_lease_outlives_its_first_end(book):
    _, ids = book.submit(refs(2))
    kept, dropped = book.claim(ids, lease_seconds=0.05)
    assert book.do(renew, [(kept.item_id, kept.fence)], 60) == {kept.item_id}
    book.sql("SELECT pg_sleep(0.1)")
    again = book.claim([dropped.item_id], owner="w2") + book.claim([kept.item_id], owner="w2")
    assert [claim.item_id for claim in again] == [dropped.item_id]


def test_a_stale_fence_changes_nothing(book):
    job, (item,) = book.submit(refs(1))
    (old,) = book.claim([item], owner="paused")
    book.expire([item])
    (new,) = book.claim([item], owner="w2")
    assert new.fence == old.fence + 1
    assert book.do(renew, [(item, old.fence)], 60) == set()
    every = [
        Scored(old, 0.1, old.ref.etag),
        Rejected(old, "corrupt"),
        Gone(old),
        Changed(old, ref("k00000", "e9", at=99)),
        Postponed(old, 5),
        Failed(old, "x"),
        Release(old),
    ]
    for outcome in every:
        assert book.record([outcome]).n_stale == 1
    assert book.states(job) == {"leased": 1}
    assert book.record([Scored(new, 0.8, new.ref.etag)]).n_recorded == 1
    assert book.record([Scored(new, 0.8, new.ref.etag)]).n_stale == 1  # the answer to COMMIT was lost
    assert book.one("SELECT score FROM scores") == 0.8
    assert book.one("SELECT count(*) FROM images") == 1


def test_three_crashes_end_an_item_as_dead(book):
    job, ids = book.submit(refs(3))
    for crash in range(3):
        assert len(book.claim([ids[0]], owner=f"w{crash}")) == 1
        book.expire(ids)
    assert book.claim([ids[0]]) == []
    assert book.states(job) == {"queued": 2, "dead": 1}
    row = book.item("k00000")
    assert (row.reason, row.crashes, row.detail) == ("worker_crashes", 3, "the lease of w2 ran out")
    book.score(ids[1:])
    assert book.report(job).job.state == "complete"


def test_after_a_crash_an_item_is_claimed_on_its_own(book):
    _, ids = book.submit(refs(3))
    book.claim(ids)
    book.expire(ids)
    assert book.claim(ids, owner="w2") == []  # counted, and left for the feeder to ring one by one
    assert sorted(book.feed()) == sorted(("bulk", [item]) for item in ids)
    assert [len(book.claim([item], owner="w2")) for item in ids] == [1, 1, 1]


def test_a_worker_holds_one_item_on_its_last_chance_and_no_other_suspect(book):
    _, ids = book.submit(refs(3))
    book.sql("UPDATE items SET crashes = 2 WHERE id <> :first", first=ids[0])
    assert len(book.claim([ids[1]], owner="w1")) == 1
    assert book.claim([ids[2]], owner="w1") == []
    assert len(book.claim([ids[0]], owner="w1")) == 1  # healthy items go on
    assert len(book.claim([ids[2]], owner="w2")) == 1


def test_what_was_refused_as_a_suspect_is_rung_again_at_once(book):
    _, ids = book.submit(refs(2))
    book.sql("UPDATE items SET crashes = 2")
    assert len(book.feed()) == 2
    book.claim([ids[0]])
    assert book.claim([ids[1]]) == []
    assert book.feed() == [("bulk", [ids[1]])]


@pytest.mark.parametrize("delay", [0.0, 0.2])
def test_postponed_work_waits_its_time(book, delay):
    _, (item,) = book.submit(refs(1))
    (item_claim,) = book.claim([item])
    book.record([Postponed(item_claim, delay, "S3 is down")])
    assert len(book.claim([item])) == (delay == 0)
    book.sql("SELECT pg_sleep(0.25)")
    assert len(book.claim([item])) == (delay > 0)
