"""Report of measurements: a Markdown table beside the papers' figures, JSON and CSV, and sections of a model's card."""

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpiqa.evaluation.agreement import METRICS
from dpiqa.evaluation.intervals import Estimate
from dpiqa.evaluation.measurement import Measurement
from dpiqa.evaluation.published import published
from dpiqa.models.base import ModelCard
from dpiqa.text import markdown_table

COLUMNS = ("data set", "split", "n", "failed", "SRCC", "PLCC", "PLCC mapped", "KRCC", "RMSE", "RMSE mapped", "seen?")
_PUBLISHED = ("data set", "model", "trained on", "SRCC", "PLCC", "source")
_SUBSETS = ("data set", "subset", "n", "failed", "SRCC [95 %]", "PLCC", "PLCC mapped", "KRCC", "RMSE")


def as_dict(card: ModelCard, measurements: Sequence[Measurement]) -> dict[str, Any]:
    """Return the whole report for JSON: without NaN, with what papers report on the same sets."""
    return {
        "model": card.name,
        "scorer": measurements[0].evaluation.scorer_id,
        "score_scale": card.score_scale,
        "trained_on": card.trained_on,
        "results": [measurement.as_dict() for measurement in measurements],
        "published": [
            {"dataset": row.dataset, "model": row.model, "trained_on": row.trained_on}
            | {"srcc": row.srcc, "plcc": row.plcc, "source": row.source}
            for dataset in dict.fromkeys(measurement.dataset for measurement in measurements)
            for row in published(dataset)
        ],
    }


def rows(measurements: Sequence[Measurement]) -> list[list[Any]]:
    """One row per data set, in the order of `COLUMNS`."""
    return [
        [
            measurement.dataset,
            f"{measurement.split} ({measurement.origin})",
            measurement.evaluation.overall.n,
            len(measurement.evaluation.failures),
            *(_headline(measurement, metric) for metric in METRICS),
            measurement.note,
        ]
        for measurement in measurements
    ]


def markdown(card: ModelCard, measurements: Sequence[Measurement]) -> str:
    """Write the report as a Markdown page."""
    sections = [
        f"# {card.name}",
        f"Scorer `{measurements[0].evaluation.scorer_id}`. Scores: {card.score_scale}.",
        markdown_table(COLUMNS, rows(measurements)),
        "Brackets: 95 % bootstrap interval over images. Mapped: after the four-parameter logistic.",
    ]
    if any(measurement.sides for measurement in measurements):
        sections.append("Five splits: median over the test sides of five random 80/20 splits (lowest to highest).")
    for measurement in measurements:
        mapping = measurement.evaluation.overall.mapping
        if mapping and mapping.remark:
            sections.append(f"{measurement.dataset}: {mapping.remark}.")
    subsets = _subset_rows(measurements)
    if subsets:
        sections += ["## By subset", markdown_table(_SUBSETS, subsets)]
    datasets = dict.fromkeys(measurement.dataset for measurement in measurements)
    reported = [row for dataset in datasets for row in published(dataset)]
    sections.append("## As published, not measured here")
    if reported:
        cells = [[p.dataset, p.model, p.trained_on, _number(p.srcc), _number(p.plcc), p.source] for p in reported]
        sections.append(markdown_table(_PUBLISHED, cells))
    else:
        sections.append("We know of no published figures for these data sets.")
    return "\n\n".join(sections) + "\n"


def card_sections(measurement: Measurement) -> dict[str, dict[str, Any]]:
    """Return the section for a card, by name: figures on one data set, pooled and by subset, with intervals."""
    section = {"scorer": measurement.evaluation.scorer_id, **measurement.as_dict()}
    return {f"{measurement.dataset} {measurement.split}": section}


def write_scores(path: Path, measurements: Sequence[Measurement]) -> None:
    """Write a CSV with one line per image: its MOS, its score or why it has none."""
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(["dataset", "image", "subset", "mos", "score", "failure"])
        for measurement in measurements:
            dataset, evaluation = measurement.dataset, measurement.evaluation
            for image, score in zip(evaluation.images, evaluation.scores.tolist(), strict=True):
                writer.writerow([dataset, image.path, image.subset, repr(image.mos), repr(score), ""])
            for failed, failure in evaluation.failures.items():
                writer.writerow([dataset, failed, "", "", "", failure.reason.value])


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write a JSON document. Raises `ValueError` for NaN, which JSON cannot represent."""
    path.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _headline(measurement: Measurement, metric: str) -> str:
    value = measurement.headline(metric)
    if measurement.sides:
        values = sorted(getattr(side, metric) for side in measurement.sides)
        return f"{_number(value)} ({_number(values[0])} to {_number(values[-1])})"
    return str(Estimate(value, measurement.evaluation.intervals[metric]))


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def _subset_rows(measurements: Sequence[Measurement]) -> list[list[Any]]:
    lines = []
    for measurement in measurements:
        for name, subset in measurement.evaluation.subsets.items():
            numbers = ["-"] * 5
            if figures := subset.figures:
                others = (figures.plcc, figures.plcc_mapped, figures.krcc, figures.rmse)
                numbers = [str(Estimate(figures.srcc, subset.interval)), *map(_number, others)]
            lines.append([measurement.dataset, name, subset.n, subset.failed, *numbers])
    return lines
