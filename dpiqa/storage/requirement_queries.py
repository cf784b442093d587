"""Requirement queries: versions with their pairs and with the check by each checkpoint."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import BigInteger, Connection, any_, func, literal, select, tuple_

from dpiqa.requirement import Stability
from dpiqa.storage.columns import array
from dpiqa.storage.pages import Page, check_limit, decode, encode
from dpiqa.storage.requirements import Requirement, read_pairs, read_requirement
from dpiqa.storage.tables import requirement_features, requirement_pairs, requirements

CHECKS = (
    select(requirement_features)
    .where(requirement_features.c.requirement_id == any_(array("ids", BigInteger)))
    .order_by(
        requirement_features.c.requirement_id, requirement_features.c.made_at.desc(), requirement_features.c.scorer_id
    )
)
PAIR_COUNTS = (
    select(requirement_pairs.c.requirement_id, func.count().label("n"))
    .where(requirement_pairs.c.requirement_id == any_(array("ids", BigInteger)))
    .group_by(requirement_pairs.c.requirement_id)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRow:
    """The check of the pairs by one checkpoint."""

    scorer_id: str  #: of the checkpoint, without a requirement
    stability: Stability
    contradictions: tuple[str, ...]  #: accepted by force
    made_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RequirementRow:
    """One version of a requirement, with the number of its pairs and its checks."""

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
        last = tuple_(literal(name, columns.name.type), literal(version, columns.version.type))
        query = query.where(tuple_(columns.name, columns.version) > last)
    page = Page.cut(
        [Requirement.from_row(row) for row in c.execute(query)],
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


def _with_checks(c: Connection, versions: Sequence[Requirement]) -> list[RequirementRow]:
    ids = {"ids": [requirement.row_id for requirement in versions]}
    counts = {row.requirement_id: row.n for row in c.execute(PAIR_COUNTS, ids)}
    checks: dict[int, list[CheckRow]] = defaultdict(list)
    for row in c.execute(CHECKS, ids):
        check = CheckRow(
            scorer_id=row.scorer_id,
            stability=Stability(row.loo_srcc, row.loo_mae, tuple(row.loo_scores)),
            contradictions=tuple(row.contradictions),
            made_at=row.made_at,
        )
        checks[row.requirement_id].append(check)
    return [
        RequirementRow(
            requirement=requirement, n_pairs=counts[requirement.row_id], checks=tuple(checks[requirement.row_id])
        )
        for requirement in versions
    ]
