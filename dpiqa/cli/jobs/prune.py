"""`dpiqa jobs prune`."""

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

import typer
from sqlalchemy import Engine

from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.errors import InvalidRequest
from dpiqa.storage.engine import transaction
from dpiqa.storage.retention import prunable, request_pruning
from dpiqa.storage.sweeps import pending_sweeps, sweep_once

_UNITS = {"h": "hours", "d": "days", "w": "weeks"}
_AGE = re.compile(r"(\d{1,5})([hdw])")


@command("prune", "dpiqa jobs prune --older-than 30d --dry-run", "dpiqa jobs prune --older-than 12w")
def prune(
    older_than: Annotated[str, typer.Option(help="Age, from the end of an item: 12h, 30d, 8w.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    as_json: options.JsonOption = False,
) -> None:
    """Remove the items of jobs that ended long ago, and what ended long ago of watches.

    Images, scores and results stay, and so do the counts of the jobs. What is lost: which image was rejected and why,
    and `jobs retry` of those jobs. DPIQA_PRUNE_ITEMS_AFTER_DAYS makes the workers do the same every day.
    """
    before = datetime.now(UTC) - _age(older_than)
    with context.database() as engine:
        with transaction(engine) as connection:
            found = prunable(connection, before)
        if found and not dry_run:
            with transaction(engine) as connection:
                requested = request_pruning(connection, before)
            _sweep(engine, set(requested))
    if as_json:
        console.print_json([{"job": one.job.id, "items": one.n_items, "removed": not dry_run} for one in found])
        return
    if found:
        rows = [(one.job.id, one.job.state, one.job.address, one.n_items) for one in found]
        console.table(("job", "state", "of", "items"), rows)
    n_items = sum(one.n_items for one in found)
    verb = "would be removed" if dry_run else "removed; images, scores, results and counts stay"
    console.note(f"{n_items} items of {len(found)} jobs {verb}")


def _age(text: str) -> timedelta:
    """Read an age. Raises `InvalidRequest`."""
    match = _AGE.fullmatch(text.strip().lower())
    if match is None:
        raise InvalidRequest(f"{text!r} is not an age", hint="a number and a unit: 12h, 30d, 8w")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _sweep(engine: Engine, job_ids: set[UUID]) -> None:
    """Make the batches until none is left. A worker may make some of them at the same time."""
    while True:
        with transaction(engine) as connection:
            left, more = pending_sweeps(connection, job_ids), sweep_once(connection)
        if not left:
            return
        if not more:
            time.sleep(0.2)
