"""Recording: the items, scores and results that follow from the outcomes of a profile, in one transaction.

The order of locks is that of `dpiqa.storage.tables`. Holding the jobs' rows makes the escalation cap exact, and shows
the last transaction of a job that it is the last.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, Self
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Connection,
    Double,
    Integer,
    Row,
    Text,
    Uuid,
    any_,
    bindparam,
    select,
    text,
    update,
)

from dpiqa.doorbell import Queue
from dpiqa.profiles import Profile
from dpiqa.storage.columns import NOW, array, arrays, constant
from dpiqa.storage.images import LockedImage, lock_buckets, lock_images, mark_gone, never_seen, put_images
from dpiqa.storage.items import Changed, Failed, Gone, ItemUpdate, Outcome, Rejected, Scored, update_of, write_updates
from dpiqa.storage.job_profiles import Routed, count_routed, profile_of_item, read_routed
from dpiqa.storage.jobs import Job, finish_jobs, lock_jobs
from dpiqa.storage.measures import store_measures
from dpiqa.storage.recorded_scores import store_scores
from dpiqa.storage.tables import items, jobs, results
from dpiqa.types import ItemState, Reason, Rendition, ResultStatus, Route, Stage

if TYPE_CHECKING:
    from dpiqa.models.base import ModelCard

# Locks the leased items whose fence fits and returns their ids. Raw: pairs of id and fence come as two arrays. The
# state is read after the items are found by id: where statistics say that few items are leased, as they often do of a
# queue, Postgres would read every leased item, and compare each with every pair.
LOCK_HELD_ITEMS = text(
    """
    WITH locked AS (
        SELECT i.id, i.state FROM items i
        JOIN unnest(:ids, :fences) AS lease (id, fence) ON i.id = lease.id AND i.attempt = lease.fence
        ORDER BY i.id FOR NO KEY UPDATE OF i)
    SELECT id FROM locked WHERE state = 'leased'
    """
).bindparams(*arrays(ids=BigInteger, fences=Integer))
COUNT_ROUTED = (
    update(jobs)
    .where(jobs.c.id == bindparam("of_job"))
    .values(
        scored_by_student=jobs.c.scored_by_student + bindparam("n_scored"),
        escalated=jobs.c.escalated + bindparam("n_escalated"),
    )
)


class RoutingPolicy(Protocol):
    """The routing policy, such as `dpiqa.routing.decide`."""

    def __call__(
        self, scores: Sequence[float], profile: Profile, *, scored_before: int, escalated_before: int
    ) -> list[Route]:
        """Return the route of each score, given how many images of the job were scored and escalated before."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The effect of recording some outcomes."""

    n_recorded: int
    n_stale: int  #: refused: another worker holds or ended the item
    teacher_items: list[int]  #: now wait for the teacher; ring after the commit


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The columns of a row of `results` that recording writes, under one profile."""

    image_id: int
    score: float
    scorer_id: str
    stage: Stage
    status: ResultStatus
    route: Route
    student_score: float | None
    teacher_score: float | None
    bucket: str
    key: str
    etag: str
    current: bool
    job_id: UUID

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """Read a row of RESULTS_OF_IMAGES."""
        return cls(**row._mapping)


_COLUMNS = [column for column in results.c if column.name not in ("profile", "updated_at")]
RESULTS_OF_IMAGES = select(*_COLUMNS).where(
    results.c.profile == bindparam("under"), results.c.image_id == any_(array("ids", BigInteger))
)
# Stores or replaces results; returns nothing. Raw: each row gets values of its own.
UPSERT_RESULTS = text(
    """
    INSERT INTO results (image_id, profile, score, scorer_id, stage, status, route, student_score, teacher_score,
        bucket, key, etag, current, job_id)
    SELECT image_id, :profile, score, scorer_id, stage, status, route, student_score, teacher_score,
        bucket, key, etag, current, job_id
    FROM unnest(:image_id, :score, :scorer_id, :stage, :status, :route, :student_score, :teacher_score,
        :bucket, :key, :etag, :current, :job_id)
        AS new (image_id, score, scorer_id, stage, status, route, student_score, teacher_score, bucket, key, etag,
            current, job_id)
    ORDER BY image_id
    ON CONFLICT (image_id, profile) DO UPDATE SET
        score = excluded.score, scorer_id = excluded.scorer_id, stage = excluded.stage, status = excluded.status,
        route = excluded.route, student_score = excluded.student_score, teacher_score = excluded.teacher_score,
        current = excluded.current, updated_at = clock_timestamp()
    """
).bindparams(
    *arrays(
        image_id=BigInteger, score=Double, scorer_id=Text, stage=Text, status=Text, route=Text, student_score=Double,
        teacher_score=Double, bucket=Text, key=Text, etag=Text, current=Boolean, job_id=Uuid,
    )
)  # fmt: skip
_UNSETTLED = (
    select(results.c.image_id, results.c.profile)
    .select_from(items)
    .join(jobs, jobs.c.id == items.c.job_id)
    .join(results, (results.c.image_id == items.c.image_id) & (results.c.profile == profile_of_item()))
    .where(items.c.id == any_(array("ids", BigInteger)), items.c.stage == constant(Stage.TEACHER))
    .where(results.c.status == constant(ResultStatus.PROVISIONAL))
    .order_by(results.c.image_id, results.c.profile)
    .with_for_update(of=results, key_share=True)
    .cte("unsettled")
)
SETTLE_RESULTS = (
    update(results)
    .where(results.c.image_id == _UNSETTLED.c.image_id, results.c.profile == _UNSETTLED.c.profile)
    .values(status=ResultStatus.FINAL, updated_at=NOW)
)


def record(
    c: Connection,
    stage: Stage,
    profile: Profile,
    scorer: "ModelCard",
    outcomes: Sequence[Outcome],
    *,
    decide: RoutingPolicy,
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
    held_ids = set(c.execute(LOCK_HELD_ITEMS, {"ids": ids, "fences": fences}).scalars())
    recordable = [outcome for outcome in outcomes if outcome.claim.item_id in held_ids]

    scored = [outcome for outcome in recordable if isinstance(outcome, Scored)]
    if stage is Stage.STUDENT:
        updates = store_student(c, profile, scorer, scored, jobs=jobs, images=images, decide=decide)
    else:
        updates = store_teacher(c, profile, scorer, scored, images=images)
    store_measures(c, scored)
    unscored = [outcome for outcome in recordable if not isinstance(outcome, Scored)]
    unseen = [outcome.claim for outcome in recordable if isinstance(outcome, Gone)]
    never = never_seen(c, [claim.image_id for claim in unseen if not claim.ref.etag])
    for outcome in unscored:
        claim = outcome.claim
        is_never_seen = isinstance(outcome, Gone) and claim.image_id in never
        what = Rejected(claim, Reason.NOT_FOUND, "there is no object under this key") if is_never_seen else outcome
        updates.append(update_of(what, images[claim.image_id]))
    failed_items = write_updates(c, updates, max_errors=max_errors)
    mark_gone(
        c, [claim.image_id for claim in unseen if images[claim.image_id].is_unchanged(claim.ref, claim.access_news)]
    )
    for job in jobs.values():
        of_job = [o for o in unscored if isinstance(o, Changed) and o.claim.job_id == job.id]
        if of_job:
            put_images(c, job, [(outcome.new, outcome.claim.ref.etag) for outcome in of_job])
    settle_results(c, failed_items)
    finish_jobs(c, jobs)
    teacher_items = [update.item_id for update in updates if update.queue is Queue.TEACHER]
    return Recorded(len(recordable), len(outcomes) - len(recordable), teacher_items)


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


def store_student(
    c: Connection,
    profile: Profile,
    scorer: "ModelCard",
    scored: Sequence[Scored],
    *,
    jobs: Mapping[UUID, Job],
    images: Mapping[int, LockedImage],
    decide: RoutingPolicy,
) -> list[ItemUpdate]:
    """Store student scores and route them, job by job; return the updates of the items.

    An image that has a result already (another job was faster) keeps it: its route is not drawn again.
    """
    scores_by_image = store_scores(c, scorer, scored)
    scorer_ids = _scorer_ids(scorer, scored)
    results_by_image = _read_results(c, profile, scored)
    further = read_routed(c, profile.id, [job.id for job in jobs.values() if job.profile != profile.id])
    new: list[Result] = []
    for job in jobs.values():
        is_own = job.profile == profile.id
        before = Routed(job.scored_by_student, job.escalated) if is_own else further.get(job.id, Routed())
        fresh = [o for o in scored if o.claim.job_id == job.id and o.claim.image_id not in results_by_image]
        routes = decide(
            [scores_by_image[outcome.claim.image_id] for outcome in fresh],
            profile,
            scored_before=before.scored_by_student,
            escalated_before=before.escalated,
        )
        for outcome, route in zip(fresh, routes, strict=True):
            image_id = outcome.claim.image_id
            new.append(_student_result(outcome, scores_by_image[image_id], scorer_ids, route, images))
            results_by_image[image_id] = new[-1]
        n_escalated = sum(route is Route.BORDERLINE for route in routes)
        if is_own:
            c.execute(COUNT_ROUTED, {"of_job": job.id, "n_scored": len(fresh), "n_escalated": n_escalated})
        else:
            count_routed(c, profile.id, job.id, Routed(len(fresh), n_escalated))
    _write_results(c, profile, new)
    return [_update_after(outcome, results_by_image[outcome.claim.image_id]) for outcome in scored]


def store_teacher(
    c: Connection,
    profile: Profile,
    scorer: "ModelCard",
    scored: Sequence[Scored],
    *,
    images: Mapping[int, LockedImage],
) -> list[ItemUpdate]:
    """Store teacher scores as final results; return the updates of the items."""
    scores_by_image = store_scores(c, scorer, scored)
    scorer_ids = _scorer_ids(scorer, scored)
    earlier = _read_results(c, profile, scored)
    final: dict[int, Result] = {}
    for outcome in scored:
        image_id = outcome.claim.image_id
        score = scores_by_image[image_id]
        previous = earlier.get(image_id) or _student_result(outcome, score, scorer_ids, Route.BORDERLINE, images)
        final[image_id] = replace(
            previous,
            score=score,
            teacher_score=score,
            scorer_id=scorer_ids[outcome.rendition],
            stage=Stage.TEACHER,
            status=ResultStatus.FINAL,
            student_score=outcome.claim.student_score if image_id not in earlier else previous.student_score,
            current=images[image_id].current,
        )
    _write_results(c, profile, list(final.values()))
    return [_update_after(outcome, final[outcome.claim.image_id]) for outcome in scored]


def settle_results(c: Connection, item_ids: Sequence[int]) -> None:
    """Make the provisional results of these rejected or dead teacher items final."""
    if item_ids:
        c.execute(SETTLE_RESULTS, {"ids": sorted(item_ids)})


def _update_after(outcome: Scored, result: Result) -> ItemUpdate:
    update = ItemUpdate(
        item_id=outcome.claim.item_id, state=ItemState.SCORED, route=result.route, reused=outcome.reused
    )
    if result.status is ResultStatus.FINAL:
        return update
    return replace(update, state=ItemState.QUEUED, stage=Stage.TEACHER, queue=Queue.TEACHER)


def _scorer_ids(scorer: "ModelCard", scored: Iterable[Scored]) -> dict[Rendition, str]:
    return {rendition: scorer.rendered(rendition).scorer_id for rendition in {o.rendition for o in scored}}


def _student_result(
    outcome: Scored, score: float, scorer_ids: Mapping[Rendition, str], route: Route, images: Mapping[int, LockedImage]
) -> Result:
    claim = outcome.claim
    return Result(
        image_id=claim.image_id,
        score=score,
        scorer_id=scorer_ids[outcome.rendition],
        stage=Stage.STUDENT,
        status=ResultStatus.PROVISIONAL if route is Route.BORDERLINE else ResultStatus.FINAL,
        route=route,
        student_score=score,
        teacher_score=None,
        bucket=claim.ref.bucket,
        key=claim.ref.key,
        etag=outcome.etag,
        current=images[claim.image_id].current,
        job_id=claim.job_id,
    )


def _read_results(c: Connection, profile: Profile, scored: Iterable[Scored]) -> dict[int, Result]:
    ids = [outcome.claim.image_id for outcome in scored]
    if not ids:
        return {}
    rows = c.execute(RESULTS_OF_IMAGES, {"under": profile.id, "ids": ids})
    return {row.image_id: Result.from_row(row) for row in rows}


def _write_results(c: Connection, profile: Profile, new: Sequence[Result]) -> None:
    if not new:
        return
    columns = {
        "image_id": [result.image_id for result in new],
        "score": [result.score for result in new],
        "scorer_id": [result.scorer_id for result in new],
        "stage": [result.stage for result in new],
        "status": [result.status for result in new],
        "route": [result.route for result in new],
        "student_score": [result.student_score for result in new],
        "teacher_score": [result.teacher_score for result in new],
        "bucket": [result.bucket for result in new],
        "key": [result.key for result in new],
        "etag": [result.etag for result in new],
        "current": [result.current for result in new],
        "job_id": [result.job_id for result in new],
    }
    c.execute(UPSERT_RESULTS, {**columns, "profile": profile.id})
