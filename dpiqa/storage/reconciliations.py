"""Reconciliations: comparisons of a bucket with the ledger, one at a time per bucket and prefix, resumable."""

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID, uuid4

from sqlalchemy import Connection, Row, Uuid, bindparam, case, func, literal, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from dpiqa.access import EVERYTHING, Grants
from dpiqa.addresses import S3Address
from dpiqa.errors import Conflict, InvalidRequest, NotFound
from dpiqa.storage.audit import audited
from dpiqa.storage.columns import NOW, after, constants
from dpiqa.storage.granted import visible_reconciliations
from dpiqa.storage.leases import RowLease
from dpiqa.storage.pages import Page, check_limit, decode, encode, malformed_cursor
from dpiqa.storage.watch_tables import reconciliations
from dpiqa.text import shorten
from dpiqa.types import OPEN_RECONCILIATION_STATES, AuditAction, Difference, ReconciliationState

MAX_DELETED = 50  #: percent of the ledger's objects; more look like a mistake, and nothing is marked


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """A row of `reconciliations`. `attempt` is the fence of the process that works on it."""

    id: UUID
    bucket: str
    prefix: str
    profile: str
    inventory: str | None  #: address of its manifest; None: the bucket is listed
    dry_run: bool
    max_deleted: int  #: percent of the ledger's objects
    watch_id: UUID | None  #: whose schedule asked for it
    state: ReconciliationState
    cursor: str | None  #: last key that was compared, or marked
    as_of: datetime | None  #: the time that the listing or inventory shows
    loaded: int  #: rows of the inventory
    counts: dict[str, int]  #: objects by kind, see `Counted`
    examples: dict[str, list[str]]  #: by kind of difference, up to ten keys
    job_id: UUID | None  #: the job that its missing and changed objects went to
    error: str | None
    lease_until: datetime | None
    attempt: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    grants: list[str] | None  #: what the caller's key is limited to; None: no limit

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """Read a row of `reconciliations`, all columns of it."""
        return cls(**row._mapping)

    def seen_within(self, grants: Grants) -> Self:
        """Return it without the address of its inventory where that is beyond the grants of who looks at it."""
        is_seen = self.inventory is None or grants.cover_address(self.inventory)
        return self if is_seen else replace(self, inventory=None)

    @property
    def address(self) -> S3Address:
        """Bucket and prefix."""
        return S3Address(self.bucket, self.prefix)

    @property
    def short_id(self) -> str:
        """The beginning of the id, as tables show it."""
        return self.id.hex[:8]

    @property
    def is_open(self) -> bool:
        """Return whether there is something left to do."""
        return self.state in OPEN_RECONCILIATION_STATES

    @property
    def n_differences(self) -> int:
        """Objects that were missing, changed or deleted."""
        return sum(self.counts.get(kind, 0) for kind in (Difference.MISSING, Difference.CHANGED, Difference.DELETED))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconciliationRequest:
    """The request of a user, or the schedule of a watch, asks for."""

    address: S3Address
    profile: str  #: id of one that the ledger knows, see `remember_profile`
    inventory: str | None = None
    dry_run: bool = False
    max_deleted: int = MAX_DELETED
    watch_id: UUID | None = None
    grants: Grants = EVERYTHING  #: of the caller, within which the inventory is read

    def is_of(self, other: Reconciliation) -> bool:
        """Return whether the other one does the same."""
        mine = (self.profile, self.inventory, self.dry_run, self.max_deleted)
        return mine == (other.profile, other.inventory, other.dry_run, other.max_deleted)


_IS_OPEN = reconciliations.c.state.in_(constants(s for s in ReconciliationState if s in OPEN_RECONCILIATION_STATES))
INSERT_RECONCILIATION = insert(reconciliations).on_conflict_do_nothing().returning(reconciliations)
BY_ID_RANGE = (
    select(reconciliations)
    .where(reconciliations.c.id.between(bindparam("first_id"), bindparam("last_id")))
    .order_by(reconciliations.c.id)
    .limit(2)
)
_HINT = "`dpiqa reconciliations` or GET /v1/reconciliations lists them"
LOCK_OPEN = (
    select(reconciliations, (reconciliations.c.lease_until > NOW).label("is_held"))
    .where(_IS_OPEN, reconciliations.c.bucket == bindparam("in_bucket"), reconciliations.c.prefix == bindparam("of"))
    .with_for_update()
)
WORKING = RowLease(
    table=reconciliations,
    noun="reconciliation",
    until=reconciliations.c.lease_until,
    fence=reconciliations.c.attempt,
    is_open=_IS_OPEN,
)
START = WORKING.start_statement(
    started_at=func.coalesce(reconciliations.c.started_at, NOW),
    # A listing that is resumed began when the first process began.
    as_of=func.coalesce(reconciliations.c.as_of, case((reconciliations.c.inventory.is_(None), NOW))),
)
RELEASE = WORKING.write_statement()
SAVE = WORKING.write_statement(
    state=bindparam("new_state", type_=reconciliations.c.state.type),
    cursor=bindparam("last"),
    as_of=func.coalesce(bindparam("shows", type_=reconciliations.c.as_of.type), reconciliations.c.as_of),
    loaded=bindparam("rows"),
    counts=bindparam("numbers", type_=reconciliations.c.counts.type),
    examples=bindparam("keys", type_=reconciliations.c.examples.type),
    job_id=bindparam("job", type_=Uuid),
    lease_until=after("lease"),
)
COMPLETE = WORKING.write_statement(state=ReconciliationState.COMPLETE, finished_at=NOW)
FAIL = WORKING.write_statement(state=ReconciliationState.FAILED, error=bindparam("why"), finished_at=NOW)
SUPERSEDE = (
    update(reconciliations)
    .where(reconciliations.c.id == bindparam("row_id"))
    .values(state=ReconciliationState.FAILED, error=bindparam("why"), finished_at=NOW, lease_until=None)
)
UNFINISHED = WORKING.free_rows()


def request_reconciliation(c: Connection, request: ReconciliationRequest, *, take_over: bool = True) -> Reconciliation:
    """Create a reconciliation, or return the open one that does the same.

    An open one that does something else is ended where no process works on it. Raises `Conflict` where one does, and
    without `take_over`.
    """
    values = {
        "id": uuid4(),
        "bucket": request.address.bucket,
        "prefix": request.address.key,
        "profile": request.profile,
        "inventory": request.inventory,
        "dry_run": request.dry_run,
        "max_deleted": request.max_deleted,
        "watch_id": request.watch_id,
        "state": ReconciliationState.LOADING if request.inventory else ReconciliationState.COMPARING,
        "grants": request.grants.stored(),
    }
    while True:
        row = c.execute(INSERT_RECONCILIATION, values).one_or_none()
        if row is not None:
            audited(c, AuditAction.RECONCILE, row.id, address=str(request.address), dry_run=request.dry_run)
            return Reconciliation.from_row(row)
        row = c.execute(LOCK_OPEN, {"in_bucket": request.address.bucket, "of": request.address.key}).one_or_none()
        if row is None:
            continue  # it ended in between
        found = dict(row._mapping)
        is_held = found.pop("is_held")
        other = Reconciliation(**found)
        if request.is_of(other):
            return other
        if is_held or not take_over:
            raise Conflict(
                f"{request.address} is being reconciled with other options: {other.short_id}",
                hint=f"wait for it: `dpiqa reconciliations {other.short_id}`",
            )
        c.execute(SUPERSEDE, {"row_id": other.id, "why": "a request with other options took its place"})


def read_reconciliation(c: Connection, name: UUID | str, grants: Grants = EVERYTHING) -> Reconciliation:
    """Return the reconciliation of this id, or of the only id that begins with `name` (6 or more hex digits).

    `grants`: those beyond them do not exist.

    Raises `NotFound`, and `InvalidRequest` for text that cannot be an id and for the beginning of several ids.
    """
    digits = (name.hex if isinstance(name, UUID) else name).replace("-", "").lower()
    if not re.fullmatch("[0-9a-f]{6,32}", digits):
        raise InvalidRequest(f"{shorten(str(name), 80)!r} is not an id of a reconciliation", hint=_HINT)
    id_range = {"first_id": UUID(digits.ljust(32, "0")), "last_id": UUID(digits.ljust(32, "f"))}
    rows = c.execute(BY_ID_RANGE.where(*visible_reconciliations(grants)), id_range).all()
    if not rows:
        raise NotFound(f"no reconciliation {name}", hint=_HINT)
    if len(rows) > 1:
        raise InvalidRequest(f"several ids of reconciliations begin with {name}", hint="name more of the id")
    return Reconciliation.from_row(rows[0]).seen_within(grants)


def list_reconciliations(
    c: Connection,
    *,
    bucket: str | None = None,
    prefix: str | None = None,
    grants: Grants = EVERYTHING,
    limit: int = 100,
    cursor: str | None = None,
) -> Page[Reconciliation]:
    """Return reconciliations within the grants, newest first; those of exactly this bucket and prefix, if given.

    Raises `InvalidRequest` for a bad cursor or a limit outside 1-1000.
    """
    query_id = ("reconciliations", bucket, prefix, *(grants.texts or ()))
    newest_first = reconciliations.c.created_at.desc(), reconciliations.c.id.desc()
    visible = visible_reconciliations(grants)
    query = select(reconciliations).where(*visible).order_by(*newest_first).limit(check_limit(limit) + 1)
    if bucket is not None:
        query = query.where(reconciliations.c.bucket == bucket)
    if prefix is not None:
        query = query.where(reconciliations.c.prefix == prefix)
    if cursor is not None:
        created_at, row_id = decode(query_id, cursor, [str, str])
        try:
            position = datetime.fromisoformat(str(created_at)), UUID(str(row_id))
        except ValueError:
            raise malformed_cursor() from None
        last = tuple_(literal(position[0], reconciliations.c.created_at.type), literal(position[1], Uuid()))
        query = query.where(tuple_(reconciliations.c.created_at, reconciliations.c.id) < last)
    rows = [Reconciliation.from_row(row).seen_within(grants) for row in c.execute(query)]
    return Page.cut(rows, limit, lambda row: encode(query_id, [row.created_at.isoformat(), str(row.id)]))


# Work on one, by one process at a time


def start_reconciliation(c: Connection, row_id: UUID, lease_seconds: float) -> Reconciliation | None:
    """Take it, to go on after its cursor. None if it has ended, or another process works on it."""
    row = WORKING.start(c, START, row_id, lease_seconds)
    return None if row is None else Reconciliation.from_row(row)


def save_reconciliation(c: Connection, changed: Reconciliation, lease_seconds: float) -> None:
    """Store how far it is, in the transaction of the step, and renew the lease. Raises `LeaseLost`."""
    WORKING.write(
        c,
        SAVE,
        changed.id,
        changed.attempt,
        new_state=changed.state,
        last=changed.cursor,
        shows=changed.as_of,
        rows=changed.loaded,
        numbers=changed.counts,
        keys=changed.examples,
        job=changed.job_id,
        lease=timedelta(seconds=lease_seconds),
    )


def release_reconciliation(c: Connection, held: Reconciliation) -> None:
    """End the lease: another process may go on. Raises `LeaseLost`."""
    WORKING.write(c, RELEASE, held.id, held.attempt)


def complete_reconciliation(c: Connection, held: Reconciliation) -> None:
    """End it as complete. Raises `LeaseLost`."""
    WORKING.write(c, COMPLETE, held.id, held.attempt)


def fail_reconciliation(c: Connection, held: Reconciliation, error: str) -> None:
    """End it as failed. Raises `LeaseLost`."""
    WORKING.write(c, FAIL, held.id, held.attempt, why=error)


def unfinished_reconciliations(c: Connection) -> list[UUID]:
    """Return the open ones that no process works on, oldest first."""
    return list(c.execute(UNFINISHED).scalars())


# Schedule


# Moves the due time of each watch whose reconciliation is due, and returns what to reconcile. Missed times are not made
# up for. Raw: rows are locked and changed by one statement, and skipped where another worker has them.
TAKE_DUE = text(
    """
    WITH due AS (
        SELECT w.job_id, j.bucket, j.prefix, j.profile FROM watches w JOIN jobs j ON j.id = w.job_id
        WHERE w.reconcile_due_at <= clock_timestamp() AND j.state = 'watching'
        ORDER BY w.job_id FOR NO KEY UPDATE OF w SKIP LOCKED)
    UPDATE watches SET reconcile_due_at = clock_timestamp() + make_interval(secs => reconcile_seconds)
    FROM due WHERE watches.job_id = due.job_id
    RETURNING due.*
    """
)


def request_due(c: Connection) -> None:
    """Request the reconciliations of watches that are due by their schedules. One that is open already is enough."""
    for row in c.execute(TAKE_DUE).all():
        request = ReconciliationRequest(
            address=S3Address(row.bucket, row.prefix), profile=row.profile, watch_id=row.job_id
        )
        with suppress(Conflict):
            request_reconciliation(c, request, take_over=False)
