"""Leases of single rows: a job while it is listed, a requirement while it is prepared; one worker at a time.

Each start raises the row's fence. A worker whose fence is older than the row's has lost the lease.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, Select, Table, Update, bindparam, or_, select, update
from sqlalchemy.sql.elements import KeyedColumnElement

from dpiqa.errors import LeaseLost
from dpiqa.storage.columns import NOW, after


@dataclass(frozen=True, slots=True, kw_only=True)
class RowLease:
    """The columns that make the lease of a table's rows, and the statements that enforce it."""

    table: Table
    noun: str  #: of a row, for messages
    until: KeyedColumnElement[Any]  #: NULL: no worker holds the row
    fence: KeyedColumnElement[Any]
    is_open: ColumnElement[bool]  #: there is something left to do

    @property
    def is_free(self) -> ColumnElement[bool]:
        """The condition that a row waits and no worker holds it."""
        return self.is_open & or_(self.until.is_(None), self.until < NOW)

    def free_rows(self) -> Select[Any]:
        """Return the query for the ids of free rows, oldest first."""
        return select(self.table.c.id).where(self.is_free).order_by(self.table.c.created_at, self.table.c.id)

    def start_statement(self, **values: Any) -> Update:
        """Return the statement of `start`; it also sets `values`."""
        lease = {self.fence.key: self.fence + 1, self.until.key: after("lease")}
        statement = update(self.table).where(self.table.c.id == bindparam("row_id"), self.is_free)
        return statement.values({**lease, **values}).returning(self.table)

    def write_statement(self, **values: Any) -> Update:
        """Return a statement for `write`: it sets `values`, and ends the lease unless they say otherwise."""
        is_held = self.is_open & (self.fence == bindparam("held_fence"))
        statement = update(self.table).where(self.table.c.id == bindparam("row_id"), is_held)
        return statement.values({self.until.key: None, **values}).returning(self.table.c.id)

    def start(self, c: Connection, statement: Update, row_id: UUID | int, lease_seconds: float) -> Row[Any] | None:
        """Take the lease of a row and return the row; None if it does not wait, or another worker holds it."""
        lease = timedelta(seconds=lease_seconds)
        return c.execute(statement, {"row_id": row_id, "lease": lease}).one_or_none()

    def write(self, c: Connection, statement: Update, row_id: UUID | int, fence: int, **values: object) -> None:
        """Update a row that is held. Raises `LeaseLost`."""
        if c.execute(statement, {"row_id": row_id, "held_fence": fence, **values}).one_or_none() is None:
            raise LeaseLost(f"another worker took over {self.noun} {row_id}")
