"""`dpiqa jobs show`, and the commands that steer a job."""

from functools import partial
from typing import Annotated

import typer

from dpiqa.cli.jobs.follow import show_report
from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.doorbell import load_doorbell
from dpiqa.pipeline import steering as pipeline
from dpiqa.pipeline.steering import Steered
from dpiqa.storage import steering
from dpiqa.storage.engine import transaction
from dpiqa.storage.job_queries import describe, get_job
from dpiqa.types import ItemState, JobState, Reason

ForceOption = Annotated[bool, typer.Option("--force", help="Cancel the job first if it has not ended.")]
ReasonsOption = Annotated[
    list[Reason] | None,
    typer.Option(
        "--reason", help="Only items with this reason (`dpiqa jobs show`). May be repeated.", metavar="REASON"
    ),
]
StatesOption = Annotated[
    list[ItemState] | None,
    typer.Option(
        "--state",
        help="Only items in this state: rejected, dead or cancelled; all of these by default. May be repeated.",
        metavar="STATE",
    ),
]
PriorityArgument = Annotated[
    int,
    typer.Argument(
        help="From -10 to 10; 0 is normal, and each step up doubles the job's share.", metavar="N", show_default=False
    ),
]


@command("show", "dpiqa jobs show latest", "dpiqa jobs show 0b9b6f3e --json")
def show(job: options.JobArgument, as_json: options.JsonOption = False) -> None:
    """Show one job: counts by state, failures by reason, rate, duration and what it waits for."""
    with context.connection() as connection:
        report = get_job(connection, job)
    if as_json:
        console.print_json("job@1", describe(report))
    else:
        show_report(report)


@command("pause", "dpiqa jobs pause latest")
def pause(job: options.JobArgument, as_json: options.JsonOption = False) -> None:
    """Pause a job: nothing more of it is listed or started. What workers have claimed is finished.

    A paused watch still records events.
    """
    with context.database() as engine:
        _answer(pipeline.steer(engine, job, steering.pause_job), as_json=as_json)


@command("resume", "dpiqa jobs resume latest")
def resume(job: options.JobArgument, as_json: options.JsonOption = False) -> None:
    """Resume a paused job where it was. A job that was cancelled is reopened by `dpiqa jobs retry`."""
    settings = context.read_settings()
    with context.database(settings) as engine:
        _answer(pipeline.steer(engine, job, steering.resume_job, load_doorbell(settings)), as_json=as_json)


@command("cancel", "dpiqa jobs cancel 0b9b6f3e")
def cancel(job: options.JobArgument, as_json: options.JsonOption = False) -> None:
    """End a job, or a watch, now. What has been scored stays; the other items end as cancelled.

    The job is cancelled at once. Its items are changed by the workers, 10,000 at a time.
    """
    with context.database() as engine:
        _answer(pipeline.steer(engine, job, steering.cancel_job), as_json=as_json)


@command(
    "retry",
    "dpiqa jobs retry latest",
    "dpiqa jobs retry 0b9b6f3e --reason access_denied --reason archived",
    "dpiqa jobs retry 0b9b6f3e --state dead",
)
def retry(
    job: options.JobArgument,
    reason: ReasonsOption = None,
    state: StatesOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Open a job's rejected, dead and cancelled items again, whatever the reason, or only some of them.

    A job that has ended is open again; one that failed or was cancelled while it was listed is listed to its end.
    Deleted and superseded images are added by submitting their prefix again.
    """
    settings = context.read_settings()
    doorbell = load_doorbell(settings)
    with context.database(settings) as engine:
        steered = pipeline.retry(engine, job, doorbell, states=state or (), reasons=reason or ())
    items = "1 item is" if steered.n_retried == 1 else f"{steered.n_retried} items are"
    console.note(f"{items} open again" if steered.n_retried else "there is no such item to retry")
    _answer(steered, as_json=as_json)


@command(
    "priority",
    "dpiqa jobs priority 0b9b6f3e 2",
    "dpiqa jobs priority latest -1",
    context_settings={"ignore_unknown_options": True},  # -1 is a number
)
def priority(job: options.JobArgument, priority: PriorityArgument, as_json: options.JsonOption = False) -> None:
    """Set a job's priority: jobs that wait for the same workers share them by it."""
    with context.database() as engine:
        change = partial(steering.set_priority, priority=priority)
        _answer(pipeline.steer(engine, job, change), as_json=as_json)


@command("delete", "dpiqa jobs delete 0b9b6f3e", "dpiqa jobs delete latest --force")
def delete(job: options.JobArgument, force: ForceOption = False, as_json: options.JsonOption = False) -> None:
    """Delete a job that has ended, and its items. Its results and scores stay.

    The job is hidden at once. Its items are removed by the workers, 10,000 at a time.
    """
    with context.database() as engine, transaction(engine) as connection:
        deleted = steering.delete_job(connection, job, force=force)
    if as_json:
        console.print_json("deleted-job@1", {"id": deleted.id, "deleted": True})
    else:
        console.note(f"job {deleted.id} is deleted; workers remove its items")


def _answer(steered: Steered, *, as_json: bool) -> None:
    report = steered.report
    if steered.warning:
        console.warn(steered.warning)
    if as_json:
        console.print_json("job@1", describe(report) | {"retried": steered.n_retried})
        return
    done = f"{report.done} of {report.total} items done"
    state = f"is {report.job.state}" + (f", priority {report.job.priority}" if report.job.priority else "")
    console.note(f"job {report.job.short_id} {state}; {done}")
    left = report.total - report.done
    if report.waiting_for and report.job.state is not JobState.PAUSED:
        console.note(f"it waits for {report.waiting_for}")
    elif report.job.state is JobState.CANCELLED and left:
        console.note(f"{left} items are still held by workers, or to be cancelled by them")
