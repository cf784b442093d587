"""The files of a report: Markdown for people, JSON and CSV for programs, plots."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dpiqa.errors import InvalidRequest
from dpiqa.evaluation import comparison_report, model_plots, plots, report, routing_report
from dpiqa.evaluation.comparison import Comparison
from dpiqa.evaluation.protocol import Measured
from dpiqa.evaluation.routing_trial import Trial
from dpiqa.evaluation.sweep import Sweep
from dpiqa.files import replace_file
from dpiqa.models.base import ModelCard


def write_evaluation(folder: Path, card: ModelCard, measured: list[Measured], document: dict[str, Any]) -> list[Path]:
    """Write evaluation.md, evaluation.json, scores.csv and two plots for each data set; returns what was written.

    Raises `InvalidRequest` when the folder cannot be written.
    """
    _make(folder)
    written = [
        _write(folder / "evaluation.md", lambda path: path.write_text(report.markdown(card, measured), "utf-8")),
        _write(folder / "evaluation.json", lambda path: report.write_json(path, document)),
        _write(folder / "scores.csv", lambda path: report.write_scores(path, measured)),
    ]
    for number, one in enumerate(measured, start=1):
        again = sum(other.dataset == one.dataset for other in measured) > 1
        stem = re.sub(r"[^A-Za-z0-9]+", "-", one.dataset) + (f"-{number}" if again else "")
        written.append(plots.write_png(plots.predicted_against_mos(card, one), folder / f"{stem}-predicted.png"))
        written.append(plots.write_png(plots.error_by_subset(card, one), folder / f"{stem}-errors.png"))
    return written


def write_sweep(folder: Path, card: ModelCard, found: Sweep) -> list[Path]:
    """Write distortions.md, distortions.json and distortions.png. Raises as `write_evaluation` does."""
    _make(folder)
    document = {"model": card.name, **found.as_dict()}
    return [
        _write(folder / "distortions.md", lambda path: path.write_text(report.sweep_markdown(card, found), "utf-8")),
        _write(folder / "distortions.json", lambda path: report.write_json(path, document)),
        plots.write_png(plots.score_against_strength(card, found), folder / "distortions.png"),
    ]


def write_trial(folder: Path, trial: Trial, data: str, document: dict[str, Any]) -> list[Path]:
    """Write routing.md, routing.json and routing.png. Raises as `write_evaluation` does."""
    _make(folder)
    text = routing_report.markdown(trial, data)
    return [
        _write(folder / "routing.md", lambda path: path.write_text(text, "utf-8")),
        _write(folder / "routing.json", lambda path: report.write_json(path, document)),
        plots.write_png(model_plots.routing(trial, data), folder / "routing.png"),
    ]


def write_comparison(
    folder: Path, found: Comparison, data: str, document: dict[str, Any], *, seeds: bool
) -> list[Path]:
    """Write comparison.md, comparison.json and comparison.png. Raises as `write_evaluation` does."""
    _make(folder)
    text = comparison_report.markdown(found, data, seeds=seeds)
    return [
        _write(folder / "comparison.md", lambda path: path.write_text(text, "utf-8")),
        _write(folder / "comparison.json", lambda path: report.write_json(path, document)),
        plots.write_png(model_plots.comparison(found, data), folder / "comparison.png"),
    ]


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidRequest(f"cannot make {folder}: {error.strerror}", hint="choose another --output") from error


def _write(path: Path, write: Callable[[Path], object]) -> Path:
    try:
        return replace_file(path, write)
    except OSError as error:
        raise InvalidRequest(f"cannot write {path}: {error.strerror}", hint="choose another --output") from error
