"""Requirements in the database: numbered versions, never overwritten; their preparation by one worker at a time.

Every function works within the caller's transaction and commits nothing.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

import numpy as np
from sqlalchemy import Connection, Row, and_, bindparam, case, func, not_, select, update
from sqlalchemy.dialects.postgresql import insert

from dpiqa.access import EVERYTHING, Grants
from dpiqa.errors import ConfigurationError, Conflict, LeaseLost, NotFound
from dpiqa.requirement import Pair, Preparation, PreparedRequirement, RequirementRequest, Stability
from dpiqa.scorer_id import ScorerId
from dpiqa.storage.audit import audited
from dpiqa.storage.columns import NOW, after, constant
from dpiqa.storage.engine import Lock, lock_names
from dpiqa.storage.granted import visible_requirements
from dpiqa.storage.leases import RowLease
from dpiqa.storage.requirement_tables import requirement_features, requirement_pairs, requirements
from dpiqa.types import AuditAction, Direction, RequirementState


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """A row of `requirements`: one version. `attempt` is the fence of the worker that prepares it."""

    row_id: int
    name: str
    version: int  #: from 1
    direction: Direction
    model: str  #: name of the model that it was, or is to be, checked with
    force: bool  #: pairs that contradict each other are accepted
    state: RequirementState
    error: str | None  #: why it was refused
    created_at: datetime
    finished_at: datetime | None
    attempt: int
    crashes: int  #: workers that died while they prepared it

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """Read a row of `requirements`."""
        return cls(
            row_id=row.id,
            name=row.name,
            version=row.version,
            direction=row.direction,
            model=row.model,
            force=row.force,
            state=row.state,
            error=row.error,
            created_at=row.created_at,
            finished_at=row.finished_at,
            attempt=row.attempt,
            crashes=row.crashes,
        )

    @property
    def id(self) -> str:
        """Its name in scorer ids, profiles and commands: `name@version`."""
        return f"{self.name}@{self.version}"


_IS_NAMED = requirements.c.name == bindparam("of_name")
_IS_READY = requirements.c.state == constant(RequirementState.READY)
NEXT_VERSION = select(func.coalesce(func.max(requirements.c.version), 0) + 1).where(_IS_NAMED)
INSERT_REQUIREMENT = insert(requirements).returning(requirements)
INSERT_PAIRS = insert(requirement_pairs)
SAME_REQUEST = (
    select(requirements)
    .where(_IS_NAMED, requirements.c.request_hash == bindparam("hash"))
    .where(requirements.c.state != constant(RequirementState.REFUSED))
    .order_by(requirements.c.version.desc())
    .limit(1)
)
SAME_CONTENT = select(requirements).where(_IS_NAMED, requirements.c.content_hash == bindparam("hash"), _IS_READY)
NEWEST_VERSION = (
    select(requirements).where(_IS_NAMED).order_by(_IS_READY.desc(), requirements.c.version.desc()).limit(1)
)
IS_TAKEN = select(requirements.c.id).where(_IS_NAMED).limit(1)
ONE_VERSION = select(requirements).where(_IS_NAMED, requirements.c.version == bindparam("of_version"))
PAIRS = (
    select(requirement_pairs)
    .where(requirement_pairs.c.requirement_id == bindparam("row_id"))
    .order_by(requirement_pairs.c.position)
)
SET_DIGEST = (
    update(requirement_pairs)
    .where(requirement_pairs.c.requirement_id == bindparam("row_id"))
    .where(requirement_pairs.c.position == bindparam("at"))
    .values(sha256=bindparam("digest"))
)


def add_requirement(c: Connection, request: RequirementRequest, *, digests: Sequence[str] | None = None) -> Requirement:
    """Add the next version: `ready` where the images were read (`digests`: sha256 of each), else `pending`."""
    lock_requirement(c, request.name)
    values = {
        "name": request.name,
        "version": c.execute(NEXT_VERSION, {"of_name": request.name}).scalar_one(),
        "direction": request.direction,
        "model": request.model,
        "force": request.force,
        "request_hash": request.hash,
        "state": RequirementState.PENDING,
    }
    statement = INSERT_REQUIREMENT
    if digests is not None:
        values |= {"state": RequirementState.READY, "content_hash": request.content_hash(digests)}
        statement = statement.values(finished_at=NOW)
    requirement = Requirement.from_row(c.execute(statement, values).one())
    pairs = [
        {
            "requirement_id": requirement.row_id,
            "position": position,
            "path": pair.path,
            "score": pair.score,
            "sha256": None if digests is None else digests[position - 1],
        }
        for position, pair in enumerate(request.pairs, start=1)
    ]
    c.execute(INSERT_PAIRS, pairs)
    return requirement


def lock_requirement(c: Connection, name: str) -> None:
    """Hold the numbering of a requirement's versions until the transaction ends."""
    lock_names(c, Lock.REQUIREMENT, [name])


def same_request(c: Connection, name: str, request_hash: str) -> Requirement | None:
    """Return the version that the same request made, unless it was refused."""
    row = c.execute(SAME_REQUEST, {"of_name": name, "hash": request_hash}).one_or_none()
    return None if row is None else Requirement.from_row(row)


def same_content(c: Connection, name: str, content_hash: str) -> Requirement | None:
    """Return the version with the same images, scores and direction."""
    row = c.execute(SAME_CONTENT, {"of_name": name, "hash": content_hash}).one_or_none()
    return None if row is None else Requirement.from_row(row)


def submit_requirement(c: Connection, request: RequirementRequest, grants: Grants = EVERYTHING) -> Requirement:
    """Return the version that the same request made, unless it was refused; else add the next one, to be checked.

    Raises `NotFound` for images beyond the grants, and `Conflict` for a name that has versions with such images.
    """
    for pair in request.pairs:
        grants.require_address(pair.path)
    lock_requirement(c, request.name)
    if (
        grants.are_limited
        and c.execute(IS_TAKEN.where(not_(and_(*visible_requirements(grants)))), {"of_name": request.name}).first()
    ):
        raise Conflict(f"the name {request.name!r} is taken by a requirement of others", hint="choose another name")
    same = same_request(c, request.name, request.hash)
    if same is not None:
        return same
    added = add_requirement(c, request)
    audited(c, AuditAction.REQUIREMENT, added.id, model=request.model)
    return added


def read_requirement(c: Connection, name_or_id: str, grants: Grants = EVERYTHING) -> Requirement:
    """Return `name@version`, or the newest version of `name`: a ready one if there is one.

    `grants`: versions with images beyond them do not exist. Raises `NotFound`.
    """
    visible = visible_requirements(grants)
    name, _, version = name_or_id.partition("@")
    row = None
    if "@" not in name_or_id:
        row = c.execute(NEWEST_VERSION.where(*visible), {"of_name": name}).one_or_none()
    elif version.isascii() and version.isdecimal() and len(version) < 10:  # an integer to Postgres
        row = c.execute(ONE_VERSION.where(*visible), {"of_name": name, "of_version": int(version)}).one_or_none()
    if row is None:
        raise NotFound(f"no requirement {name_or_id!r}", hint="see `dpiqa requirements list`")
    return Requirement.from_row(row)


def read_pairs(c: Connection, requirement: Requirement) -> list[tuple[Pair, str | None]]:
    """Return the pairs in their order, each with the sha256 of its bytes once they were read."""
    rows = c.execute(PAIRS, {"row_id": requirement.row_id})
    return [(Pair(row.path, row.score), row.sha256) for row in rows]


# Preparation: one worker at a time


PREPARING = RowLease(
    table=requirements,
    noun="the preparation of requirement",
    until=requirements.c.lease_until,
    fence=requirements.c.attempt,
    is_open=requirements.c.state == constant(RequirementState.PENDING),
)
START_PREPARING = PREPARING.start_statement(
    crashes=requirements.c.crashes + case((requirements.c.lease_until.is_(None), 0), else_=1)
)
RENEW_PREPARING = PREPARING.write_statement(lease_until=after("lease"))
RELEASE_PREPARING = PREPARING.write_statement()
ACCEPT = PREPARING.write_statement(state=RequirementState.READY, content_hash=bindparam("content"), finished_at=NOW)
REFUSE = PREPARING.write_statement(state=RequirementState.REFUSED, error=bindparam("why"), finished_at=NOW)
UNPREPARED = PREPARING.free_rows()


def start_preparing(c: Connection, row_id: int, lease_seconds: float) -> Requirement | None:
    """Take a pending requirement. None if it is not pending, or another worker prepares it.

    A lease that ran out without being given back counts as a crash.
    """
    row = PREPARING.start(c, START_PREPARING, row_id, lease_seconds)
    return None if row is None else Requirement.from_row(row)


def renew_preparing(c: Connection, leases: Sequence[tuple[int, int]], lease_seconds: float) -> set[int]:
    """Renew the leases of `(row id, fence)` pairs; return the ids still held."""
    still_held = set()
    for row_id, fence in leases:
        with suppress(LeaseLost):
            PREPARING.write(c, RENEW_PREPARING, row_id, fence, lease=timedelta(seconds=lease_seconds))
            still_held.add(row_id)
    return still_held


def release_preparing(c: Connection, requirement: Requirement) -> None:
    """End the lease of a requirement, if it is still held, and leave it pending: something outside is unavailable."""
    with suppress(LeaseLost):
        PREPARING.write(c, RELEASE_PREPARING, requirement.row_id, requirement.attempt)


def accept(c: Connection, requirement: Requirement, *, digests: Sequence[str], content_hash: str) -> None:
    """Make a requirement that is held ready. Raises `LeaseLost`."""
    PREPARING.write(c, ACCEPT, requirement.row_id, requirement.attempt, content=content_hash)
    rows = [{"row_id": requirement.row_id, "at": at, "digest": digest} for at, digest in enumerate(digests, start=1)]
    c.execute(SET_DIGEST, rows)


def refuse(c: Connection, requirement: Requirement, error: str) -> None:
    """End a requirement that is held: no worker can prepare it. Raises `LeaseLost`."""
    PREPARING.write(c, REFUSE, requirement.row_id, requirement.attempt, why=error)


def unprepared(c: Connection) -> list[int]:
    """Return the row ids of pending requirements that no worker prepares."""
    return list(c.execute(UNPREPARED).scalars())


# Prompt features


INSERT_FEATURES = insert(requirement_features).on_conflict_do_nothing()
FEATURES = (
    select(requirement_features)
    .where(requirement_features.c.requirement_id == bindparam("row_id"))
    .order_by(requirement_features.c.made_at.desc(), requirement_features.c.scorer_id)
)
_LITTLE_ENDIAN = np.dtype("<f4")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredPreparation:
    """A row of `requirement_features`: a preparation, and when it was made."""

    preparation: Preparation
    made_at: datetime

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """Read a row of `requirement_features`."""
        features = np.frombuffer(row.features, dtype=_LITTLE_ENDIAN).reshape(-1, row.width).astype(np.float32)
        preparation = Preparation(
            scorer_id=row.scorer_id,
            features=features,
            stability=Stability(row.loo_srcc, row.loo_mae, tuple(row.loo_scores)),
            contradictions=tuple(row.contradictions),
        )
        return cls(preparation=preparation, made_at=row.made_at)


def save_preparation(c: Connection, requirement: Requirement, preparation: Preparation) -> None:
    """Store the prompt features of a requirement by one checkpoint. Features that are stored already stay."""
    values = {
        "requirement_id": requirement.row_id,
        "scorer_id": preparation.scorer_id,
        "features": np.ascontiguousarray(preparation.features, dtype=_LITTLE_ENDIAN).tobytes(),
        "width": preparation.features.shape[1],
        "loo_srcc": preparation.stability.srcc,
        "loo_mae": preparation.stability.mae,
        "loo_scores": list(preparation.stability.scores),
        "contradictions": list(preparation.contradictions),
    }
    c.execute(INSERT_FEATURES, values)


def read_preparations(c: Connection, requirement: Requirement, scorer_id: str | None = None) -> list[StoredPreparation]:
    """Return the preparations of a requirement, the newest first; with `scorer_id`, those with its weights."""
    stored = [StoredPreparation.from_row(row) for row in c.execute(FEATURES, {"row_id": requirement.row_id})]
    if scorer_id is None:
        return stored
    scorer = ScorerId.parse(scorer_id)
    return [row for row in stored if ScorerId.parse(row.preparation.scorer_id).same_checkpoint(scorer)]


def find_prepared(
    c: Connection, name_or_id: str, *, scorer_id: str | None = None, grants: Grants = EVERYTHING
) -> PreparedRequirement:
    """Return `name@version`, or the newest ready version of `name`, with the prompt features of a checkpoint.

    `scorer_id`: of the checkpoint, in any precision; without it, the newest features count. Raises
    `NotFound`, and `ConfigurationError` for a requirement that is not ready or has no features of this checkpoint.
    """
    requirement = read_requirement(c, name_or_id, grants)
    if requirement.state is RequirementState.REFUSED:
        raise ConfigurationError(
            f"requirement {requirement.id} was refused: {requirement.error}", hint="create it again with other pairs"
        )
    if requirement.state is RequirementState.PENDING:
        raise ConfigurationError(
            f"requirement {requirement.id} is not checked yet",
            hint=f"`dpiqa requirements show {requirement.id}` says how it stands; it needs a worker",
        )
    preparations = read_preparations(c, requirement, scorer_id)
    if not preparations:
        option = f" --model {ScorerId.parse(scorer_id).model}" if scorer_id else ""
        raise ConfigurationError(
            f"requirement {requirement.id} has no prompt features of {scorer_id or 'any model'}",
            hint=f"make them: `dpiqa requirements prepare {requirement.id}{option}`",
        )
    newest = preparations[0].preparation
    return PreparedRequirement(
        name=requirement.name,
        version=requirement.version,
        base_scorer_id=newest.scorer_id,
        features=newest.features,
        direction=requirement.direction,
    )
