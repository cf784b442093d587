"""What a run says about itself: log.jsonl, TensorBoard, and whoever watches."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from dpiqa.errors import ConfigurationError
from dpiqa.files import replace_text

LOG_NAME, TENSORBOARD_NAME = "log.jsonl", "tensorboard"


class Watch(Protocol):
    """Somebody who looks on: the progress bar of the command line, or nobody."""

    def started(self, *, step: int, steps: int) -> None:
        """Hear that the run begins at (or goes on from) update `step` of `steps`."""

    def stepped(self, *, step: int, loss: float) -> None:
        """Hear that update number `step` (from 1) is done."""

    def validated(self, *, step: int, figures: Mapping[str, float], best: bool) -> None:
        """Hear the figures of a validation; `best`: they are the best so far."""


class Nobody:
    """Watches nothing."""

    def started(self, *, step: int, steps: int) -> None:
        """See `Watch`."""

    def stepped(self, *, step: int, loss: float) -> None:
        """See `Watch`."""

    def validated(self, *, step: int, figures: Mapping[str, float], best: bool) -> None:
        """See `Watch`."""


class Record:
    """Writes the lines of one run. After a resume it holds nothing that the run is going to do again."""

    def __init__(self, out: Path, *, step: int, tensorboard: bool) -> None:
        self._file = out / LOG_NAME
        forget_after(self._file, step)
        self._board = _tensorboard(out / TENSORBOARD_NAME, step) if tensorboard else None

    def write(self, step: int, entry: Mapping[str, Any]) -> None:
        """Append one line; numbers go to TensorBoard too."""
        line = {"step": step} | {name: _rounded(value) for name, value in entry.items()}
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self._board is not None:
            for name, value in line.items():
                if isinstance(value, int | float) and name != "step":
                    self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what TensorBoard still holds back."""
        if self._board is not None:
            self._board.close()


def forget_after(log: Path, step: int) -> None:
    """Drop the lines of later updates than `step`, and a line that a killed process left unfinished."""
    if log.exists():
        kept = "".join(line for line in log.read_text("utf-8").splitlines(keepends=True) if _step(line) <= step)
        replace_text(log, kept)


def read_log(out: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's log."""
    return [json.loads(line) for line in (out / LOG_NAME).read_text("utf-8").splitlines()]


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except ValueError:
        return math.inf


def _rounded(value: Any) -> Any:
    """Six significant digits; None for what JSON has no number for."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - slow to import, seldom wanted
    except ImportError as error:
        hint = "pip install 'dpiqa[train]', or leave output.tensorboard off"
        raise ConfigurationError(f"TensorBoard's log needs {error.name}, which is not installed", hint=hint) from error
    return SummaryWriter(str(folder), purge_step=step + 1)
