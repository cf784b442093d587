"""Progress of a training run: a bar on a terminal, a line for each preparation and each validation elsewhere."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dpiqa.cli.support import console
from dpiqa.cli.support.progress import duration

_BLANK: dict[str, Any] = {"speed": "", "loss": "", "figures": ""}


class Bar:
    """`dpiqa.training.loop.log.Observer` on stderr: updates, rate, time left, loss, figures of the last validation."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("loading", total=None, **_BLANK)
        self._preparation, self._started_at = "", 0.0

    def prepared(self, what: str, done: int, total: int) -> None:
        """Move the bar of the work before the first update (`dpiqa.training.progress.Listener`)."""
        if what != self._preparation:
            self._preparation, self._started_at = what, time.monotonic()
            self._begin(what, done, total)
            console.note(f"{what}: {done} of {total} done")
        self._move(done)
        if done == total:
            console.note(f"{what}: all {total} after {duration(time.monotonic() - self._started_at)}")
            self._preparation = ""

    def started(self, *, step: int, steps: int) -> None:
        """Set the bar to where the run continues."""
        self._begin("training", step, steps)
        if step:
            console.note(f"resuming after update {step} of {steps}")

    def stepped(self, *, step: int, loss: float) -> None:
        """Move the bar."""
        self._move(step, loss=f"loss {loss:.4g}")

    def validated(self, *, step: int, figures: Mapping[str, float], best: bool) -> None:
        """Show the figures; in a log as a line of their own."""
        text = " ".join(f"{name} {value:.4f}" for name, value in figures.items())
        self._progress.update(self._task, figures=text.split(" rmse")[0])
        console.note(f"update {step}: {text}{' (best)' if best else ''}")

    def _begin(self, what: str, done: int, total: int) -> None:
        self._progress.reset(self._task, description=what, completed=done, total=total, **_BLANK)

    def _move(self, done: int, **fields: Any) -> None:
        task = self._progress.tasks[0]
        speed = f"{task.speed:.2f}/s" if task.speed else ""
        self._progress.update(self._task, completed=done, speed=speed, **fields)


@contextmanager
def watching() -> Iterator[Bar]:
    """Show a bar while the block runs."""
    stderr = console.stderr()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[loss]}  {task.fields[figures]}"),
        console=stderr,
        transient=True,
        disable=not stderr.is_terminal,
    ) as progress:
        yield Bar(progress)
