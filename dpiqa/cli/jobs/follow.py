"""`dpiqa follow`: a job's progress, live, until it is complete."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from sqlalchemy import Engine

from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.cli.support.progress import duration
from dpiqa.errors import DatabaseUnavailable
from dpiqa.exit_codes import ExitCode
from dpiqa.settings import Settings
from dpiqa.storage.engine import transaction
from dpiqa.storage.job_queries import JobReport, get_job
from dpiqa.text import sanitise
from dpiqa.types import ENDED_JOB_STATES, ItemState, JobState

_POLL_SECONDS = 0.5
_LINE_SECONDS = 10.0  # between two lines where there is no terminal to draw on
_NOT_SCORED = (ItemState.REJECTED, ItemState.DEAD)

TimeoutOption = Annotated[float | None, typer.Option(help="Give up after this many seconds, with exit code 1.", min=0)]


@command("follow", "dpiqa follow 0b9b6f3e-8a51-4b7e-9a57-0d1c3a0a5d5f", "dpiqa follow JOB --timeout 600 --json")
def follow(job: options.JobArgument, timeout: TimeoutOption = None, as_json: options.JsonOption = False) -> None:
    """Show the progress of a job, its rate, the time left and what it waits for, until it is complete.

    Exits with status 1 when images were rejected or given up, when the job failed, and on timeout.
    """
    follow_job(context.read_settings(), job, as_json=as_json, timeout=timeout)


@command("watch", "dpiqa watch JOB", hidden=True)
def watch(job: options.JobArgument, timeout: TimeoutOption = None, as_json: options.JsonOption = False) -> None:
    """Old name of `dpiqa follow`, for one release."""
    console.note("`dpiqa watch` is deprecated and will be removed: use `dpiqa follow`")
    follow_job(context.read_settings(), job, as_json=as_json, timeout=timeout)


def follow_job(settings: Settings, name: UUID | str, *, as_json: bool, timeout: float | None = None) -> None:
    """Draw until the job ends, then print its report. Raises as `read_job`, and `typer.Exit` unless all was scored."""
    deadline = None if timeout is None else time.monotonic() + timeout
    with context.database(settings) as engine, _display() as show:
        report = _read(engine, name)
        while report.job.state not in ENDED_JOB_STATES and (deadline is None or time.monotonic() < deadline):
            show(report)
            time.sleep(_POLL_SECONDS)
            try:
                report = _read(engine, report.job.id)
            except DatabaseUnavailable as error:  # the job does not depend on this command
                console.warn(error.message)
                time.sleep(_LINE_SECONDS)
        show(report)
    if as_json:
        console.print_json(report)
    else:
        show_report(report)
    is_clean = report.job.state is JobState.COMPLETE and not any(report.by_state.get(state, 0) for state in _NOT_SCORED)
    if not is_clean:
        raise typer.Exit(ExitCode.INCOMPLETE)


def _read(engine: Engine, name: UUID | str) -> JobReport:
    with transaction(engine) as connection:
        return get_job(connection, name)


@contextmanager
def _display() -> Iterator[Callable[[JobReport], None]]:
    """Yield a function that shows a report on stderr: as a live bar on a terminal, as an occasional line elsewhere."""
    stderr = console.stderr()
    if not stderr.is_terminal:
        yield _LineDisplay().show
        return
    columns = (SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=stderr, transient=True) as progress:
        task = progress.add_task("", total=None)

        def show(report: JobReport) -> None:
            total = report.total if report.job.state is not JobState.LISTING else None
            progress.update(task, completed=report.done, total=total, description=sanitise(pace(report)))

        yield show


class _LineDisplay:
    """One line at the start, then one at most every ten seconds, when something changed."""

    def __init__(self) -> None:
        self._last_line, self._printed_at = "", float("-inf")

    def show(self, report: JobReport) -> None:
        line = f"{report.done} of {report.total} done, {pace(report)}"
        if line != self._last_line and time.monotonic() - self._printed_at >= _LINE_SECONDS:
            self._last_line, self._printed_at = line, time.monotonic()
            console.note(line)


def pace(report: JobReport) -> str:
    """Return the rate, the time left, and what the job waits for."""
    parts = [f"{report.rate:.1f}/s"]
    if report.job.state is JobState.LISTING:
        parts.append("still listing the bucket")
    elif report.eta_seconds is not None and report.done < report.total:
        parts.append(f"{duration(report.eta_seconds)} left")
    if report.waiting_for:
        parts.append(f"waits for {report.waiting_for}")
    return ", ".join(parts)


def _states(counts: Mapping[ItemState, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count)


def show_report(report: JobReport) -> None:
    """Print the report on stdout."""
    job = report.job
    states = _states(report.by_state)
    failures = ", ".join(f"{count} {reason}" for reason, count in report.failures.items() if count)
    pairs: list[tuple[str, Any]] = [
        ("job", job.id),
        ("kind", job.kind),
        ("of", job.address),
        ("profile", ", ".join(job.profiles)),
        ("state", job.state),
        ("error", job.error),
        ("items", f"{report.done} of {report.total} done" + (f": {states}" if states else "")),
        *((f"  {profile}", _states(counts)) for profile, counts in report.by_profile.items() if len(job.profiles) > 1),
        ("reused", f"{report.reused} of the scored, known before" if report.reused else ""),
        ("not scored", failures),
        ("passed over", ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in job.tally.passed_over.items())),
        ("malformed", f"{job.tally.malformed} rows: {'; '.join(job.tally.examples)}" if job.tally.malformed else ""),
        ("escalated", f"{report.escalated} of {report.scored_by_student} scored by the student"),
        ("rate", f"{report.rate:.1f}/s" if report.rate else ""),
        ("waits for", report.waiting_for),
    ]
    console.fields((name, value) for name, value in pairs if value)
