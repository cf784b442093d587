"""`dpiqa jobs` and `dpiqa items`."""

from typing import Annotated, Any

import typer
from sqlalchemy import Connection

from dpiqa.addresses import object_address
from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.cli.support.output import TABLE_ROWS, Output, read_pages
from dpiqa.exports.rows import item_batches
from dpiqa.exports.schemas import ITEMS
from dpiqa.storage.engine import transaction
from dpiqa.storage.job_queries import JobReport, get_job, list_jobs
from dpiqa.storage.jobs import Job, read_job
from dpiqa.storage.pages import Page
from dpiqa.types import ItemState

StateOption = Annotated[ItemState | None, typer.Option(help="Only items in this state.")]


@command("jobs", "dpiqa jobs", "dpiqa jobs --limit 100 --json")
def jobs(limit: options.LimitOption = None, as_json: options.JsonOption = False) -> None:
    """List the jobs, newest first, with the progress of each. `dpiqa follow JOB` follows one."""

    def read_page(connection: Connection, rows: int, cursor: str | None) -> Page[Job]:
        return list_jobs(connection, limit=rows, cursor=cursor)

    with context.database() as engine:
        newest = list(read_pages(engine, read_page, limit or TABLE_ROWS))
        with transaction(engine) as connection:
            reports = [get_job(connection, job.id) for job in newest]
    if as_json:
        console.print_json(reports)
    elif reports:
        names = ("job", "kind", "of", "profile", "state", "done", "total", "waits for", "created")
        console.table(names, map(_job_cells, reports))
    else:
        console.note("no jobs yet: `dpiqa submit s3://bucket/prefix` makes one")


def _job_cells(report: JobReport) -> tuple[Any, ...]:
    job = report.job
    waits = job.error or report.waiting_for
    profiles = ", ".join(job.profiles)
    return job.id, job.kind, job.address, profiles, job.state, report.done, report.total, waits, job.created_at


@command(
    "items",
    "dpiqa items 0b9b6f3e-8a51-4b7e-9a57-0d1c3a0a5d5f --state rejected",
    "dpiqa items 0b9b6f3e-8a51-4b7e-9a57-0d1c3a0a5d5f --output report.csv",
)
def items(
    job: options.JobArgument,
    state: StateOption = None,
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
            job_id = read_job(connection, job).id
        batches = item_batches(engine, job_id, state=state, limit=shown.n_rows)
        shown.write(ITEMS, batches, layout, settings)
