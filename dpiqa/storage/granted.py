"""Conditions that keep a caller within its grants: which jobs, reconciliations and requirements it may see.

Scores need none: a query is narrowed to one bucket and prefix before it is made (`Grants.narrow`), so that the same
indexes serve it. The extent of a job is its bucket and prefix; that of a manifest is not known from the job, because
each row may name a bucket. Beside it, what the key was limited to that submitted the job bounds its extent.
"""

from typing import Any

from sqlalchemy import Column, ColumnElement, Text, and_, case, column, exists, func, literal, or_, select

from dpiqa.access import Grants
from dpiqa.storage.columns import constants
from dpiqa.storage.requirement_tables import requirement_pairs, requirements
from dpiqa.storage.tables import jobs
from dpiqa.storage.watch_tables import reconciliations
from dpiqa.types import JobKind

Condition = ColumnElement[bool]


def visible_jobs(grants: Grants) -> list[Condition]:
    """Return the conditions on rows of `jobs` that a caller may see; none without a limit."""
    if grants.texts is None:
        return []
    has_extent = jobs.c.kind.not_in(constants([JobKind.MANIFEST]))
    granted = func.unnest(jobs.c.grants).table_valued(column("granted", Text), name="granted").render_derived()
    beyond = select(literal(1)).select_from(granted).where(~_begins(granted.c.granted, grants)).exists()
    return [
        or_(
            and_(has_extent, _begins(_address(jobs.c.bucket, jobs.c.prefix), grants)),
            and_(jobs.c.grants.is_not(None), ~beyond),
        )
    ]


def visible_reconciliations(grants: Grants) -> list[Condition]:
    """Return the conditions on rows of `reconciliations` that a caller may see; none without a limit."""
    if grants.texts is None:
        return []
    return [_begins(_address(reconciliations.c.bucket, reconciliations.c.prefix), grants)]


def visible_requirements(grants: Grants) -> list[Condition]:
    """Return the conditions on rows of `requirements` that a caller may see: all their images are within the grants."""
    if grants.texts is None:
        return []
    pairs = requirement_pairs.c
    beyond = exists().where(pairs.requirement_id == requirements.c.id, ~_begins(pairs.path, grants))
    return [~beyond]


def _address(bucket: Column[Any], key: Column[Any]) -> ColumnElement[str]:
    """Return the address of an object or prefix, as grants are compared with it (`Grants.cover`)."""
    base = case((func.starts_with(bucket, "file://"), bucket), else_=literal("s3://") + bucket)
    address: ColumnElement[str] = base + "/" + key
    return address


def _begins(address: ColumnElement[Any], grants: Grants) -> Condition:
    """Build the condition that an address is within one of the grants."""
    return or_(*(func.starts_with(address, text) for text in grants.texts or ()))
