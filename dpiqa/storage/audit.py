"""The audit: who submitted, cancelled, deleted, exported and changed keys. Written in the transaction of the change."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from sqlalchemy import Connection, Row, bindparam, delete, insert, select

from dpiqa.access import current_actor
from dpiqa.storage.access_tables import audit
from dpiqa.storage.columns import NOW
from dpiqa.storage.pages import Page, check_limit, decode, encode
from dpiqa.text import shorten, storable
from dpiqa.types import AuditAction

_MAX_SUBJECT = 1300  #: characters
_PRUNED = 10_000  #: entries removed in one transaction

INSERT_ENTRY = insert(audit)
_OLD = select(audit.c.id).where(audit.c.at < bindparam("before", type_=audit.c.at.type)).order_by(audit.c.at)
PRUNE_ENTRIES = delete(audit).where(audit.c.id.in_(_OLD.limit(_PRUNED)))


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """A row of `audit`."""

    id: int
    at: datetime
    actor: str  #: name of the key, `bootstrap`, `local` or `cli`
    key_id: str | None
    account: str | None  #: user and machine of the command line
    address: str | None  #: network address of the caller of the API
    request_id: str | None
    action: AuditAction
    subject: str  #: id or address of what it was done to
    detail: dict[str, Any] | None

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """Read a row of `audit`."""
        return cls(**row._mapping)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Conditions on entries; None is none."""

    since: datetime | None = None
    until: datetime | None = None  #: earlier than this
    actor: str | None = None  #: name of a key, or its id
    action: AuditAction | None = None
    subject: str | None = None  #: begins so


def audited(c: Connection, action: AuditAction, subject: object, **detail: object) -> None:
    """Write down what the actor of this context does; nothing where the system itself acts.

    `detail`: JSON values, never secrets; None ones are left out.
    """
    actor = current_actor()
    if actor is None:
        return
    values = {
        "actor": actor.name,
        "key_id": actor.key_id,
        "account": storable(actor.account),
        "address": actor.address,
        "request_id": actor.request_id,
        "action": action,
        "subject": storable(shorten(str(subject), _MAX_SUBJECT)),
        "detail": {name: value for name, value in detail.items() if value not in (None, "", [], ())} or None,
    }
    c.execute(INSERT_ENTRY, values)


def list_audit(
    c: Connection,
    chosen: AuditFilter = AuditFilter(),
    *,
    limit: int = 100,
    cursor: str | None = None,
) -> Page[AuditEntry]:
    """Return entries, the newest first. Raises `InvalidRequest` for a bad cursor or a limit outside 1-1000."""
    query = select(audit).order_by(audit.c.id.desc()).limit(check_limit(limit) + 1)
    if chosen.since is not None:
        query = query.where(audit.c.at >= chosen.since)
    if chosen.until is not None:
        query = query.where(audit.c.at < chosen.until)
    if chosen.actor is not None:
        query = query.where((audit.c.actor == chosen.actor) | (audit.c.key_id == chosen.actor))
    if chosen.action is not None:
        query = query.where(audit.c.action == chosen.action)
    if chosen.subject is not None:
        query = query.where(audit.c.subject.startswith(chosen.subject, autoescape=True))
    if cursor is not None:
        query = query.where(audit.c.id < decode(chosen, cursor, [int])[0])
    rows = [AuditEntry.from_row(row) for row in c.execute(query)]
    return Page.cut(rows, limit, lambda row: encode(chosen, [row.id]))


def prune_audit(c: Connection, days: float) -> bool:
    """Remove some entries older than so many days. Returns whether more may be left."""
    before = c.execute(select(NOW - timedelta(days=days))).scalar_one()
    return c.execute(PRUNE_ENTRIES, {"before": before}).rowcount >= _PRUNED
