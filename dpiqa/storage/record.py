"""Recording: what a batch of outcomes makes of items, scores and results, in one transaction.

The order of locks is that of `dpiqa.storage.tables`. Holding the jobs' rows makes the escalation cap exact and lets
the last record of a job see that it is the last.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import Connection, text

from dpiqa.doorbell import Queue
from dpiqa.profiles import Profile
from dpiqa.storage.images import hold_images, lock_buckets, mark_gone, put_images
from dpiqa.storage.items import ending, write_endings
from dpiqa.storage.jobs import Job, finish_jobs, lock_jobs
from dpiqa.storage.outcomes import Changed, Failed, Gone, Outcome, Recorded, Rejected, Scored
from dpiqa.storage.results import Decide, settle_results, store_student, store_teacher
from dpiqa.types import Reason, Stage

if TYPE_CHECKING:
    from dpiqa.models.base import ModelCard

_HOLD = text(
    """
    SELECT i.id FROM items i
    JOIN unnest(CAST(:ids AS bigint[]), CAST(:fences AS integer[])) AS g (id, fence)
        ON i.id = g.id AND i.attempt = g.fence
    WHERE i.state = 'leased' ORDER BY i.id FOR NO KEY UPDATE OF i
    """
)


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
    """Record what became of claims of one stage and profile. Outcomes whose fence is old change nothing.

    Student scores are routed with the job's counters: escalated items wait for the teacher with a provisional
    result, the others get a final one. `decide` routes within this transaction, so that the cap is exact. One score
    per image and scorer: a second one is dropped in favour of the first.
    """
    told = sorted(map(_checked, outcomes), key=lambda outcome: outcome.claim.item_id)
    _require_profile(told, profile)
    lock_buckets(c, (outcome.new.bucket for outcome in told if isinstance(outcome, Changed)))
    jobs = lock_jobs(c, (outcome.claim.job_id for outcome in told))
    replaced = [(o.new.bucket, o.new.key) for o in told if isinstance(o, Changed)]
    images = hold_images(c, [outcome.claim.image_id for outcome in told], replaced)
    ours = _hold_items(c, told)
    held = [outcome for outcome in told if outcome.claim.item_id in ours]

    scored = [outcome for outcome in held if isinstance(outcome, Scored)]
    if stage is Stage.STUDENT:
        endings = store_student(c, profile, scorer, scored, jobs=jobs, images=images, decide=decide)
    else:
        endings = store_teacher(c, profile, scorer, scored, images=images)
    endings += [ending(outcome, images[outcome.claim.image_id]) for outcome in held if not isinstance(outcome, Scored)]
    unscored = write_endings(c, endings, max_errors=max_errors)
    mark_gone(c, [o.claim.image_id for o in held if isinstance(o, Gone) and images[o.claim.image_id].is_still(o.claim)])
    _replace(c, jobs, [outcome for outcome in held if isinstance(outcome, Changed)])
    settle_results(c, unscored)
    finish_jobs(c, jobs)
    return Recorded(len(held), len(told) - len(held), [e.item_id for e in endings if e.queue is Queue.TEACHER])


def _checked(outcome: Outcome) -> Outcome:
    """Return what the outcome really is: scores are numbers, and of the bytes that were claimed."""
    claim = outcome.claim
    if isinstance(outcome, Scored) and not math.isfinite(outcome.score):
        return Rejected(claim, Reason.NON_FINITE_SCORE, f"the model said {outcome.score}")
    if isinstance(outcome, Scored) and outcome.etag != claim.ref.etag:
        found = replace(claim.ref, etag=outcome.etag, version_id=outcome.version_id, size=None, sequencer=None)
        return Changed(claim, found)
    if isinstance(outcome, Changed) and outcome.new.etag == claim.ref.etag:
        return Failed(claim, "the store says that the object changed, and names the same ETag")
    return outcome


def _require_profile(outcomes: Iterable[Outcome], profile: Profile) -> None:
    strangers = {outcome.claim.profile_id for outcome in outcomes} - {profile.id}
    if strangers:
        raise ValueError(f"claims of {', '.join(sorted(strangers))} cannot be recorded under {profile.id}")


def _hold_items(c: Connection, outcomes: Sequence[Outcome]) -> set[int]:
    values = {
        "ids": [outcome.claim.item_id for outcome in outcomes],
        "fences": [outcome.claim.fence for outcome in outcomes],
    }
    return set(c.execute(_HOLD, values).scalars())


def _replace(c: Connection, jobs: Mapping[UUID, Job], changed: Sequence[Changed]) -> None:
    for job in jobs.values():
        puts = [(o.new, o.claim.ref.etag) for o in changed if o.claim.job_id == job.id]
        if puts:
            put_images(c, job, puts)
