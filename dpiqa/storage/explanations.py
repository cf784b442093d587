"""Explanations of scores: asked for by people, made by one worker at a time, and removed after a while.

Every function works within the caller's transaction and commits nothing.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from sqlalchemy import Connection, Interval, Row, bindparam, case, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from dpiqa.access import EVERYTHING, Grants
from dpiqa.errors import LeaseLost, LimitExceeded, NotFound
from dpiqa.storage.columns import NOW, after, constant
from dpiqa.storage.explanation_tables import explanations
from dpiqa.storage.leases import RowLease
from dpiqa.storage.tables import images
from dpiqa.types import ExplanationState, ImageRef

KEPT = timedelta(days=7)  #: after the request
MAX_PENDING = 20  #: explanations that wait at once: each costs the student about as much as 26 images


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A row of `explanations`. `attempt` is the fence of the worker that makes it."""

    id: int
    image_id: int
    profile: str
    state: ExplanationState
    scorer_id: str | None  #: the student; set when it is ready
    score: float | None  #: of the whole image by the student
    effect: list[float] | None  #: 8 x 8 cells, rows from the top; below 0 pulls the score down
    error: str | None  #: why it cannot be made
    created_at: datetime
    finished_at: datetime | None
    lease_until: datetime | None
    attempt: int
    crashes: int  #: workers that died while they made it

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """Read a row of `explanations`, all columns of it."""
        return cls(**row._mapping)


MAKING = RowLease(
    table=explanations,
    noun="the explanation",
    until=explanations.c.lease_until,
    fence=explanations.c.attempt,
    is_open=explanations.c.state == constant(ExplanationState.PENDING),
)
START_EXPLANATION = MAKING.start_statement(
    crashes=explanations.c.crashes + case((explanations.c.lease_until.is_(None), 0), else_=1)
)
RENEW_EXPLANATION = MAKING.write_statement(lease_until=after("lease"))
RELEASE_EXPLANATION = MAKING.write_statement()
FINISH_EXPLANATION = MAKING.write_statement(
    state=ExplanationState.READY,
    scorer_id=bindparam("scorer"),
    score=bindparam("of_whole"),
    effect=bindparam("cells"),
    finished_at=NOW,
)
FAIL_EXPLANATION = MAKING.write_statement(state=ExplanationState.FAILED, error=bindparam("why"), finished_at=NOW)
DUE_EXPLANATIONS = MAKING.free_rows()
REQUEST_EXPLANATION = insert(explanations).on_conflict_do_update(
    index_elements=["image_id", "profile"],
    set_={"state": ExplanationState.PENDING, "error": None, "finished_at": None, "crashes": 0, "created_at": NOW},
    where=explanations.c.state == constant(ExplanationState.FAILED),
)
COUNT_PENDING = (
    select(func.count()).select_from(explanations).where(explanations.c.state == constant(ExplanationState.PENDING))
)
_CURRENT_IMAGE = select(images.c.id).where(
    images.c.bucket == bindparam("of_bucket"), images.c.key == bindparam("of_key"), images.c.current
)
ONE_EXPLANATION = (
    select(explanations)
    .where(explanations.c.image_id.in_(_CURRENT_IMAGE))
    .where(explanations.c.profile == bindparam("of_profile"))
)
IMAGE_OF = (
    select(images.c.bucket, images.c.key, images.c.etag, images.c.version_id)
    .join(explanations, explanations.c.image_id == images.c.id)
    .where(explanations.c.id == bindparam("row_id"))
)
PRUNE_EXPLANATIONS = delete(explanations).where(explanations.c.created_at < NOW - bindparam("age", type_=Interval))


def request_explanation(c: Connection, bucket: str, key: str, profile: str, grants: Grants = EVERYTHING) -> Explanation:
    """Ask for an explanation of the current version of an object; one that is there, or waits, is returned.

    Raises `NotFound` for an object that the ledger does not know or the grants do not cover, and `LimitExceeded` while
    as many wait as are allowed.
    """
    known = read_explanation(c, bucket, key, profile, grants)
    if known is not None and known.state is not ExplanationState.FAILED:
        return known
    if c.execute(COUNT_PENDING).scalar_one() >= MAX_PENDING:
        raise LimitExceeded(
            f"{MAX_PENDING} explanations wait for a worker", hint="try again in a minute", retry_seconds=60
        )
    image_id = c.execute(_CURRENT_IMAGE, {"of_bucket": bucket, "of_key": key}).scalar_one_or_none()
    if image_id is None:
        raise NotFound(f"no current version of {key} is known", hint="submit it, or check the spelling of the key")
    values = {"image_id": image_id, "profile": profile, "state": ExplanationState.PENDING}
    c.execute(REQUEST_EXPLANATION, values)
    return Explanation.from_row(
        c.execute(ONE_EXPLANATION, {"of_bucket": bucket, "of_key": key, "of_profile": profile}).one()
    )


def read_explanation(
    c: Connection, bucket: str, key: str, profile: str, grants: Grants = EVERYTHING
) -> Explanation | None:
    """Return the explanation of the current version of an object; None: nobody asked. Raises `NotFound` by grants."""
    grants.require(bucket, key)
    row = c.execute(ONE_EXPLANATION, {"of_bucket": bucket, "of_key": key, "of_profile": profile}).one_or_none()
    return None if row is None else Explanation.from_row(row)


def start_explanation(c: Connection, row_id: int, lease_seconds: float) -> tuple[Explanation, ImageRef] | None:
    """Take a pending explanation, with its image. None if it does not wait, or another worker makes it."""
    row = MAKING.start(c, START_EXPLANATION, row_id, lease_seconds)
    if row is None:
        return None
    return Explanation.from_row(row), ImageRef(**c.execute(IMAGE_OF, {"row_id": row_id}).one()._mapping)


def renew_explanations(c: Connection, leases: Sequence[tuple[int, int]], lease_seconds: float) -> set[int]:
    """Renew the leases of `(row id, fence)` pairs; return the ids still held."""
    still_held = set()
    for row_id, fence in leases:
        with suppress(LeaseLost):
            MAKING.write(c, RENEW_EXPLANATION, row_id, fence, lease=timedelta(seconds=lease_seconds))
            still_held.add(row_id)
    return still_held


def finish_explanation(
    c: Connection, explanation: Explanation, *, scorer_id: str, score: float, effect: Sequence[float]
) -> None:
    """Store an explanation that is held. Raises `LeaseLost`."""
    values = {"scorer": scorer_id, "of_whole": score, "cells": list(effect)}
    MAKING.write(c, FINISH_EXPLANATION, explanation.id, explanation.attempt, **values)


def fail_explanation(c: Connection, explanation: Explanation, error: str) -> None:
    """Record that an explanation that is held cannot be made. Raises `LeaseLost`."""
    MAKING.write(c, FAIL_EXPLANATION, explanation.id, explanation.attempt, why=error)


def release_explanation(c: Connection, explanation: Explanation) -> None:
    """End the lease of an explanation, if it is still held, and let it wait: something outside is unavailable."""
    with suppress(LeaseLost):
        MAKING.write(c, RELEASE_EXPLANATION, explanation.id, explanation.attempt)


def due_explanations(c: Connection) -> list[int]:
    """Return the ids of pending explanations that no worker makes."""
    return list(c.execute(DUE_EXPLANATIONS).scalars())


def prune_explanations(c: Connection) -> None:
    """Delete explanations that were requested long ago."""
    c.execute(PRUNE_EXPLANATIONS, {"age": KEPT})
