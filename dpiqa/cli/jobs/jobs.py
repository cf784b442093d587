"""`dpiqa jobs list` and `dpiqa items`."""

from typing import Annotated, Any

import typer
from sqlalchemy import Connection

from dpiqa.addresses import object_address
from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.cli.support.output import TABLE_ROWS, Output
from dpiqa.cli.support.pages import read_pages
from dpiqa.exports.rows import item_batches
from dpiqa.exports.schemas import ITEMS
from dpiqa.storage.engine import transaction
from dpiqa.storage.job_queries import EVERY_JOB, JobFilter, JobReport, describe, get_job, list_jobs
from dpiqa.storage.jobs import Job, read_job
from dpiqa.storage.pages import Page
from dpiqa.types import ItemState, JobKind, JobState, Reason

StateOption = Annotated[ItemState | None, typer.Option(help="Only items in this state.")]
ReasonOption = Annotated[
    Reason | None, typer.Option(help="Only items that ended unscored for this reason.", metavar="REASON")
]
StatesOption = Annotated[
    list[JobState] | None, typer.Option("--state", help="Only jobs in this state. May be repeated.")
]
KindOption = Annotated[JobKind | None, typer.Option(help="Only jobs of this kind.")]
BucketOption = Annotated[str | None, typer.Option(help="Only jobs of this bucket.")]
SinceOption = Annotated[
    str | None,
    typer.Option(
        help="Only jobs submitted at this time or later: 2026-05-17, with a time (local), or an age: 30d.",
        metavar="TIME",
    ),
]
BeforeOption = Annotated[str | None, typer.Option(help="Only jobs submitted before this time.", metavar="TIME")]


@command(
    "list", "dpiqa jobs list --state running --state paused", "dpiqa jobs list --since 2026-11-01 --limit 100 --json"
)
def list_(
    state: StatesOption = None,
    kind: KindOption = None,
    bucket: BucketOption = None,
    since: SinceOption = None,
    before: BeforeOption = None,
    limit: options.LimitOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """List the jobs, newest first, with the progress of each. `dpiqa jobs` alone does the same."""
    # A time without a zone is local, as the times in the table are.
    times = (options.parse_time(name, at, zone=None) for name, at in (("--since", since), ("--before", before)))
    since_time, before_time = times
    chosen = JobFilter(states=tuple(state or ()), kind=kind, bucket=bucket, since=since_time, before=before_time)

    def read_page(connection: Connection, rows: int, cursor: str | None) -> Page[Job]:
        return list_jobs(connection, chosen, limit=rows, cursor=cursor)

    with context.database() as engine:
        newest = list(read_pages(engine, read_page, limit or TABLE_ROWS))
        with transaction(engine) as connection:
            reports = [get_job(connection, job.id) for job in newest]
    if as_json:
        console.print_json("job@1", [describe(report) for report in reports])
    elif reports:
        names = ("job", "state", "done", "total", "of", "created", "profile", "kind", "waits for")
        whole = ("job", "state", "done", "total", "created")
        console.table(
            names, map(_job_cells, reports), whole=whole, droppable=("waits for", "kind", "profile", "created")
        )
    elif chosen == EVERY_JOB:
        console.note("no jobs yet: `dpiqa submit s3://bucket/prefix` makes one")
    else:
        console.note("none found")


def _job_cells(report: JobReport) -> tuple[Any, ...]:
    job = report.job
    waits = job.error or report.waiting_for
    progress = job.short_id, job.state, report.done, report.total
    return *progress, job.address, job.created_at, ", ".join(job.profiles), job.kind, waits


@command(
    "items",
    "dpiqa items 0b9b6f3e-8a51-4b7e-9a57-0d1c3a0a5d5f --state rejected",
    "dpiqa items latest --reason truncated",
    "dpiqa items 0b9b6f3e-8a51-4b7e-9a57-0d1c3a0a5d5f --output report.csv",
)
def items(
    job: options.JobArgument,
    state: StateOption = None,
    reason: ReasonOption = None,
    limit: options.LimitOption = None,
    as_json: options.JsonOption = False,
    output: options.OutputOption = None,
    format: options.FormatOption = None,  # noqa: A002 - its name
) -> None:
    """List a job's images: the state of each and, where it was not scored, why."""
    shown = Output.parse(as_json=as_json, output=output, format=format, limit=limit)
    settings = context.read_settings()
    names = ("state", "stage", "route", "reason", "detail")

    def cells(row: dict[str, Any]) -> tuple[Any, ...]:
        return object_address(row["bucket"], row["key"]), *(row[name] for name in names)

    layout = (("image", *names), cells)
    with context.database(settings) as engine:
        with transaction(engine) as connection:
            found = read_job(connection, job)
        schema = ITEMS.with_details() if found.details else ITEMS
        batches = item_batches(engine, found.id, schema, state=state, reason=reason, limit=shown.n_rows)
        shown.write(schema, batches, layout, settings)
