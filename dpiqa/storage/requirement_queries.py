"""Requirement queries: versions with their checks and pairs."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Connection, any_, func, literal, select, tuple_

from dpiqa.access import EVERYTHING, Grants
from dpiqa.storage.columns import array
from dpiqa.storage.granted import visible_requirements
from dpiqa.storage.pages import Page, check_limit, decode, encode
from dpiqa.storage.requirement_tables import requirement_features, requirement_pairs, requirements
from dpiqa.storage.requirements import Requirement, read_pairs, read_requirement
from dpiqa.types import Direction, RequirementState

_FEATURES = requirement_features.c
#: The checks of requirements, the newest first, without the features themselves.
CHECKS = (
    select(
        _FEATURES.requirement_id,
        _FEATURES.scorer_id,
        _FEATURES.loo_srcc,
        _FEATURES.loo_mae,
        _FEATURES.loo_scores,
        _FEATURES.contradictions,
        _FEATURES.made_at,
    )
    .where(_FEATURES.requirement_id == any_(array("ids", BigInteger)))
    .order_by(_FEATURES.requirement_id, _FEATURES.made_at.desc(), _FEATURES.scorer_id)
)
PAIR_COUNTS = (
    select(requirement_pairs.c.requirement_id, func.count().label("n"))
    .where(requirement_pairs.c.requirement_id == any_(array("ids", BigInteger)))
    .group_by(requirement_pairs.c.requirement_id)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRow:
    """The check of a requirement with one checkpoint."""

    scorer_id: str  #: of the checkpoint, without a requirement
    leave_one_out_srcc: float | None  #: of the given scores with those predicted from the other pairs; None: undefined
    leave_one_out_mae: float  #: mean absolute difference of the same
    contradictions: tuple[str, ...]  #: accepted by force
    made_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRow:
    """One image-score pair."""

    path: str
    score: float
    leave_one_out: float | None  #: score predicted from the other pairs in the newest check; None: not checked yet
    sha256: str | None  #: of the bytes that were read


@dataclass(frozen=True, slots=True, kw_only=True)
class RequirementRow:
    """One version of a requirement."""

    id: str  #: `name@version`
    name: str
    version: int  #: from 1
    state: RequirementState
    direction: Direction
    model: str  #: name of the model that it was, or is to be, checked with
    force: bool  #: pairs that contradict each other are accepted
    error: str | None  #: the reason of a refusal
    created_at: datetime
    finished_at: datetime | None
    n_pairs: int
    checks: tuple[CheckRow, ...]  #: by checkpoint, the newest first; none unless it is ready


@dataclass(frozen=True, slots=True, kw_only=True)
class RequirementDetail(RequirementRow):
    """One version of a requirement, with its pairs."""

    pairs: tuple[PairRow, ...]


def list_requirements(
    c: Connection, *, grants: Grants = EVERYTHING, limit: int = 100, cursor: str | None = None
) -> Page[RequirementRow]:
    """Return all versions within the grants by name.

    Raises `InvalidRequest` for a bad cursor or a limit outside 1-1000.
    """
    columns = requirements.c
    visible = visible_requirements(grants)
    query = select(requirements).where(*visible).order_by(columns.name, columns.version).limit(check_limit(limit) + 1)
    if cursor is not None:
        name, version = decode("requirements", cursor, [str, int])
        last = tuple_(literal(name, columns.name.type), literal(version, columns.version.type))
        query = query.where(tuple_(columns.name, columns.version) > last)
    page = Page.cut(
        [Requirement.from_row(row) for row in c.execute(query)],
        limit,
        lambda requirement: encode("requirements", [requirement.name, requirement.version]),
    )
    row_ids = [requirement.row_id for requirement in page.items]
    checks = _read_checks(c, row_ids)
    n_pairs = {row.requirement_id: row.n for row in c.execute(PAIR_COUNTS, {"ids": row_ids})}
    rows = [
        RequirementRow(
            **_fields(requirement),
            n_pairs=n_pairs[requirement.row_id],
            checks=tuple(check for check, _ in checks[requirement.row_id]),
        )
        for requirement in page.items
    ]
    return Page(rows, page.next_cursor)


def show_requirement(c: Connection, name_or_id: str, grants: Grants = EVERYTHING) -> RequirementDetail:
    """Return `name@version`, or the newest version of `name`, ready ones first; with its pairs. Raises `NotFound`."""
    requirement = read_requirement(c, name_or_id, grants)
    checks = _read_checks(c, [requirement.row_id])[requirement.row_id]
    pairs = read_pairs(c, requirement)
    newest: Sequence[float | None] = checks[0][1] if checks else [None] * len(pairs)
    return RequirementDetail(
        **_fields(requirement),
        n_pairs=len(pairs),
        checks=tuple(check for check, _ in checks),
        pairs=tuple(
            PairRow(path=pair.path, score=pair.score, leave_one_out=score, sha256=sha256)
            for (pair, sha256), score in zip(pairs, newest, strict=True)
        ),
    )


def is_example(c: Connection, path: str, grants: Grants = EVERYTHING) -> bool:
    """Return whether a requirement that the caller may see has an image of this address."""
    pairs = requirement_pairs.alias()  # the conditions of `visible_requirements` have the table itself
    query = (
        select(pairs.c.position)
        .join(requirements, requirements.c.id == pairs.c.requirement_id)
        .where(pairs.c.path == path, *visible_requirements(grants))
        .limit(1)
    )
    return c.execute(query).first() is not None


def _fields(requirement: Requirement) -> dict[str, Any]:
    names = ("id", "name", "version", "state", "direction", "model", "force", "error", "created_at", "finished_at")
    return {name: getattr(requirement, name) for name in names}


def _read_checks(c: Connection, row_ids: Sequence[int]) -> dict[int, list[tuple[CheckRow, Sequence[float]]]]:
    """Return the checks of each requirement, the newest first, with the leave-one-out scores of its pairs."""
    checks: dict[int, list[tuple[CheckRow, Sequence[float]]]] = defaultdict(list)
    for row in c.execute(CHECKS, {"ids": row_ids}):
        check = CheckRow(
            scorer_id=row.scorer_id,
            leave_one_out_srcc=row.loo_srcc,
            leave_one_out_mae=row.loo_mae,
            contradictions=tuple(row.contradictions),
            made_at=row.made_at,
        )
        checks[row.requirement_id].append((check, row.loo_scores))
    return checks
