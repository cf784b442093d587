"""Requirements in the database: numbered versions, never overwritten; their preparation by one worker at a time.

Every function works within the caller's transaction and commits nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from dpiqa.errors import ConfigurationError, LeaseLost, NotFound
from dpiqa.requirement import Pair, Preparation, PreparedRequirement, RequirementRequest, Stability
from dpiqa.scorer_id import ScorerId
from dpiqa.storage.engine import Lock, lock_names
from dpiqa.types import Direction, RequirementState


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One version of a requirement. `attempt` is the fence of whoever prepares it."""

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

    @property
    def id(self) -> str:
        """How scorers and people name it."""
        return f"{self.name}@{self.version}"


_INSERT = text(
    """
    INSERT INTO requirements
        (name, version, direction, model, force, state, request_hash, content_hash, finished_at)
    SELECT :name, coalesce(max(version), 0) + 1, :direction, :model, :force,
        CASE WHEN CAST(:content_hash AS text) IS NULL THEN 'pending' ELSE 'ready' END, :request_hash, :content_hash,
        CASE WHEN CAST(:content_hash AS text) IS NULL THEN NULL ELSE clock_timestamp() END
    FROM requirements WHERE name = :name
    RETURNING *
    """
)
_INSERT_PAIRS = text(
    """
    INSERT INTO requirement_pairs (requirement_id, position, path, score, sha256)
    SELECT :id, position, path, score, sha256
    FROM unnest(CAST(:paths AS text[]), CAST(:scores AS double precision[]), CAST(:digests AS text[]))
        WITH ORDINALITY AS given (path, score, sha256, position)
    """
)
_SAME_REQUEST = text(
    "SELECT * FROM requirements WHERE name = :name AND request_hash = :hash AND state <> 'refused' "
    "ORDER BY version DESC LIMIT 1"
)
_SAME_CONTENT = text("SELECT * FROM requirements WHERE name = :name AND content_hash = :hash AND state = 'ready'")
_FIND = text(
    """
    SELECT * FROM requirements WHERE name = :name AND (CAST(:version AS integer) IS NULL OR version = :version)
    ORDER BY (state = :first) DESC, version DESC LIMIT 1
    """
)
_START = text(
    """
    UPDATE requirements SET attempt = attempt + 1, crashes = crashes + CASE WHEN lease_until IS NULL THEN 0 ELSE 1 END,
        lease_until = clock_timestamp() + make_interval(secs => :seconds)
    WHERE id = :id AND state = 'pending' AND (lease_until IS NULL OR lease_until < clock_timestamp())
    RETURNING *
    """
)
_HELD = "WHERE id = :id AND state = 'pending' AND attempt = :fence RETURNING id"
_RENEW = text(f"UPDATE requirements SET lease_until = clock_timestamp() + make_interval(secs => :seconds) {_HELD}")  # noqa: S608 (a constant)
_RELEASE = text(f"UPDATE requirements SET lease_until = NULL {_HELD}")  # noqa: S608
_ACCEPT = text(
    f"""
    UPDATE requirements SET state = 'ready', content_hash = :content_hash, lease_until = NULL,
        finished_at = clock_timestamp() {_HELD}
    """  # noqa: S608
)
_REFUSE = text(
    f"""
    UPDATE requirements SET state = 'refused', error = :error, lease_until = NULL,
        finished_at = clock_timestamp() {_HELD}
    """  # noqa: S608
)
_SET_DIGESTS = text(
    """
    UPDATE requirement_pairs p SET sha256 = given.sha256
    FROM unnest(CAST(:digests AS text[])) WITH ORDINALITY AS given (sha256, position)
    WHERE p.requirement_id = :id AND p.position = given.position
    """
)
_PAIRS = text("SELECT path, score, sha256 FROM requirement_pairs WHERE requirement_id = :id ORDER BY position")
_UNPREPARED = text(
    "SELECT id FROM requirements WHERE state = 'pending' "
    "AND (lease_until IS NULL OR lease_until < clock_timestamp()) ORDER BY created_at, id"
)


def add_requirement(c: Connection, wanted: RequirementRequest, *, digests: Sequence[str] | None = None) -> Requirement:
    """Add the next version: `ready` where the images were read (`digests`: sha256 of each), else `pending`."""
    lock_requirement(c, wanted.name)
    values = {
        "name": wanted.name,
        "direction": wanted.direction,
        "model": wanted.model,
        "force": wanted.force,
        "request_hash": wanted.hash,
        "content_hash": None if digests is None else wanted.content_hash(digests),
    }
    row = c.execute(_INSERT, values).one()
    pairs = {
        "id": row.id,
        "paths": [pair.path for pair in wanted.pairs],
        "scores": [pair.score for pair in wanted.pairs],
        "digests": [None] * len(wanted.pairs) if digests is None else list(digests),
    }
    c.execute(_INSERT_PAIRS, pairs)
    return to_requirement(row)


def lock_requirement(c: Connection, name: str) -> None:
    """Hold the numbering of a requirement's versions until the transaction ends."""
    lock_names(c, Lock.REQUIREMENT, [name])


def same_request(c: Connection, name: str, request_hash: str) -> Requirement | None:
    """Return the version that the same request made, unless it was refused."""
    return _one(c.execute(_SAME_REQUEST, {"name": name, "hash": request_hash}).one_or_none())


def same_content(c: Connection, name: str, content_hash: str) -> Requirement | None:
    """Return the version with the same images, scores and direction."""
    return _one(c.execute(_SAME_CONTENT, {"name": name, "hash": content_hash}).one_or_none())


def read_requirement(c: Connection, name_or_id: str) -> Requirement:
    """Return `name@version`, or the newest version of `name`: a ready one where there is one. Raises `NotFound`."""
    name, _, version = name_or_id.partition("@")
    known = version.isascii() and version.isdecimal() and len(version) < 10
    number = int(version) if known else None
    row = None
    if known or "@" not in name_or_id:
        values = {"name": name, "version": number, "first": RequirementState.READY}
        row = c.execute(_FIND, values).one_or_none()
    if row is None:
        raise NotFound(f"no requirement {name_or_id!r}", hint="see `dpiqa requirements list`")
    return to_requirement(row)


def read_pairs(c: Connection, requirement: Requirement) -> list[tuple[Pair, str | None]]:
    """Return the pairs in their order, each with the sha256 of its bytes once they were read."""
    rows = c.execute(_PAIRS, {"id": requirement.row_id})
    return [(Pair(row.path, row.score), row.sha256) for row in rows]


def start_preparing(c: Connection, row_id: int, lease_seconds: float) -> Requirement | None:
    """Take a pending requirement. None if it is not pending, or somebody is at it.

    A lease that ran out without being given back counts as a crash.
    """
    return _one(c.execute(_START, {"id": row_id, "seconds": lease_seconds}).one_or_none())


def renew_preparing(c: Connection, held: Sequence[tuple[int, int]], lease_seconds: float) -> set[int]:
    """Renew the leases of `(row id, fence)` pairs; return the ids still held."""
    asked = ({"id": row_id, "fence": fence, "seconds": lease_seconds} for row_id, fence in held)
    return {row.id for values in asked for row in c.execute(_RENEW, values)}


def release_preparing(c: Connection, requirement: Requirement) -> None:
    """Give it back untouched: the world was away."""
    c.execute(_RELEASE, _fence(requirement))


def accept(c: Connection, requirement: Requirement, *, digests: Sequence[str], content_hash: str) -> None:
    """Make a requirement that is held ready. Raises `LeaseLost`."""
    _held(c.execute(_ACCEPT, {**_fence(requirement), "content_hash": content_hash}).one_or_none(), requirement)
    c.execute(_SET_DIGESTS, {"id": requirement.row_id, "digests": list(digests)})


def refuse(c: Connection, requirement: Requirement, error: str) -> None:
    """End a requirement that is held: it cannot be prepared, whoever tries. Raises `LeaseLost`."""
    _held(c.execute(_REFUSE, {**_fence(requirement), "error": error}).one_or_none(), requirement)


def unprepared(c: Connection) -> list[int]:
    """Return the row ids of pending requirements that nobody is at."""
    return list(c.execute(_UNPREPARED).scalars())


def to_requirement(row: Row[Any]) -> Requirement:
    """Read a row of `requirements`."""
    fields = {name: row._mapping[name] for name in Requirement.__dataclass_fields__ if name != "row_id"}
    fields.update(row_id=row.id, direction=Direction(row.direction), state=RequirementState(row.state))
    return Requirement(**fields)


def _one(row: Row[Any] | None) -> Requirement | None:
    return None if row is None else to_requirement(row)


def _fence(requirement: Requirement) -> dict[str, object]:
    return {"id": requirement.row_id, "fence": requirement.attempt}


def _held(row: object, requirement: Requirement) -> None:
    if row is None:
        raise LeaseLost(f"requirement {requirement.id} is prepared by somebody else")


_SAVE = text(
    """
    INSERT INTO requirement_features
        (requirement_id, scorer_id, features, width, loo_srcc, loo_mae, loo_scores, contradictions)
    VALUES (:id, :scorer_id, :features, :width, :srcc, :mae, CAST(:scores AS double precision[]), :contradictions)
    ON CONFLICT DO NOTHING
    """
).bindparams(bindparam("contradictions", type_=JSONB))
_READ = text("SELECT * FROM requirement_features WHERE requirement_id = :id ORDER BY made_at DESC, scorer_id")
_LITTLE_ENDIAN = np.dtype("<f4")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredPreparation:
    """A preparation, and when it was made."""

    preparation: Preparation
    made_at: datetime


def save_preparation(c: Connection, requirement: Requirement, made: Preparation) -> None:
    """Keep what a checkpoint makes of a requirement. What is kept already stays."""
    values = {
        "id": requirement.row_id,
        "scorer_id": made.scorer_id,
        "features": np.ascontiguousarray(made.features, dtype=_LITTLE_ENDIAN).tobytes(),
        "width": made.features.shape[1],
        "srcc": made.stability.srcc,
        "mae": made.stability.mae,
        "scores": list(made.stability.scores),
        "contradictions": list(made.contradictions),
    }
    c.execute(_SAVE, values)


def read_preparations(c: Connection, requirement: Requirement, scorer_id: str | None = None) -> list[StoredPreparation]:
    """Return what checkpoints made of a requirement, the newest first; with `scorer_id` those with its weights."""
    stored = [_to_stored(row) for row in c.execute(_READ, {"id": requirement.row_id})]
    if scorer_id is None:
        return stored
    scorer = ScorerId.parse(scorer_id)
    return [row for row in stored if ScorerId.parse(row.preparation.scorer_id).same_checkpoint(scorer)]


def _to_stored(row: Row[Any]) -> StoredPreparation:
    features = np.frombuffer(row.features, dtype=_LITTLE_ENDIAN).reshape(-1, row.width).astype(np.float32)
    made = Preparation(
        scorer_id=row.scorer_id,
        features=features,
        stability=Stability(row.loo_srcc, row.loo_mae, tuple(row.loo_scores)),
        contradictions=tuple(row.contradictions),
    )
    return StoredPreparation(preparation=made, made_at=row.made_at)


def find(connection: Connection, name_or_id: str, *, scorer_id: str | None = None) -> PreparedRequirement:
    """Return `name@version`, or the newest ready version of `name`, with the prompt features of a checkpoint.

    `scorer_id`: of the checkpoint, in any precision; without it, the newest features count. Raises
    `NotFound`, and `ConfigurationError` for a requirement that is not ready or has no features of this checkpoint.
    """
    requirement = read_requirement(connection, name_or_id)
    _require_ready(requirement)
    made = read_preparations(connection, requirement, scorer_id)
    if not made:
        raise ConfigurationError(
            f"requirement {requirement.id} has no prompt features of {scorer_id or 'any model'}",
            hint=f"make them: `dpiqa requirements prepare {requirement.id}{_option(scorer_id)}`",
        )
    newest = made[0].preparation
    return PreparedRequirement(
        name=requirement.name,
        version=requirement.version,
        base_scorer_id=newest.scorer_id,
        features=newest.features,
        direction=requirement.direction,
    )


def _option(scorer_id: str | None) -> str:
    return f" --model {ScorerId.parse(scorer_id).model}" if scorer_id else ""


def _require_ready(requirement: Requirement) -> None:
    if requirement.state is RequirementState.REFUSED:
        raise ConfigurationError(
            f"requirement {requirement.id} was refused: {requirement.error}", hint="create it again with other pairs"
        )
    if requirement.state is RequirementState.PENDING:
        raise ConfigurationError(
            f"requirement {requirement.id} is not checked yet",
            hint=f"`dpiqa requirements show {requirement.id}` says how it stands; it needs a worker",
        )
