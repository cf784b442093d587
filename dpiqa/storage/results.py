"""Scores and results. The caller holds the jobs, the images and the items."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from sqlalchemy import Connection, text

from dpiqa.doorbell import Queue
from dpiqa.profiles import Profile
from dpiqa.storage.images import HeldImage
from dpiqa.storage.items import Ending
from dpiqa.storage.jobs import Job
from dpiqa.storage.outcomes import Scored
from dpiqa.types import ItemState, ResultStatus, Route, Stage

if TYPE_CHECKING:
    from dpiqa.models.base import ModelCard

_INSERT_SCORER = text("INSERT INTO scorers (id, card) VALUES (:id, CAST(:card AS jsonb)) ON CONFLICT DO NOTHING")
#: A reference may be made, or made anew, after a scorer first spoke. The row is locked only where it changes.
_UPDATE_REFERENCES = text(
    """
    UPDATE scorers SET card = jsonb_set(card, '{references}', CAST(:references AS jsonb))
    WHERE id = :id AND card -> 'references' IS DISTINCT FROM CAST(:references AS jsonb)
    """
)
_INSERT_SCORES = text(
    """
    INSERT INTO scores (image_id, scorer_id, score, etag, version_id, attempt, job_id)
    SELECT image_id, :scorer_id, score, etag, version_id, attempt, job_id FROM unnest(
        CAST(:image_id AS bigint[]), CAST(:score AS double precision[]), CAST(:etag AS text[]),
        CAST(:version_id AS text[]), CAST(:attempt AS integer[]), CAST(:job_id AS uuid[]))
        AS g (image_id, score, etag, version_id, attempt, job_id)
    ORDER BY image_id
    ON CONFLICT DO NOTHING
    """
)
_SCORES = text(
    "SELECT image_id, score FROM scores WHERE scorer_id = :scorer_id AND image_id = ANY (CAST(:ids AS bigint[]))"
)
_RESULTS = text("SELECT * FROM results WHERE profile = :profile AND image_id = ANY (CAST(:ids AS bigint[]))")
_UPSERT = text(
    """
    INSERT INTO results (image_id, profile, score, scorer_id, stage, status, route, student_score, teacher_score,
        bucket, key, etag, current, job_id)
    SELECT image_id, :profile, score, scorer_id, stage, status, route, student_score, teacher_score,
        bucket, key, etag, current, job_id
    FROM unnest(
        CAST(:image_id AS bigint[]), CAST(:score AS double precision[]), CAST(:scorer_id AS text[]),
        CAST(:stage AS text[]), CAST(:status AS text[]), CAST(:route AS text[]),
        CAST(:student_score AS double precision[]), CAST(:teacher_score AS double precision[]),
        CAST(:bucket AS text[]), CAST(:key AS text[]), CAST(:etag AS text[]), CAST(:current AS boolean[]),
        CAST(:job_id AS uuid[]))
        AS g (image_id, score, scorer_id, stage, status, route, student_score, teacher_score, bucket, key, etag,
            current, job_id)
    ORDER BY image_id
    ON CONFLICT (image_id, profile) DO UPDATE SET
        score = excluded.score, scorer_id = excluded.scorer_id, stage = excluded.stage, status = excluded.status,
        route = excluded.route, student_score = excluded.student_score, teacher_score = excluded.teacher_score,
        current = excluded.current, updated_at = clock_timestamp()
    """
)
_COUNT = text(
    "UPDATE jobs SET scored_by_student = scored_by_student + :scored, escalated = escalated + :escalated WHERE id = :id"
)


class Decide(Protocol):
    """The routing policy, such as `dpiqa.routing.decide`."""

    def __call__(
        self, scores: Sequence[float], profile: Profile, *, scored_before: int, escalated_before: int
    ) -> list[Route]:
        """Return the route of each score, given how many images of the job were scored and escalated before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
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


def store_student(
    c: Connection,
    profile: Profile,
    scorer: "ModelCard",
    scored: Sequence[Scored],
    *,
    jobs: Mapping[UUID, Job],
    images: Mapping[int, HeldImage],
    decide: Decide,
) -> list[Ending]:
    """Store student scores and route them, job by job; return what the items become.

    An image that has a result already (another job was faster) keeps it: its route is not drawn again.
    """
    said = _store_scores(c, scorer, scored)
    results = _read_results(c, profile, scored)
    new: list[_Result] = []
    for job in jobs.values():
        fresh = [o for o in scored if o.claim.job_id == job.id and o.claim.image_id not in results]
        routes = decide(
            [said[o.claim.image_id] for o in fresh],
            profile,
            scored_before=job.scored_by_student,
            escalated_before=job.escalated,
        )
        for outcome, route in zip(fresh, routes, strict=True):
            new.append(_student_result(outcome, said[outcome.claim.image_id], scorer, route, images))
            results[outcome.claim.image_id] = new[-1]
        escalated = sum(route is Route.BORDERLINE for route in routes)
        c.execute(_COUNT, {"id": job.id, "scored": len(fresh), "escalated": escalated})
    _write_results(c, profile, new)
    return [_after_student(outcome.claim.item_id, results[outcome.claim.image_id]) for outcome in scored]


def store_teacher(
    c: Connection,
    profile: Profile,
    scorer: "ModelCard",
    scored: Sequence[Scored],
    *,
    images: Mapping[int, HeldImage],
) -> list[Ending]:
    """Store teacher scores as final results; return what the items become."""
    said = _store_scores(c, scorer, scored)
    results = _read_results(c, profile, scored)
    final: dict[int, _Result] = {}
    for outcome in scored:
        image_id = outcome.claim.image_id
        before = results.get(image_id) or _student_result(outcome, said[image_id], scorer, Route.BORDERLINE, images)
        final[image_id] = replace(
            before,
            score=said[image_id],
            teacher_score=said[image_id],
            scorer_id=scorer.scorer_id,
            stage=Stage.TEACHER,
            status=ResultStatus.FINAL,
            student_score=outcome.claim.student_score if image_id not in results else before.student_score,
            current=images[image_id].current,
        )
    _write_results(c, profile, list(final.values()))
    return [
        Ending(item_id=o.claim.item_id, state=ItemState.SCORED, route=final[o.claim.image_id].route) for o in scored
    ]


def _after_student(item_id: int, result: _Result) -> Ending:
    if result.status is ResultStatus.FINAL:
        return Ending(item_id=item_id, state=ItemState.SCORED, route=result.route)
    return Ending(item_id=item_id, state=ItemState.QUEUED, stage=Stage.TEACHER, queue=Queue.TEACHER, route=result.route)


def _student_result(
    outcome: Scored, score: float, scorer: "ModelCard", route: Route, images: Mapping[int, HeldImage]
) -> _Result:
    claim = outcome.claim
    escalated = route is Route.BORDERLINE
    return _Result(
        image_id=claim.image_id,
        score=score,
        scorer_id=scorer.scorer_id,
        stage=Stage.STUDENT,
        status=ResultStatus.PROVISIONAL if escalated else ResultStatus.FINAL,
        route=route,
        student_score=score,
        teacher_score=None,
        bucket=claim.ref.bucket,
        key=claim.ref.key,
        etag=outcome.etag,
        current=images[claim.image_id].current,
        job_id=claim.job_id,
    )


def _store_scores(c: Connection, scorer: "ModelCard", scored: Sequence[Scored]) -> dict[int, float]:
    """Store what is new; return the score that counts per image: the first one ever stored."""
    if not scored:
        return {}
    _store_scorer(c, scorer)
    claims = [outcome.claim for outcome in scored]
    c.execute(
        _INSERT_SCORES,
        {
            "scorer_id": scorer.scorer_id,
            "image_id": [claim.image_id for claim in claims],
            "score": [float(outcome.score) for outcome in scored],
            "etag": [outcome.etag for outcome in scored],
            "version_id": [outcome.version_id for outcome in scored],
            "attempt": [claim.fence for claim in claims],
            "job_id": [claim.job_id for claim in claims],
        },
    )
    ids = [claim.image_id for claim in claims]
    return {row.image_id: row.score for row in c.execute(_SCORES, {"scorer_id": scorer.scorer_id, "ids": ids})}


def _store_scorer(c: Connection, scorer: "ModelCard") -> None:
    """Store the card of a scorer that speaks for the first time; of one that is known, its references alone."""
    card = scorer.model_dump(mode="json")
    c.execute(_INSERT_SCORER, {"id": scorer.scorer_id, "card": json.dumps(card)})
    if scorer.reference is not None:
        c.execute(_UPDATE_REFERENCES, {"id": scorer.scorer_id, "references": json.dumps(card["references"])})


def _read_results(c: Connection, profile: Profile, scored: Iterable[Scored]) -> dict[int, _Result]:
    ids = [outcome.claim.image_id for outcome in scored]
    found = {}
    for row in c.execute(_RESULTS, {"profile": profile.id, "ids": ids}) if ids else []:
        columns = {field.name: row._mapping[field.name] for field in fields(_Result)}
        columns.update(stage=Stage(row.stage), status=ResultStatus(row.status), route=Route(row.route))
        found[row.image_id] = _Result(**columns)
    return found


def _write_results(c: Connection, profile: Profile, results: Sequence[_Result]) -> None:
    if results:
        columns = {field.name: [getattr(result, field.name) for result in results] for field in fields(_Result)}
        c.execute(_UPSERT, {**columns, "profile": profile.id})


_SETTLE = text(
    """
    WITH held AS (
        SELECT r.image_id, r.profile FROM items i
        JOIN jobs j ON j.id = i.job_id
        JOIN results r ON r.image_id = i.image_id AND r.profile = j.profile
        WHERE i.id = ANY (CAST(:ids AS bigint[])) AND i.stage = 'teacher' AND r.status = 'provisional'
        ORDER BY r.image_id, r.profile FOR NO KEY UPDATE OF r)
    UPDATE results r SET status = 'final', updated_at = clock_timestamp()
    FROM held WHERE r.image_id = held.image_id AND r.profile = held.profile
    """
)


def settle_results(c: Connection, item_ids: Sequence[int]) -> None:
    """Make the provisional results of these rejected or dead teacher items final."""
    if item_ids:
        c.execute(_SETTLE, {"ids": sorted(item_ids)})
