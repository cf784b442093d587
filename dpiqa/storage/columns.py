"""Building blocks of tables and statements: enum-typed columns, times, counters, constants, the database's clock."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    DateTime,
    Enum,
    Integer,
    Interval,
    Text,
    bindparam,
    func,
    literal_column,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.elements import BindParameter
from sqlalchemy.types import TypeEngine

#: The time of the database, which moves on within a transaction: leases are compared across machines.
NOW = func.clock_timestamp(type_=DateTime(timezone=True))


class TextEnum(Enum):
    """Text whose values are the members of a `StrEnum`: rows carry the members."""

    __visit_name__ = "text"  # its name in DDL: the columns are TEXT
    cache_ok = True


def enum_column(
    name: str,
    members: type[StrEnum],
    comment: str,
    *,
    nullable: bool = False,
    primary_key: bool = False,
    check: bool = False,
) -> Column[Any]:
    """Return a column of text for the members of an enum; `check` makes a CHECK of their values."""
    kind = TextEnum(
        members,
        native_enum=False,
        length=None,
        values_callable=lambda enum: [member.value for member in enum],
        create_constraint=check,
        name=name,
    )
    return Column(name, kind, nullable=nullable, primary_key=primary_key, comment=comment)


def time_column(name: str, comment: str, *, now: bool = False) -> Column[Any]:
    """Return a column for a point in time; `now`: the time of the insert, never NULL."""
    default = NOW if now else None
    return Column(name, DateTime(timezone=True), nullable=not now, server_default=default, comment=comment)


def counter_column(name: str, comment: str, *, big: bool = False) -> Column[Any]:
    """Return a column for a number that starts at 0."""
    kind = BigInteger if big else Integer
    return Column(name, kind, nullable=False, server_default=literal_column("0"), comment=comment)


def flag_column(name: str, comment: str) -> Column[Any]:
    """Return a column for a fact that is false at first."""
    return Column(name, Boolean, nullable=False, server_default=literal_column("false"), comment=comment)


def list_column(name: str, comment: str) -> Column[Any]:
    """Return a column for a list of texts, empty at first."""
    return Column(name, ARRAY(Text), nullable=False, server_default=literal_column("'{}'"), comment=comment)


def profile_column(comment: str, *, primary_key: bool = False) -> Column[Any]:
    """Return a column for the profile of an item: empty for the job's own profile, else the id of another one."""
    default: ColumnElement[str] = literal_column("''")
    return Column("profile", Text, nullable=False, server_default=default, primary_key=primary_key, comment=comment)


def finite(column: str) -> CheckConstraint:
    """NaN is equal to itself and larger than everything in Postgres: it would sort first on every descending page."""
    return CheckConstraint(f"{column} > '-Infinity' AND {column} < 'Infinity'", name=f"{column}_finite")


def constant(member: StrEnum) -> ColumnElement[Any]:
    """Return an enum member as SQL text instead of a parameter.

    A partial index serves only what the planner can see to be within it, and the planner cannot use parameter values of
    a prepared statement.
    """
    return literal_column(f"'{member.value}'")


def constants(members: Iterable[StrEnum]) -> list[ColumnElement[Any]]:
    """Return `constant` of each, for `column.in_`."""
    return [constant(member) for member in members]


def arrays(**element_types: TypeEngine[Any] | type[TypeEngine[Any]]) -> list[BindParameter[Any]]:
    """Return typed array parameters for a textual statement: `:name` then reads `:name::bigint[]` to Postgres."""
    return [array(name, element_type) for name, element_type in element_types.items()]


def array(name: str, element_type: TypeEngine[Any] | type[TypeEngine[Any]]) -> BindParameter[Any]:
    """Return a typed array parameter; `column == any_(array(...))` matches any of its values."""
    return bindparam(name, type_=ARRAY(element_type))


def after(parameter: str) -> ColumnElement[Any]:
    """Return now plus a parameter, a `timedelta`."""
    return NOW + bindparam(parameter, type_=Interval)
