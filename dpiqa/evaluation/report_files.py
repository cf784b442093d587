"""Files of reports: Markdown for people, JSON and CSV for programs, plots. Needs matplotlib."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dpiqa.errors import InvalidRequest
from dpiqa.evaluation import comparison, escalation, plots, report, routing_trial, sweep
from dpiqa.evaluation.comparison import Comparison
from dpiqa.evaluation.escalation import EscalationTrial
from dpiqa.evaluation.measurement import Measurement
from dpiqa.evaluation.routing_trial import RoutingTrial
from dpiqa.evaluation.sweep import Sweep
from dpiqa.files import replace_file
from dpiqa.models.base import ModelCard


def write_evaluation(
    folder: Path, card: ModelCard, measurements: list[Measurement], document: dict[str, Any]
) -> list[Path]:
    """Write evaluation.md, evaluation.json, scores.csv and two plots for each data set; returns the paths.

    Raises `InvalidRequest` when the folder cannot be written.
    """
    paths = _write_pages(folder, "evaluation", report.markdown(card, measurements), document)
    paths.append(_write(folder / "scores.csv", lambda path: report.write_scores(path, measurements)))
    datasets = [measurement.dataset for measurement in measurements]
    for number, measurement in enumerate(measurements, start=1):
        suffix = f"-{number}" if datasets.count(measurement.dataset) > 1 else ""
        stem = re.sub(r"[^A-Za-z0-9]+", "-", measurement.dataset) + suffix
        predicted = plots.predicted_against_mos(card, measurement)
        paths.append(plots.write_png(predicted, folder / f"{stem}-predicted.png"))
        errors = plots.error_by_subset(card, measurement)
        paths.append(plots.write_png(errors, folder / f"{stem}-errors.png"))
    return paths


def write_sweep(folder: Path, card: ModelCard, result: Sweep) -> list[Path]:
    """Write distortions.md, distortions.json and distortions.png. Raises as `write_evaluation` does."""
    document = {"model": card.name, **result.as_dict()}
    paths = _write_pages(folder, "distortions", sweep.markdown(card, result), document)
    return [*paths, plots.write_png(plots.score_against_strength(card, result), folder / "distortions.png")]


def write_trial(folder: Path, trial: RoutingTrial, data: str, document: dict[str, Any]) -> list[Path]:
    """Write routing.md, routing.json and routing.png. Raises as `write_evaluation` does."""
    paths = _write_pages(folder, "routing", routing_trial.markdown(trial, data), document)
    return [*paths, plots.write_png(plots.routing(trial, data), folder / "routing.png")]


def write_escalation(folder: Path, trial: EscalationTrial, title: str, document: dict[str, Any]) -> list[Path]:
    """Write escalation.md and escalation.json. Raises as `write_evaluation` does."""
    return _write_pages(folder, "escalation", escalation.markdown(trial, title), document)


def write_comparison(
    folder: Path, result: Comparison, data: str, document: dict[str, Any], *, seeds: bool
) -> list[Path]:
    """Write comparison.md, comparison.json and comparison.png. Raises as `write_evaluation` does."""
    paths = _write_pages(folder, "comparison", comparison.markdown(result, data, seeds=seeds), document)
    return [*paths, plots.write_png(plots.comparison(result, data), folder / "comparison.png")]


def _write_pages(folder: Path, name: str, page: str, document: dict[str, Any]) -> list[Path]:
    """Create the folder, and write `name`.md and `name`.json."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidRequest(f"cannot make {folder}: {error.strerror}", hint="choose another --output") from error
    return [
        _write(folder / f"{name}.md", lambda path: path.write_text(page, "utf-8")),
        _write(folder / f"{name}.json", lambda path: report.write_json(path, document)),
    ]


def _write(path: Path, write: Callable[[Path], object]) -> Path:
    try:
        return replace_file(path, write)
    except OSError as error:
        raise InvalidRequest(f"cannot write {path}: {error.strerror}", hint="choose another --output") from error
