"""Live progress on stderr, on a terminal; in a log it would be noise, but for a line now and then of a long run."""

import threading
import time
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

from dpiqa.cli.support.console import note, stderr
from dpiqa.text import sanitise

LINE_SECONDS = 30.0  #: between two lines about a run where there is no terminal


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


class RunProgress:
    """The progress of a run of hours: live on a terminal, else a line at the start and then every 30 s. Thread-safe."""

    def __init__(self, shown: Callable[["RunProgress"], object], entered: Callable[[str], object]) -> None:
        """`shown` is called after each change, `entered` with the name of each stage."""
        self._shown, self._entered, self._lock = shown, entered, threading.Lock()
        self.stage = ""  #: work at hand, `loading bundled-student`; empty while images are scored
        self.total: int | None = None  #: images, once they are counted
        self.n_done = self.n_skipped = 0  #: scored or failed in this run; known from an earlier one
        self._started: float | None = None

    def enter(self, stage: str) -> None:
        """Say what is done now; empty: images are scored."""
        if not stage and self._started is None:
            self._started = time.monotonic()
        if stage != self.stage:
            self.stage = stage
            self._entered(stage)
            self._shown(self)

    def add(self) -> None:
        """Count an image that was scored, or that cannot be."""
        with self._lock:
            self.n_done += 1
        self._shown(self)

    def skip(self) -> None:
        """Count an image that an earlier run has done."""
        with self._lock:
            self.n_skipped += 1

    def __str__(self) -> str:
        if self.stage:
            return self.stage
        of = "" if self.total is None else f" of {self.total:,}"
        words = [f"{self.n_done + self.n_skipped:,}{of} images"]
        if self.n_skipped:
            words.append(f"{self.n_skipped:,} known before")
        if self._started is not None and self.n_done:
            rate = self.n_done / max(time.monotonic() - self._started, 1e-3)
            words.append(f"{rate:.1f}/s")
            if self.total is not None:
                words.append(f"{duration(max(self.total - self.n_done - self.n_skipped, 0) / rate)} left")
        return ", ".join(words)


@contextmanager
def running() -> Iterator[RunProgress]:
    """Show the progress of a run on stderr."""
    console = stderr()
    if console.is_terminal:
        columns = (SpinnerColumn(), BarColumn(20), TextColumn("{task.description}"))
        with Progress(*columns, console=console, transient=True) as live:
            task = live.add_task("", total=None)

            def show(progress: RunProgress) -> None:
                n = progress.n_done + progress.n_skipped
                total = None if progress.stage else progress.total
                live.update(task, description=str(progress), completed=n, total=total)

            yield RunProgress(show, lambda _: None)
        return
    progress = RunProgress(lambda _: None, lambda stage: note(stage) if stage else None)
    ended = threading.Event()

    def write_lines() -> None:
        while not ended.wait(LINE_SECONDS):
            note(str(progress))

    threading.Thread(target=write_lines, name="progress", daemon=True).start()
    try:
        yield progress
    finally:
        ended.set()
