"""Requirements as people see them: with their pairs, and what each checkpoint made of them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, literal, select, text, tuple_

from dpiqa.requirement import Stability
from dpiqa.storage.pages import Page, check_limit, decode, encode
from dpiqa.storage.requirements import Requirement, read_pairs, read_requirement, to_requirement
from dpiqa.storage.tables import requirements

_CHECKS = text(
    """
    SELECT requirement_id, scorer_id, loo_srcc, loo_mae, loo_scores, contradictions, made_at FROM requirement_features
    WHERE requirement_id = ANY (CAST(:ids AS bigint[])) ORDER BY requirement_id, made_at DESC, scorer_id
    """
)
_COUNTS = text(
    "SELECT requirement_id, count(*) AS n FROM requirement_pairs "
    "WHERE requirement_id = ANY (CAST(:ids AS bigint[])) GROUP BY requirement_id"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRow:
    """What one checkpoint made of the pairs."""

    scorer_id: str  #: of the checkpoint, without a requirement
    stability: Stability
    contradictions: tuple[str, ...]  #: accepted by force
    made_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RequirementRow:
    """One version of a requirement."""

    requirement: Requirement
    n_pairs: int
    checks: tuple[CheckRow, ...]  #: the newest first; none unless it is ready


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRow:
    """One image-score pair."""

    path: str
    score: float
    sha256: str | None  #: of the bytes that were read


def list_requirements(c: Connection, *, limit: int = 100, cursor: str | None = None) -> Page[RequirementRow]:
    """Return all versions by name. Raises `InvalidRequest` for a bad cursor or a limit outside 1-1000."""
    columns = requirements.c
    query = select(requirements).order_by(columns.name, columns.version).limit(check_limit(limit) + 1)
    if cursor is not None:
        name, version = decode("requirements", cursor, [str, int])
        there = tuple_(literal(name, columns.name.type), literal(version, columns.version.type))
        query = query.where(tuple_(columns.name, columns.version) > there)
    page = Page.cut(
        [to_requirement(row) for row in c.execute(query)],
        limit,
        lambda requirement: encode("requirements", [requirement.name, requirement.version]),
    )
    return Page(_with_checks(c, page.items), page.next_cursor)


def show_requirement(c: Connection, name_or_id: str) -> tuple[RequirementRow, list[PairRow]]:
    """Return `name@version`, or the newest version of `name`, ready ones first; and its pairs. Raises `NotFound`."""
    requirement = read_requirement(c, name_or_id)
    (row,) = _with_checks(c, [requirement])
    pairs = read_pairs(c, requirement)
    return row, [PairRow(path=pair.path, score=pair.score, sha256=sha256) for pair, sha256 in pairs]


def _with_checks(c: Connection, found: Sequence[Requirement]) -> list[RequirementRow]:
    ids = {"ids": [one.row_id for one in found]}
    counts = {row.requirement_id: row.n for row in c.execute(_COUNTS, ids)}
    checks: dict[int, list[CheckRow]] = defaultdict(list)
    for row in c.execute(_CHECKS, ids):
        check = CheckRow(
            scorer_id=row.scorer_id,
            stability=Stability(row.loo_srcc, row.loo_mae, tuple(row.loo_scores)),
            contradictions=tuple(row.contradictions),
            made_at=row.made_at,
        )
        checks[row.requirement_id].append(check)
    return [
        RequirementRow(requirement=one, n_pairs=counts[one.row_id], checks=tuple(checks[one.row_id])) for one in found
    ]
