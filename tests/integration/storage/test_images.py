"""Events of objects: late, twice, out of order and at the same time."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from support.ledger import T0, ref, refs

from dpiqa.storage.claims import renew
from dpiqa.storage.images import add_images, remove_objects
from dpiqa.storage.items import Scored
from dpiqa.storage.listings import start_listing
from dpiqa.types import JobState, Removal, Stage


def gone(key, *, at=0.0, sequencer=None, version_id=None):
    return Removal(
        bucket="photos",
        key=key,
        occurred_at=T0 + timedelta(seconds=at),
        sequencer=sequencer,
        version_id=version_id,
    )


def test_naming_an_image_again_adds_nothing(ledger):
    watch = ledger.watch()
    first = ledger.add(watch, refs(5))
    assert len(first) == 5
    (sixth,) = ledger.add(watch, refs(6))
    assert sixth not in first
    assert ledger.states(watch) == {"queued": 6}
    assert ledger.one("SELECT count(*) FROM images") == 6


def test_a_newer_version_ends_the_waiting_items_of_the_older_in_every_job(ledger):
    watch, (job, _) = ledger.watch(), ledger.submit([ref("a", "e1", at=0)])
    ledger.add(watch, [ref("a", "e1", at=0)])
    ledger.add(watch, [ref("a", "e2", at=5)])
    assert ledger.current("a") == "e2"
    assert ledger.states(watch) == {"queued": 1, "superseded": 1}
    assert ledger.states(job) == {"superseded": 1}
    assert ledger.item("a", job=watch, etag="e1").reason == "newer_version"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (ref("a", "e1", at=0), ref("a", "e2", at=5)),
        (ref("a", "e1", at=9, sequencer="00A"), ref("a", "e2", at=0, sequencer="00B")),  # sequencers before clocks
        (ref("a", "e1", at=9, sequencer="0055AED6DCD90281E5"), ref("a", "e2", at=0, sequencer="0055AED6DCD90281E51")),
    ],
)
def test_older_events_never_replace_newer(ledger, old, new):
    watch = ledger.watch()
    (item,) = ledger.add(watch, [new])
    assert ledger.add(watch, [old]) == []
    assert ledger.current("a") == "e2"
    assert ledger.states(watch) == {"queued": 1, "superseded": 1}
    ledger.score([item])
    assert ledger.add(watch, [old, new, old]) == []
    assert ledger.current("a") == "e2"
    assert [row.etag for row in ledger.sql("SELECT etag FROM results WHERE current")] == ["e2"]


def test_older_news_in_one_batch_do_not_win_either(ledger):
    watch = ledger.watch()
    assert len(ledger.add(watch, [ref("a", "e3", at=3), ref("a", "e1", at=1), ref("a", "e2", at=2)])) == 1
    assert ledger.current("a") == "e3"
    assert ledger.states(watch) == {"queued": 1, "superseded": 2}


def test_a_repeat_of_older_news_does_not_turn_the_clock_back(ledger):
    watch = ledger.watch()
    for sequencer in ("01", "03", "01"):
        ledger.add(watch, [ref("a", "e1", sequencer=sequencer)])
    ledger.add(watch, [ref("a", "e2", sequencer="02")])
    assert ledger.current("a") == "e1"


def test_scores_of_an_older_version_stay_and_stop_counting(ledger):
    watch = ledger.watch()
    ledger.score(ledger.add(watch, [ref("a", "e1", at=0)]), value=0.3)
    ledger.score(ledger.add(watch, [ref("a", "e2", at=5)]), value=0.7)
    results = ledger.sql("SELECT etag, current, score FROM results ORDER BY etag")
    assert [tuple(row) for row in results] == [("e1", False, 0.3), ("e2", True, 0.7)]


def test_overwritten_back_and_forth_the_first_bytes_count_again(ledger):
    watch = ledger.watch()
    ledger.score(ledger.add(watch, [ref("a", "e1", at=0)]))
    ledger.add(watch, [ref("a", "e2", at=5)])
    assert ledger.add(watch, [ref("a", "e1", at=9)]) == []  # scored already
    assert ledger.current("a") == "e1"
    assert ledger.states(watch) == {"scored": 1, "superseded": 1}
    assert [row.etag for row in ledger.sql("SELECT etag FROM results WHERE current")] == ["e1"]
    (again,) = ledger.add(watch, [ref("a", "e2", at=12)])
    assert ledger.item("a", etag="e2").id == again  # the same item, opened again
    ledger.score([again])
    assert ledger.states(watch) == {"scored": 2}


def test_deleted_before_it_was_scored(ledger):
    watch = ledger.watch()
    ids = ledger.add(watch, [ref("a", at=0), ref("b", at=0)])
    assert ledger.do(remove_objects, [gone("a", at=5), gone("never-seen", at=5)]) == 1
    assert ledger.do(remove_objects, [gone("a", at=5)]) == 0
    assert ledger.states(watch) == {"queued": 1, "deleted": 1}
    assert ledger.current("a") is None
    assert [claim.ref.key for claim in ledger.claim(ids)] == ["b"]


def test_deleted_while_a_worker_holds_it_is_not_scored(ledger):
    watch = ledger.watch()
    claims = ledger.claim(ledger.add(watch, [ref("a", at=0)]))
    ledger.do(remove_objects, [gone("a", at=5)])
    assert ledger.do(renew, [(c.item_id, c.fence) for c in claims], 60) == set()
    recorded = ledger.record([Scored(c, 0.5, c.ref.etag) for c in claims])
    assert (recorded.n_recorded, recorded.n_stale) == (0, 1)
    assert ledger.states(watch) == {"deleted": 1}
    assert ledger.one("SELECT count(*) FROM scores") == 0


def test_deleted_after_it_was_scored_stops_counting(ledger):
    watch = ledger.watch()
    ledger.score(ledger.add(watch, [ref("a", at=0)]))
    ledger.do(remove_objects, [gone("a", at=5)])
    assert ledger.one("SELECT current FROM results") is False
    assert ledger.states(watch) == {"scored": 1}


@pytest.mark.parametrize("scored_first", [True, False])
def test_deleted_and_uploaded_again_with_the_same_bytes_is_current_again(ledger, scored_first):
    watch = ledger.watch()
    ids = ledger.add(watch, [ref("a", "e1", at=0)])
    if scored_first:
        ledger.score(ids)
    ledger.do(remove_objects, [gone("a", at=5)])
    again = ledger.add(watch, [ref("a", "e1", at=9)])
    assert again == ([] if scored_first else ids)
    assert ledger.current("a") == "e1"
    ledger.score(again)
    assert ledger.states(watch) == {"scored": 1}
    assert ledger.one("SELECT current FROM results") is True
    assert ledger.one("SELECT count(*) FROM scores") == 1


def test_an_old_lease_cannot_record_an_item_that_was_opened_again(ledger):
    watch = ledger.watch()
    old = ledger.claim(ledger.add(watch, [ref("a", "e1", at=0)]))
    ledger.do(remove_objects, [gone("a", at=5)])
    ledger.add(watch, [ref("a", "e1", at=9)])
    assert len(ledger.claim([old[0].item_id], owner="w2")) == 1
    assert ledger.record([Scored(c, 0.5, c.ref.etag) for c in old]).n_stale == 1
    assert ledger.states(watch) == {"leased": 1}


def test_late_news_of_a_deleted_object_do_not_revive_it(ledger):
    watch = ledger.watch()
    ledger.add(watch, [ref("a", "e1", sequencer="05")])
    ledger.do(remove_objects, [gone("a", sequencer="07")])
    assert ledger.add(watch, [ref("a", "e1", sequencer="05"), ref("a", "e0", sequencer="03")]) == []
    assert ledger.states(watch) == {"deleted": 2}
    job, ids = ledger.submit([ref("a", "e1", sequencer="05")])  # a listing from before the removal
    assert ids == []
    assert ledger.states(job) == {"deleted": 1}
    assert ledger.report(job).job.state is JobState.COMPLETE


def test_an_older_removal_does_not_remove_what_was_written_since(ledger):
    watch = ledger.watch()
    (item,) = ledger.add(watch, [ref("a", "e2", at=9, sequencer="09")])
    assert ledger.do(remove_objects, [gone("a", at=5, sequencer="05")]) == 0
    assert ledger.current("a") == "e2"
    assert ledger.item("a").id == item
    assert ledger.states(watch) == {"queued": 1}


def test_removing_one_version_leaves_the_others(ledger):
    watch = ledger.watch()
    ledger.score(ledger.add(watch, [ref("a", "e1", at=0, version_id="v1")]))
    ledger.add(watch, [ref("a", "e2", at=5, version_id="v2")])
    assert ledger.do(remove_objects, [gone("a", at=9, version_id="v1")]) == 1
    assert ledger.current("a") == "e2"
    assert ledger.states(watch) == {"scored": 1, "queued": 1}
    assert ledger.do(remove_objects, [gone("a", at=9, version_id="v2")]) == 1
    assert ledger.current("a") is None


def test_a_second_submit_scores_nothing_twice(ledger_with_teacher):
    ledger = ledger_with_teacher
    first, ids = ledger.submit(refs(8))
    ledger.score(ids[:4], value=lambda c: 0.9 if c.item_id % 2 else 0.5)  # two final, two wait for the teacher
    second, again = ledger.submit(refs(8))
    assert len(again) == 6
    stages = ledger.sql("SELECT stage, state, count(*) FROM items WHERE job_id = :id GROUP BY 1, 2", id=second.id)
    assert {tuple(row) for row in stages} == {
        ("student", "scored", 2),
        ("teacher", "queued", 2),
        ("student", "queued", 4),
    }
    ledger.score(ids[4:])
    claims = ledger.claim(again)
    assert [claim.known_score for claim in claims] == [0.9] * 4  # of the student: nothing to compute
    ledger.record([Scored(c, c.known_score, c.ref.etag) for c in claims])
    teacher = [row.id for row in ledger.sql("SELECT id FROM items WHERE state = 'queued' ORDER BY id")]
    for stage_ids in (teacher[:2], teacher[2:]):
        ledger.score(stage_ids, stage=Stage.TEACHER, value=lambda c: 0.6 if c.known_score is None else c.known_score)
    for job in (first, second):
        assert ledger.states(job) == {"scored": 8}
        assert ledger.report(job).job.state is JobState.COMPLETE
    assert ledger.one("SELECT count(*) FROM scores") == 10
    third, ids = ledger.submit(refs(8))
    assert ids == []
    assert ledger.report(third).job.state is JobState.COMPLETE


def test_two_jobs_add_the_same_images_at_the_same_time(ledger):
    jobs = [ledger.do(start_listing, ledger.job().id, 60) for _ in range(8)]
    images = refs(200)
    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(lambda pair: ledger.add(pair[1], images[:: 1 if pair[0] % 2 else -1]), enumerate(jobs)))
    assert [len(ids) for ids in added] == [200] * 8
    assert ledger.one("SELECT count(*) FROM images") == 200
    for job in jobs:
        assert ledger.states(job) == {"queued": 200}


def test_racing_versions_of_one_key_end_with_the_newest(ledger):
    watch = ledger.watch()
    versions = [ref(f"k{key}", f"e{n}", at=n) for key in range(5) for n in range(20)]
    shuffled = [versions[(i * 37) % len(versions)] for i in range(len(versions))]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: ledger.add(watch, [one]), shuffled))
    assert [ledger.current(f"k{key}") for key in range(5)] == ["e19"] * 5
    assert ledger.states(watch) == {"queued": 5, "superseded": 95}


def test_images_without_an_etag_wait_for_the_reader_to_say_which(ledger):
    watch = ledger.watch()
    ledger.score(ledger.add(watch, [ref("a", "e1", at=0)]))
    (item,) = ledger.add(watch, [ref("a", "", at=5)])
    assert ledger.current("a") == "e1"
    (claim,) = ledger.claim([item])
    ledger.record([Scored(claim, 0.5, "e2")])  # these bytes are another image: it enters the job
    assert ledger.current("a") == "e2"
    assert ledger.states(watch) == {"scored": 1, "superseded": 1, "queued": 1}
    assert ledger.add(watch, [ref("a", "", at=9)]) == [item]


def test_a_page_of_a_thousand_is_quick_and_whole(ledger):
    job, ids = ledger.submit(refs(1000))
    assert len(ids) == len(set(ids)) == 1000
    assert ledger.states(job) == {"queued": 1000}


def test_an_aborted_transaction_leaves_no_trace(ledger):
    job = ledger.do(start_listing, ledger.job().id, 60)

    def fail(c):
        add_images(c, job, refs(3))
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        ledger.do(fail)
    assert ledger.states(job) == {}
    assert ledger.one("SELECT count(*) FROM images") == 0


def test_odd_keys_come_back_as_they_went_in(ledger):
    keys = ["a b", "a+b", "%2B", "ü/é", "line\nbreak", "quote'\"", "🖼", "x" * 1024, "{a,b}", "NULL", "\\"]
    _, ids = ledger.submit([ref(key) for key in keys])
    assert {claim.ref.key for claim in ledger.claim(ids)} == set(keys)
