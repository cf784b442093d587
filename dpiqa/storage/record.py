"""Recording: the items, scores and results that follow from a batch of outcomes, in one transaction.

The order of locks is that of `dpiqa.storage.tables`. Holding the jobs' rows makes the escalation cap exact and lets
the last record of a job see that it is the last.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, Connection, Integer, text

from dpiqa.doorbell import Queue
from dpiqa.profiles import Profile
from dpiqa.storage.columns import arrays
from dpiqa.storage.images import lock_buckets, lock_images, mark_gone, put_images
from dpiqa.storage.items import update_of, write_updates
from dpiqa.storage.jobs import finish_jobs, lock_jobs
from dpiqa.storage.outcomes import Changed, Failed, Gone, Outcome, Recorded, Rejected, Scored
from dpiqa.storage.results import Decide, settle_results, store_student, store_teacher
from dpiqa.types import Reason, Stage

if TYPE_CHECKING:
    from dpiqa.models.base import ModelCard

# Locks the leased items whose fence fits and returns their ids. Raw: pairs of id and fence come as two arrays.
LOCK_HELD_ITEMS = text(
    """
    SELECT i.id FROM items i
    JOIN unnest(:ids, :fences) AS lease (id, fence) ON i.id = lease.id AND i.attempt = lease.fence
    WHERE i.state = 'leased' ORDER BY i.id FOR NO KEY UPDATE OF i
    """
).bindparams(*arrays(ids=BigInteger, fences=Integer))


def record(
    c: Connection,
    stage: Stage,
    profile: Profile,
    scorer: "ModelCard",
    outcomes: Sequence[Outcome],
    *,
    decide: Decide,
    max_errors: int = 5,
) -> Recorded:
    """Record the outcomes of claims of one stage and profile. Outcomes whose fence is old change nothing.

    Student scores are routed with the job's counters: escalated items wait for the teacher with a provisional
    result, the others get a final one. `decide` routes within this transaction, so that the cap is exact. One score
    per image and scorer: a second one is dropped in favour of the first.
    """
    outcomes = sorted(map(_checked, outcomes), key=lambda outcome: outcome.claim.item_id)
    other_profiles = {outcome.claim.profile_id for outcome in outcomes} - {profile.id}
    if other_profiles:
        raise ValueError(f"claims of {', '.join(sorted(other_profiles))} cannot be recorded under {profile.id}")

    changed = [outcome for outcome in outcomes if isinstance(outcome, Changed)]
    lock_buckets(c, (outcome.new.bucket for outcome in changed))
    jobs = lock_jobs(c, (outcome.claim.job_id for outcome in outcomes))
    changed_keys = [(outcome.new.bucket, outcome.new.key) for outcome in changed]
    images = lock_images(c, [outcome.claim.image_id for outcome in outcomes], changed_keys)
    ids, fences = [outcome.claim.item_id for outcome in outcomes], [outcome.claim.fence for outcome in outcomes]
    held_items = set(c.execute(LOCK_HELD_ITEMS, {"ids": ids, "fences": fences}).scalars())
    held = [outcome for outcome in outcomes if outcome.claim.item_id in held_items]

    scored = [outcome for outcome in held if isinstance(outcome, Scored)]
    if stage is Stage.STUDENT:
        updates = store_student(c, profile, scorer, scored, jobs=jobs, images=images, decide=decide)
    else:
        updates = store_teacher(c, profile, scorer, scored, images=images)
    unscored = [outcome for outcome in held if not isinstance(outcome, Scored)]
    updates += [update_of(outcome, images[outcome.claim.image_id]) for outcome in unscored]
    failed_items = write_updates(c, updates, max_errors=max_errors)
    mark_gone(c, [o.claim.image_id for o in held if isinstance(o, Gone) and images[o.claim.image_id].is_still(o.claim)])
    for job in jobs.values():
        of_job = [o for o in unscored if isinstance(o, Changed) and o.claim.job_id == job.id]
        if of_job:
            put_images(c, job, [(outcome.new, outcome.claim.ref.etag) for outcome in of_job])
    settle_results(c, failed_items)
    finish_jobs(c, jobs)
    teacher_items = [update.item_id for update in updates if update.queue is Queue.TEACHER]
    return Recorded(len(held), len(outcomes) - len(held), teacher_items)


def _checked(outcome: Outcome) -> Outcome:
    """Return what the outcome really is: scores are numbers, and of the bytes that were claimed."""
    claim = outcome.claim
    if isinstance(outcome, Scored) and not math.isfinite(outcome.score):
        return Rejected(claim, Reason.NON_FINITE_SCORE, f"the model returned {outcome.score}")
    if isinstance(outcome, Scored) and outcome.etag != claim.ref.etag:
        ref = replace(claim.ref, etag=outcome.etag, version_id=outcome.version_id, size=None, sequencer=None)
        return Changed(claim, ref)
    if isinstance(outcome, Changed) and outcome.new.etag == claim.ref.etag:
        return Failed(claim, "the store says that the object changed, and names the same ETag")
    return outcome
