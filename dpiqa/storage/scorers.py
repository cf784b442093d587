"""Scorers that have scored and profiles that were used, as lists: what a score's `model` and `profile` stand for."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Connection, func, select

from dpiqa.access import EVERYTHING, Grants
from dpiqa.errors import NotFound
from dpiqa.profiles import Profile
from dpiqa.scorer_id import ScorerId
from dpiqa.storage.references import CARD_VERSION, read_meanings
from dpiqa.storage.result_tables import result_changes, result_counts, result_groups
from dpiqa.storage.rollups import counted_share
from dpiqa.storage.score_filter import ScoreFilter
from dpiqa.storage.stats import read_stats
from dpiqa.storage.tables import profiles, scorers
from dpiqa.types import GroupBy


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredScorer:
    """A scorer that has scored."""

    scorer_id: str
    model: str  #: name of the model
    scale: str  #: the meaning of its scores: range, and which end is better
    precision: str
    requirement: str | None
    has_reference: bool  #: whether its scores have percentiles and bands
    n_results: (
        int | None
    )  #: current results that it scored, under all profiles; None while the roll-ups are being built
    first_seen_at: datetime  #: when its first score was recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedProfile:
    """A profile that jobs used."""

    id: str
    student: str  #: its models, with the requirement if any
    teacher: str | None
    max_escalated_share: float
    description: str
    first_seen_at: datetime  #: when a job first used it
    n_results: int | None  #: current results under it; None while the roll-ups are being built


def list_scorers(c: Connection, grants: Grants = EVERYTHING) -> list[StoredScorer]:
    """Return the scorers that have scored something within the grants, the newest first.

    Raises `InvalidRequest` where the grants are prefixes of many results that no roll-up counts.
    """
    query = select(scorers.c.id, scorers.c.first_seen_at, CARD_VERSION).order_by(scorers.c.first_seen_at.desc())
    rows = c.execute(query).all()
    meanings = read_meanings(c, {(row.id, row.card_version) for row in rows})
    numbers = _numbers_within(c, grants, GroupBy.MODEL) if grants.are_limited else _numbers(c, "scorer_id")
    listed = []
    for row in rows:
        if grants.are_limited and not (numbers or {}).get(row.id):
            continue
        parts, meaning = ScorerId.parse(row.id), meanings[row.id]
        listed.append(
            StoredScorer(
                scorer_id=row.id,
                model=parts.model,
                scale=meaning.scale,
                precision=parts.precision,
                requirement=parts.requirement,
                has_reference=meaning.reference is not None,
                n_results=None if numbers is None else numbers.get(row.id, 0),
                first_seen_at=row.first_seen_at,
            )
        )
    return listed


def read_card(c: Connection, name: str, grants: Grants = EVERYTHING) -> tuple[str, dict[str, Any]]:
    """Return the id of a scorer, and its model card at its first score, with its latest references.

    `name`: the id, or the only one that begins so: the name of a model with one scorer will do. Raises `NotFound`, also
    where several ids begin so; as `list_scorers`. `grants`: scorers that scored nothing within them do not exist.
    """
    begins = scorers.c.id.startswith(name, autoescape=True)
    rows = c.execute(select(scorers).where(begins).order_by(scorers.c.first_seen_at.desc())).all()
    if grants.are_limited:
        numbers = _numbers_within(c, grants, GroupBy.MODEL)
        rows = [row for row in rows if numbers.get(row.id)]
    of_model = [row for row in rows if name in (row.id, ScorerId.parse(row.id).model)]
    found = of_model or rows
    if not found:
        raise NotFound(f"no scorer {name!r} has scored", hint="`dpiqa scorers` or GET /v1/models lists them")
    if len(found) > 1:
        raise NotFound(f"{len(found)} scorers begin with {name!r}", hint=f"the newest is {found[0].id}")
    return found[0].id, dict(found[0].card)


def list_used_profiles(c: Connection, grants: Grants = EVERYTHING) -> list[UsedProfile]:
    """Return the profiles with results within the grants, or all that jobs used, the newest first.

    Raises as `list_scorers`.
    """
    numbers = _numbers_within(c, grants, GroupBy.PROFILE) if grants.are_limited else _numbers(c, "profile")
    listed = []
    for row in c.execute(select(profiles).order_by(profiles.c.first_seen_at.desc())):
        if grants.are_limited and not (numbers or {}).get(row.id):
            continue
        profile = Profile.model_validate(row.definition)
        listed.append(
            UsedProfile(
                id=row.id,
                student=str(profile.student),
                teacher=None if profile.teacher is None else str(profile.teacher),
                max_escalated_share=profile.max_escalated_share,
                description=profile.description,
                first_seen_at=row.first_seen_at,
                n_results=None if numbers is None else numbers.get(row.id, 0),
            )
        )
    return listed


def _numbers_within(c: Connection, grants: Grants, by: GroupBy, model: str | None = None) -> dict[str, int]:
    """Return the number of current results within the grants, by scorer or by profile. Raises as `read_stats`."""
    numbers: Counter[str] = Counter()
    for bucket, prefix in grants.parts():
        found = read_stats(c, ScoreFilter(bucket=bucket, prefix=prefix, model=model), group_by=by)
        numbers.update({group.name: group.n for group in found.groups})
    return numbers


def _numbers(c: Connection, column: str) -> dict[str, int] | None:
    """Return the number of current results by scorer or by profile; None while the roll-ups are being built."""
    if counted_share(c) < 1:
        return None
    counted = (
        select(result_groups.c[column], result_counts.c.n)
        .join_from(result_groups, result_counts, result_counts.c.group_id == result_groups.c.id)
        .where(result_groups.c.kind == "bucket")
    )
    parts = counted.union_all(select(result_changes.c[column], result_changes.c.n)).subquery()
    rows = c.execute(select(parts.c[column], func.sum(parts.c.n).cast(BigInteger)).group_by(parts.c[column]))
    return {name: n for name, n in rows if n}
