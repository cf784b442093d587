"""Live progress on stderr, on a terminal only: in a log it would be noise."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from dpiqa.cli.support.console import stderr
from dpiqa.text import sanitise


def duration(seconds: float | None) -> str:
    """`75` -> `1m 15s`; None -> `?`."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24}d {hours % 24}h"
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {rest:02}s" if minutes else f"{rest}s"


@contextmanager
def counting(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show how many are done, the rate and the time left; yields `advance(count)`."""
    console = stderr()
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        progress.add_task(description, total=total, rate="")

        def advance(count: int) -> None:
            task = progress.tasks[0]
            progress.update(task.id, advance=count, rate=f"{task.speed:.1f}/s" if task.speed else "")

        yield advance


@contextmanager
def downloading(description: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show bytes, rate and time left of one file; yields `update(done, total)`."""
    console = stderr()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task(sanitise(description), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
