"""Items that ended long ago are removed in batches; results, scores and counts stay."""

from datetime import UTC, datetime, timedelta

import pytest
from support.ledger import ref, refs

from dpiqa.errors import Conflict
from dpiqa.storage.images import remove_objects
from dpiqa.storage.retention import WATCH_PAUSE, prunable, prune_versions, request_pruning
from dpiqa.storage.steering import delete_job, retry_job
from dpiqa.storage.sweeps import pending_sweeps, sweep_once
from dpiqa.types import Reason, Removal

NOW = datetime.now(UTC)
CUTOFF = NOW - timedelta(days=30)


def end_before(ledger, job, days):
    """Let a job and its ended items have ended this many days ago."""
    ledger.sql(
        "UPDATE jobs SET created_at = now() - make_interval(days => :days + 1), finished_at = CASE WHEN finished_at "
        "IS NOT NULL THEN now() - make_interval(days => :days) END WHERE id = :id",
        days=days,
        id=job.id,
    )
    ledger.sql(
        "UPDATE items SET finished_at = now() - make_interval(days => :days) WHERE job_id = :id AND finished_at "
        "IS NOT NULL",
        days=days,
        id=job.id,
    )


def sweep(ledger, *, batch=7):
    n = 0
    while ledger.do(sweep_once, batch=batch):
        n += 1
    return n


def n_items(ledger, job):
    return ledger.one("SELECT count(*) FROM items WHERE job_id = :id", id=job.id)


def by_state(ledger, job):
    return {str(state): n for state, n in ledger.report(job).by_state.items()}


def test_a_job_that_ended_keeps_its_counts_scores_and_results(ledger_with_teacher):
    ledger = ledger_with_teacher
    (old, ids), (young, more) = ledger.submit(refs(20)), ledger.submit(refs(5, prefix="y"))
    ledger.score(ids, value=0.9)
    ledger.score(more, value=0.9)
    end_before(ledger, old, 40)
    before = ledger.report(old)
    results = ledger.one("SELECT count(*) FROM results")
    assert [(one.job.id, one.n_items) for one in ledger.do(prunable, CUTOFF)] == [(old.id, 20)]
    assert ledger.do(request_pruning, CUTOFF) == [old.id]
    assert ledger.do(pending_sweeps, [old.id])
    assert sweep(ledger) > 1  # batches, not one transaction
    assert not ledger.do(pending_sweeps, [old.id, young.id])
    assert n_items(ledger, old) == 0
    assert n_items(ledger, young) == 5
    after = ledger.report(old)
    assert (after.by_state, after.total, after.done) == (before.by_state, before.total, before.done)
    assert by_state(ledger, old) == {"scored": 20}
    assert after.job.pruned_at is not None
    assert ledger.one("SELECT count(*) FROM results") == results == 25
    assert ledger.one("SELECT count(*) FROM scores") == 25
    assert after.rate <= before.rate  # the counts that were added again are not work


def test_counts_of_rejected_reused_and_cancelled_items_stay_as_they_are(ledger):
    job, ids = ledger.submit(refs(6))
    ledger.score(ids[:3])
    ledger.sql(
        "UPDATE items SET state = 'rejected', reason = 'corrupt', reused = true, finished_at = now() "
        "WHERE id = ANY (:ids)",
        ids=ids[3:],
    )
    ledger.feed()
    end_before(ledger, job, 31)
    before = ledger.report(job)
    ledger.do(request_pruning, CUTOFF)
    sweep(ledger)
    after = ledger.report(job)
    assert after.by_state == before.by_state
    assert after.failures == before.failures == {Reason.CORRUPT: 3}
    assert ledger.one("SELECT sum(reused) FROM (SELECT job_id, reused FROM job_counts UNION ALL "
                      "SELECT job_id, reused FROM count_changes) k WHERE job_id = :id", id=job.id) == 3  # fmt: skip


def test_a_job_is_pruned_once_and_one_that_has_not_ended_never(ledger):
    (done, ids), (running, _) = ledger.submit(refs(3)), ledger.submit(refs(3, prefix="r"))
    ledger.score(ids)
    for job in (done, running):
        end_before(ledger, job, 90)
    assert ledger.do(request_pruning, CUTOFF) == [done.id]
    assert ledger.do(request_pruning, CUTOFF) == []  # it is being swept
    sweep(ledger)
    assert ledger.do(request_pruning, CUTOFF) == []
    assert ledger.do(prunable, CUTOFF) == []
    assert n_items(ledger, running) == 3


def test_of_a_watch_only_what_ended_long_ago_goes(ledger):
    watch = ledger.watch()
    old = ledger.add(watch, refs(10))
    ledger.score(old)
    end_before(ledger, watch, 40)
    ledger.score(ledger.add(watch, refs(4, prefix="new")))
    waiting = ledger.add(watch, refs(2, prefix="open"))
    assert ledger.do(request_pruning, CUTOFF) == [watch.id]
    sweep(ledger, batch=3)
    assert n_items(ledger, watch) == 6
    assert by_state(ledger, watch) == {"scored": 14, "queued": 2}
    assert ledger.do(request_pruning, CUTOFF, watch_pause=WATCH_PAUSE) == []  # not every minute
    ledger.score(waiting)
    assert by_state(ledger, watch) == {"scored": 16}


def test_an_image_that_comes_back_while_its_watch_is_pruned_is_kept(ledger):
    """The batch finds it ended, waits for its lock, and must look again."""
    watch = ledger.watch()
    ledger.score(ledger.add(watch, [ref("a", at=0)]))
    ledger.sql("UPDATE items SET state = 'deleted', reason = 'object_deleted'")
    end_before(ledger, watch, 40)
    ledger.do(request_pruning, CUTOFF)
    ledger.sql("UPDATE items SET state = 'queued', reason = NULL, finished_at = NULL")
    sweep(ledger)
    assert by_state(ledger, watch) == {"queued": 1}
    assert n_items(ledger, watch) == 1


def test_a_pruned_job_cannot_be_retried_and_can_be_deleted(ledger):
    job, ids = ledger.submit(refs(3))
    ledger.score(ids)
    end_before(ledger, job, 40)
    ledger.do(request_pruning, CUTOFF)
    sweep(ledger)
    with pytest.raises(Conflict, match="were removed"):
        ledger.do(retry_job, job.id)
    ledger.do(delete_job, job.id)
    sweep(ledger)
    assert ledger.one("SELECT count(*) FROM job_counts WHERE job_id = :id", id=job.id) == 0
    assert ledger.one("SELECT count(*) FROM results") == 3


def test_the_same_objects_are_scored_at_once_by_a_new_job(ledger):
    job, ids = ledger.submit(refs(3))
    ledger.score(ids)
    end_before(ledger, job, 40)
    ledger.do(request_pruning, CUTOFF)
    sweep(ledger)
    again, waiting = ledger.submit(refs(3))
    assert waiting == []
    assert ledger.states(again) == {"scored": 3}


def scored_keys(ledger):
    rows = ledger.sql("SELECT r.key, r.etag FROM results r JOIN scores USING (image_id)")
    return {(row.key, row.etag) for row in rows}


def test_scores_of_versions_that_were_replaced_or_deleted_long_ago_go_if_asked(ledger):
    watch = ledger.watch()
    for etag, keys in (("e1", "abc"), ("e2", "a")):
        ledger.score(ledger.add(watch, [ref(key, etag, at=int(etag[1])) for key in keys]))
    ledger.do(remove_objects, [Removal(bucket="photos", key="b")])
    assert scored_keys(ledger) == {("a", "e1"), ("a", "e2"), ("b", "e1"), ("c", "e1")}
    assert ledger.do(prune_versions, CUTOFF)[0] == 0  # both only now
    ledger.sql("UPDATE images SET deleted_at = deleted_at - interval '40 days'")
    ledger.sql("UPDATE images SET first_seen_at = first_seen_at - interval '40 days'")
    assert ledger.do(prune_versions, CUTOFF, dry_run=True)[0] == 2
    assert len(scored_keys(ledger)) == 4
    n, last = ledger.do(prune_versions, CUTOFF, limit=3)
    more, _ = ledger.do(prune_versions, CUTOFF, after=last)
    assert n + more == 2
    assert scored_keys(ledger) == {("a", "e2"), ("c", "e1")}
    assert ledger.one("SELECT count(*) FROM images") == 4
    assert ledger.add(watch, [ref("a", "e1", at=1)]) == []  # an old event still loses
    assert ledger.current("a") == "e2"
