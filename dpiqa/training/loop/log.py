"""Reports of a run: log.jsonl, TensorBoard, and observers such as a progress bar."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from dpiqa.errors import ConfigurationError
from dpiqa.files import replace_text

LOG_NAME, TENSORBOARD_NAME = "log.jsonl", "tensorboard"


class Observer(Protocol):
    """Receiver of a run's events, such as the progress bar of the command line."""

    def started(self, *, step: int, steps: int) -> None:
        """Handle the start of the run, at or after a resume from update `step` of `steps`."""

    def stepped(self, *, step: int, loss: float) -> None:
        """Handle the end of update number `step` (from 1)."""

    def validated(self, *, step: int, figures: Mapping[str, float], best: bool) -> None:
        """Handle the figures of a validation; `best`: they are the best so far."""


class SilentObserver:
    """An observer that does nothing; a base for those that handle one event."""

    def started(self, *, step: int, steps: int) -> None:
        """See `Observer`."""

    def stepped(self, *, step: int, loss: float) -> None:
        """See `Observer`."""

    def validated(self, *, step: int, figures: Mapping[str, float], best: bool) -> None:
        """See `Observer`."""


class RunLog:
    """Writes the lines of one run. After a resume it holds nothing that the run is going to do again."""

    def __init__(self, out: Path, *, step: int, tensorboard: bool) -> None:
        self._file = out / LOG_NAME
        _drop_lines_after(self._file, step)
        self._board = _tensorboard(out / TENSORBOARD_NAME, step) if tensorboard else None

    def write(self, step: int, entry: Mapping[str, Any]) -> None:
        """Append one line, numbers with six significant digits; they go to TensorBoard too."""
        line = {"step": step} | {name: _rounded(value) for name, value in entry.items()}
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self._board is not None:
            for name, value in line.items():
                if isinstance(value, int | float) and name != "step":
                    self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what TensorBoard still buffers."""
        if self._board is not None:
            self._board.close()


class NullLog:
    """The log of processes other than the main one: nothing is written."""

    def write(self, step: int, entry: Mapping[str, Any]) -> None:
        """See `RunLog.write`."""

    def close(self) -> None:
        """See `RunLog.close`."""


def read_log(out: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's log."""
    return [json.loads(line) for line in (out / LOG_NAME).read_text("utf-8").splitlines()]


def _drop_lines_after(log: Path, step: int) -> None:
    """Drop the lines of later updates than `step`, and a line that a killed process left unfinished."""
    if not log.exists():
        return
    kept = []
    for line in log.read_text("utf-8").splitlines(keepends=True):
        try:
            keep = float(json.loads(line)["step"]) <= step
        except ValueError:
            keep = False
        if keep:
            kept.append(line)
    replace_text(log, "".join(kept))


def _rounded(value: Any) -> Any:
    """Six significant digits; None for infinity and NaN, which JSON cannot represent."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - slow to import, seldom used
    except ImportError as error:
        hint = "pip install 'dpiqa[train]', or leave output.tensorboard off"
        raise ConfigurationError(f"TensorBoard's log needs {error.name}, which is not installed", hint=hint) from error
    return SummaryWriter(str(folder), purge_step=step + 1)
