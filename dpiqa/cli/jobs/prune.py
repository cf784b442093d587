"""`dpiqa jobs prune`."""

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

import typer
from sqlalchemy import Engine

from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.storage.engine import transaction
from dpiqa.storage.retention import Pruning, prunable, prune_versions, request_pruning
from dpiqa.storage.sweeps import pending_sweeps, sweep_once


@command("prune", "dpiqa jobs prune --older-than 30d --dry-run", "dpiqa jobs prune --older-than 12w --old-versions")
def prune(
    older_than: Annotated[str, typer.Option(help="Age, from the end of an item: 12h, 30d, 8w.", metavar="AGE")],
    old_versions: Annotated[
        bool,
        typer.Option("--old-versions", help="Also the scores of versions that were replaced or deleted before then."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    as_json: options.JsonOption = False,
) -> None:
    """Remove the items of jobs that ended long ago, and what ended long ago of watches.

    Images, their scores and results stay, and so do the counts of the jobs. What is lost: which image was rejected and
    why, and `dpiqa jobs retry` of those jobs. DPIQA_PRUNE_ITEMS_AFTER_DAYS makes the workers do it every day.
    """
    before = options.ago(older_than)
    with context.database() as engine:
        with transaction(engine) as connection:
            found = prunable(connection, before)
        if found and not dry_run:
            with transaction(engine) as connection:
                requested = request_pruning(connection, before)
            _sweep(engine, set(requested))
        n_versions = _prune_versions(engine, before, dry_run) if old_versions else 0
    if as_json:
        jobs = [{"job": one.job.id, "items": one.n_items} for one in found]
        console.print_json("pruning@1", {"removed": not dry_run, "jobs": jobs, "old_versions": n_versions})
    else:
        _show(found, n_versions if old_versions else None, dry_run)


def _show(found: Sequence[Pruning], n_versions: int | None, dry_run: bool) -> None:
    if found:
        rows = [(one.job.short_id, one.job.state, one.job.address, one.n_items) for one in found]
        console.table(("job", "state", "of", "items"), rows)
    verb = "would be removed" if dry_run else "were removed"
    n_items = sum(one.n_items for one in found)
    console.note(f"{n_items} items of {len(found)} jobs {verb}; scores, results and counts stay")
    if n_versions is not None:
        console.note(f"scores and results of {n_versions} old versions {verb}")


def _sweep(engine: Engine, job_ids: set[UUID]) -> None:
    """Make the batches until none is left. A worker may make some of them at the same time."""
    while True:
        with transaction(engine) as connection:
            more = sweep_once(connection)
        with transaction(engine) as connection:
            if not pending_sweeps(connection, job_ids):
                return
        if not more:
            time.sleep(0.2)


def _prune_versions(engine: Engine, before: datetime, dry_run: bool) -> int:
    """Go through all images, batch by batch; return how many had scores or results that go."""
    n, last = 0, 0
    while True:
        with transaction(engine) as connection:
            more, reached = prune_versions(connection, before, after=last, dry_run=dry_run)
        n += more
        if reached is None:
            return n
        last = reached
