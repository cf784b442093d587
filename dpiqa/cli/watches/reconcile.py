"""`dpiqa reconcile` and `dpiqa reconciliations`: a bucket compared with the ledger, and the stored reports."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any
from uuid import UUID

import typer
from sqlalchemy import Connection, Engine

from dpiqa.addresses import parse_s3
from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.cli.support.output import TABLE_ROWS, Output
from dpiqa.cli.support.pages import read_pages
from dpiqa.cli.support.progress import duration
from dpiqa.doorbell import load_doorbell
from dpiqa.errors import InvalidRequest, LeaseLost, NotFound
from dpiqa.exit_codes import ExitCode
from dpiqa.exports.destinations import STDOUT
from dpiqa.exports.rows import difference_batches
from dpiqa.exports.schemas import DIFFERENCES
from dpiqa.http_api.watches import ReconciliationOut
from dpiqa.objects.s3 import S3Store
from dpiqa.pipeline.reconciler import Reconciler
from dpiqa.settings import Settings
from dpiqa.storage.engine import transaction
from dpiqa.storage.pages import Page
from dpiqa.storage.profiles import profile_for, remember_profile
from dpiqa.storage.reconciliations import (
    MAX_DELETED,
    Reconciliation,
    ReconciliationRequest,
    list_reconciliations,
    read_reconciliation,
    request_reconciliation,
)
from dpiqa.storage.saved_profiles import find_named_profile
from dpiqa.text import sanitise
from dpiqa.types import Difference, ReconciliationState

_LINE_SECONDS = 10.0  # between two lines where there is no terminal to draw on
_POLL_SECONDS = 1.0

InventoryOption = Annotated[
    str | None,
    typer.Option(help="Compare with this S3 Inventory instead of a listing.", metavar="S3_ADDRESS_OF_MANIFEST_JSON"),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Compare and report only.")]
MaxDeletedOption = Annotated[
    int,
    typer.Option(
        help="Percent of the ledger's objects that may be marked as deleted. If more are gone, none is marked; up to "
        "100 objects always may be.",
        min=0,
        max=100,
    ),
]
LastOption = Annotated[bool, typer.Option("--last", help="Show the last report of this address; compare nothing.")]


@command(
    "reconcile",
    "dpiqa reconcile s3://photos/2024/",
    "dpiqa reconcile s3://photos/ --dry-run --output differences.csv",
    "dpiqa reconcile s3://photos/ --inventory s3://inventories/photos/all/2026-01-02T01-00Z/manifest.json",
    "dpiqa reconcile s3://photos/ --last",
)
def reconcile(  # noqa: PLR0913, PLR0917 - the options of a command
    s3_address: Annotated[str, typer.Argument(help="s3://bucket/prefix.", metavar="S3_ADDRESS")],
    inventory: InventoryOption = None,
    dry_run: DryRunOption = False,
    max_deleted: MaxDeletedOption = MAX_DELETED,
    profile: options.ProfileOption = None,
    requirement: options.RequirementOption = None,
    last: LastOption = False,
    as_json: options.JsonOption = False,
    output: options.OutputOption = None,
    format: options.FormatOption = None,  # noqa: A002 - its name
) -> None:
    """Compare a bucket with the ledger: queue what is missing or changed, mark what was deleted.

    For events that were lost. What failed earlier is only reported: `dpiqa jobs retry` repeats it. The report is
    stored. A killed run is resumed by the same command, or by a worker. Exits with status 1 where the comparison
    failed: then nothing is marked as deleted.
    """
    address = parse_s3(s3_address)
    shown = Output.parse(as_json=as_json, output=output, format=format)
    if inventory is not None:
        parse_s3(inventory)
    settings = context.read_settings(profile=profile)
    with context.database(settings) as engine:
        if last:
            with transaction(engine) as connection:
                found = list_reconciliations(connection, bucket=address.bucket, prefix=address.key, limit=1).items
            if not found:
                raise NotFound(f"{address} was never reconciled", hint="run it without --last")
            _print_report(settings, engine, found[0], shown)
            return
        store = S3Store.from_settings(settings)
        next(iter(store.list(address.bucket, address.key)), None)  # a bucket that is missing or denied gets no report
        with transaction(engine) as connection:
            chosen = (
                profile_for(connection, requirement)
                if requirement
                else find_named_profile(connection, settings.profile, settings.profiles_dir)
            )
            remember_profile(connection, chosen)
            request = ReconciliationRequest(
                address=address, profile=chosen.id, inventory=inventory, dry_run=dry_run, max_deleted=max_deleted
            )
            requested = request_reconciliation(connection, request)
        if requested.attempt:
            console.note(f"resuming reconciliation {requested.id} of {console.as_text(requested.created_at)}")
        _print_report(settings, engine, _run(settings, engine, store, requested.id), shown)


def _run(settings: Settings, engine: Engine, store: S3Store, row_id: UUID) -> Reconciliation:
    """Work on it, or wait for the process that does; return it when it has ended."""
    is_noted = False
    with _display() as show:
        worker = Reconciler(engine, store, load_doorbell(settings), settings, threading.Event(), progress=show)
        while True:
            try:
                ended = worker.run(row_id)
            except LeaseLost:
                continue
            except KeyboardInterrupt:
                console.note(f"reconciliation {row_id} goes on in a worker, or with the same command")
                raise
            if not ended.is_open:
                return ended
            if not is_noted:
                is_noted = True
                console.note(f"another process works on reconciliation {row_id}: waiting for it")
            show(ended)
            time.sleep(_POLL_SECONDS)


@contextmanager
def _display() -> Iterator[Callable[[Reconciliation], None]]:
    """Yield a function that shows how far it is on stderr: live on a terminal, else a line now and then."""
    stderr = console.stderr()
    if stderr.is_terminal:
        with stderr.status("comparing") as status:
            yield lambda r: status.update(console.plain(_progress(r)))
        return
    printed_at = time.monotonic()

    def show(r: Reconciliation) -> None:
        nonlocal printed_at
        if time.monotonic() - printed_at >= _LINE_SECONDS:
            printed_at = time.monotonic()
            console.note(_progress(r))

    yield show


def _progress(r: Reconciliation) -> str:
    counts = r.counts
    if r.state is ReconciliationState.MARKING:
        return f"{counts.get('marked', 0)} of {counts.get(Difference.DELETED, 0)} marked as deleted"
    if r.state is ReconciliationState.LOADING:
        return f"{r.loaded} rows of the inventory read"
    return f"{counts.get('listed', 0)} objects compared, {r.n_differences} differences, at {sanitise(r.cursor or '')}"


def _print_report(settings: Settings, engine: Engine, r: Reconciliation, shown: Output) -> None:
    """Print a report, and write its differences. Raises `typer.Exit` for one that failed."""
    if shown.to is not None:
        replace(shown, as_json=False).export(DIFFERENCES, difference_batches(engine, r.id), settings)
    if shown.as_json:
        console.print_json("reconciliation@2", ReconciliationOut.model_validate(r))
    elif shown.to != STDOUT:
        console.fields((name, value) for name, value in _report(r) if value not in ("", None))
    if r.state is ReconciliationState.FAILED:
        raise typer.Exit(ExitCode.INCOMPLETE)


def _report(r: Reconciliation) -> list[tuple[str, Any]]:
    counts = r.counts

    def line(kind: Difference, after: str = "") -> str:
        keys = r.examples.get(kind, [])
        more = ", ..." if counts.get(kind, 0) > len(keys) else ""
        examples = f": {', '.join(keys)}{more}" if keys else ""
        return f"{counts.get(kind, 0)}{after if counts.get(kind) else ''}{examples}"

    queued = f", queued in job {r.job_id}" if r.job_id else ""
    marked = f", {counts['marked']} marked, {counts['kept']} kept" if "marked" in counts else ", none marked"
    seconds = (r.finished_at - r.started_at).total_seconds() if r.finished_at and r.started_at else None
    return [
        ("reconciliation", r.id),
        ("of", r.address),
        ("source", f"inventory {r.inventory}" if r.inventory else "listing"),
        ("profile", r.profile),
        ("state", f"{r.state}{', dry run: nothing was changed' if r.dry_run else ''}"),
        ("error", r.error),
        ("started", r.started_at),
        ("took", None if seconds is None else duration(seconds)),
        ("in the bucket", f"{counts.get('listed', 0)} objects, {counts.get('skipped', 0)} not images by their names"),
        ("in the ledger", f"{counts.get('ledger', 0)} objects"),
        ("unchanged", counts.get("unchanged", 0)),
        ("waiting", counts.get("waiting", 0)),
        ("newer events", counts.get("newer")),
        ("missing", line(Difference.MISSING, queued)),
        ("changed", line(Difference.CHANGED, queued)),
        ("deleted", line(Difference.DELETED, marked)),
        ("failed earlier", line(Difference.FAILED)),
    ]


@command("reconciliations", "dpiqa reconciliations", "dpiqa reconciliations 5f0c2a1b", "dpiqa reconciliations --json")
def reconciliations(
    reconciliation: Annotated[
        str | None, typer.Argument(help="Show this one: its id, or the first 6 or more digits of it.", metavar="ID")
    ] = None,
    limit: options.LimitOption = None,
    as_json: options.JsonOption = False,
    output: options.OutputOption = None,
    format: options.FormatOption = None,  # noqa: A002 - its name
) -> None:
    """List the stored reports of reconciliations, newest first, or show one.

    The differences of one, key by key, go to --output. They are kept until the next of the same bucket and prefix.
    """
    shown = Output.parse(as_json=as_json, output=output, format=format)
    if output and reconciliation is None:
        raise InvalidRequest("--output writes the differences of one reconciliation", hint="name it by its id")
    settings = context.read_settings()
    with context.database(settings) as engine:
        if reconciliation is not None:
            with transaction(engine) as connection:
                one = read_reconciliation(connection, reconciliation)
            _print_report(settings, engine, one, shown)
            return

        def read_page(connection: Connection, rows: int, cursor: str | None) -> Page[Reconciliation]:
            return list_reconciliations(connection, limit=rows, cursor=cursor)

        rows = list(read_pages(engine, read_page, limit or TABLE_ROWS))
    if as_json:
        console.print_json("reconciliation@2", [ReconciliationOut.model_validate(row) for row in rows])
    elif rows:
        names = ("id", "of", "state", "missing", "changed", "deleted", "failed", "started")
        console.table(names, ((r.short_id, r.address, r.state, *_numbers(r), r.started_at) for r in rows))
    else:
        console.note("no reconciliations yet: `dpiqa reconcile s3://bucket/prefix` makes one")


def _numbers(r: Reconciliation) -> list[int]:
    return [r.counts.get(kind, 0) for kind in Difference]
