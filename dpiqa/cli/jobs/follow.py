"""`dpiqa follow`: a job's progress, live, until it is complete."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from sqlalchemy import Engine

from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.cli.support.progress import duration
from dpiqa.errors import DatabaseMisconfigured, DatabaseUnavailable
from dpiqa.exit_codes import ExitCode
from dpiqa.pipeline.submission import passed_over
from dpiqa.settings import Settings
from dpiqa.storage.callbacks import CallbackStatus
from dpiqa.storage.engine import transaction
from dpiqa.storage.job_queries import JobReport, describe, get_job
from dpiqa.storage.reports import Report
from dpiqa.text import sanitise
from dpiqa.types import ENDED_JOB_STATES, CallbackState, ItemState, JobState, ReportState

_POLL_SECONDS = 1.0
_LINE_SECONDS = 30.0  # between two lines where there is no terminal to draw on
_NOT_SCORED = (ItemState.REJECTED, ItemState.DEAD)
_INTERRUPTED = 130  # as a shell says it of SIGINT

TimeoutOption = Annotated[float | None, typer.Option(help="Give up after this many seconds, with exit code 1.", min=0)]
JsonLinesOption = Annotated[
    bool, typer.Option("--json", help="Print a line of JSON on stdout at each change, at most one a second.")
]


@command("follow", "dpiqa follow latest", "dpiqa follow 0b9b6f3e", "dpiqa follow JOB --timeout 600 --json")
def follow(job: options.JobArgument, timeout: TimeoutOption = None, as_json: JsonLinesOption = False) -> None:
    """Show the progress of a job, its rate, the time left and what it waits for, until it is complete.

    Ctrl-C leaves the job running. Exits with 0 when all images were scored, with 1 when some were rejected or given up,
    or on timeout, with 5 when the job failed, with 6 when it was cancelled.
    """
    follow_job(context.read_settings(), job, as_json=as_json, timeout=timeout)


def follow_job(settings: Settings, name: UUID | str, *, as_json: bool, timeout: float | None = None) -> None:
    """Draw until the job ends, then print its report. Raises as `read_job`, and `typer.Exit` unless all was scored."""
    deadline = None if timeout is None else time.monotonic() + timeout
    with context.database(settings) as engine:
        report = _read(engine, name)
        try:
            with _json_lines() if as_json else _display() as show:
                show(report)
                while report.job.state not in ENDED_JOB_STATES and (deadline is None or time.monotonic() < deadline):
                    time.sleep(_POLL_SECONDS if deadline is None else min(_POLL_SECONDS, timeout or 0))
                    try:
                        report = _read(engine, report.job.id)
                    except DatabaseMisconfigured:
                        raise
                    except DatabaseUnavailable as error:  # the job does not depend on this command
                        console.warn(error.message)
                        time.sleep(_LINE_SECONDS)
                    show(report)
        except KeyboardInterrupt:
            console.note(f"the job goes on: `dpiqa follow {report.job.short_id}` shows it again")
            raise typer.Exit(_INTERRUPTED) from None
    if not as_json:
        show_report(report)
    code = _exit_code(report)
    if code:
        raise typer.Exit(code)


def _exit_code(report: JobReport) -> ExitCode:
    if report.job.state is JobState.FAILED:
        return ExitCode.JOB_FAILED
    if report.job.state is JobState.CANCELLED:
        return ExitCode.JOB_CANCELLED
    is_clean = report.job.state is JobState.COMPLETE and not any(report.by_state.get(state, 0) for state in _NOT_SCORED)
    return ExitCode.OK if is_clean else ExitCode.INCOMPLETE


@contextmanager
def _json_lines() -> Iterator[Callable[[JobReport], None]]:
    """Yield a function that prints a report as a line of JSON, unless only its clocks have moved since the last one."""
    last: JobReport | None = None

    def show(report: JobReport) -> None:
        nonlocal last
        still = replace(report, duration_seconds=None, mean_rate=None)
        if still != last:
            last = still
            console.print_json_line("job@1", describe(report))

    yield show


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
    """One line at the start, then one at most every 30 seconds, when something changed."""

    def __init__(self) -> None:
        self._last_line, self._printed_at = "", float("-inf")

    def show(self, report: JobReport) -> None:
        line = f"{report.done} of {report.total} done, {pace(report)}"
        if line != self._last_line and time.monotonic() - self._printed_at >= _LINE_SECONDS:
            self._last_line, self._printed_at = line, time.monotonic()
            console.note(line)


def pace(report: JobReport) -> str:
    """Return the rate, the time left, and what the job waits for."""
    if report.job.state is JobState.PAUSED:
        why = f": {report.job.pause_reason}" if report.job.pause_reason else ""
        return f"paused{why}; {report.waiting_for} goes on"
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
        ("paused", job.pause_reason),
        ("items", f"{report.done} of {report.total} done" + (f": {states}" if states else "")),
        *((f"  {profile}", _states(counts)) for profile, counts in report.by_profile.items() if len(job.profiles) > 1),
        ("reused", f"{report.reused} of the scored, known before" if report.reused else ""),
        ("not scored", failures),
        *((f"  {reason}", "e.g. " + ", ".join(keys)) for reason, keys in report.examples.items()),
        ("passed over", passed_over(job.tally)),
        ("malformed", f"{job.tally.malformed} rows: {'; '.join(job.tally.examples)}" if job.tally.malformed else ""),
        ("escalated", f"{report.escalated} of {report.scored_by_student} scored by the student"),
        ("priority", job.priority or ""),
        ("rate", f"{report.rate:.1f}/s" if report.rate and job.state not in ENDED_JOB_STATES else ""),
        ("worked for", duration(report.duration_seconds) if report.duration_seconds else ""),
        ("mean rate", f"{report.mean_rate:.1f}/s" if report.mean_rate else ""),
        ("pruned", f"{job.pruned_at:%Y-%m-%d}: its old items were removed" if job.pruned_at else ""),
        ("waits for", report.waiting_for),
        ("report", report.written and _about(report.written, job.state in ENDED_JOB_STATES)),
        ("callback", report.callback and _about_callback(report.callback)),
    ]
    console.fields((name, value) for name, value in pairs if value)


def _about_callback(callback: CallbackStatus) -> str:
    """Return how the callback of a job stands."""
    if callback.state is CallbackState.DELIVERED:
        return f"{callback.url} was told ({callback.status})"
    if not callback.attempts:
        return f"{callback.url} is told when the job has ended"
    attempts = f"{callback.attempts} attempt{'s' if callback.attempts > 1 else ''}"
    if callback.next_attempt_at is None:
        return f"{callback.url} was not told in {attempts}: {callback.error}"
    return f"{callback.url}: {callback.error} in {attempts}, again at {console.as_text(callback.next_attempt_at)}"


def _about(report: Report, job_ended: bool) -> str:
    """Return where the report of a job is, or why it is not."""
    if report.state is ReportState.WRITTEN:
        return f"{report.output}, {report.n_rows} rows"
    when = "a worker writes it now" if job_ended else "written when the job has ended"
    return f"{report.output}: {report.error or when}"
