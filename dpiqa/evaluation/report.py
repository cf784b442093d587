"""An evaluation as people read it (a Markdown table beside the papers' figures) and as programs do (JSON, CSV)."""

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpiqa.evaluation.correlation import METRICS
from dpiqa.evaluation.intervals import Interval
from dpiqa.evaluation.protocol import Measured
from dpiqa.evaluation.published import published
from dpiqa.evaluation.sweep import Sweep
from dpiqa.models.base import ModelCard

COLUMNS = ("data set", "split", "n", "failed", "SRCC", "PLCC", "PLCC mapped", "KRCC", "RMSE", "RMSE mapped", "seen?")
_PUBLISHED = ("data set", "model", "trained on", "SRCC", "PLCC", "source")
_SUBSETS = ("data set", "subset", "n", "failed", "SRCC [95 %]", "PLCC", "PLCC mapped", "KRCC", "RMSE")
_KINDS = ("distortion", "original", "1", "2", "3", "4", "5", "verdict")


def as_dict(card: ModelCard, measured: Sequence[Measured]) -> dict[str, Any]:
    """Return the whole evaluation for JSON: without NaN, with what papers report on the same sets."""
    return {
        "model": card.name,
        "scorer": measured[0].evaluation.scorer_id,
        "score_scale": card.score_scale,
        "trained_on": card.trained_on,
        "results": [one.as_dict() for one in measured],
        "published": [
            {"dataset": row.dataset, "model": row.model, "trained_on": row.trained_on}
            | {"srcc": row.srcc, "plcc": row.plcc, "source": row.source}
            for dataset in dict.fromkeys(one.dataset for one in measured)
            for row in published(dataset)
        ],
    }


def rows(measured: Sequence[Measured]) -> list[list[Any]]:
    """One row per data set, in the order of `COLUMNS`."""
    return [
        [
            one.dataset,
            f"{one.split} ({one.origin})",
            one.evaluation.overall.n,
            len(one.evaluation.failures),
            *(_with_interval(one, metric) for metric in METRICS),
            one.note,
        ]
        for one in measured
    ]


def markdown(card: ModelCard, measured: Sequence[Measured]) -> str:
    """Write the evaluation as a Markdown page."""
    parts = [
        f"# {card.name}",
        f"Scorer `{measured[0].evaluation.scorer_id}`. Scores: {card.score_scale}.",
        table(COLUMNS, rows(measured)),
        *(_remarks(measured)),
    ]
    subsets = _subset_rows(measured)
    if subsets:
        parts += ["## By subset", table(_SUBSETS, subsets)]
    reported = [row for dataset in dict.fromkeys(one.dataset for one in measured) for row in published(dataset)]
    parts.append("## As published, not measured here")
    if reported:
        cells = [[p.dataset, p.model, p.trained_on, _number(p.srcc), _number(p.plcc), p.source] for p in reported]
        parts.append(table(_PUBLISHED, cells))
    else:
        parts.append("We know of no published figures for these data sets.")
    return "\n\n".join(parts) + "\n"


def sweep_markdown(card: ModelCard, sweep: Sweep) -> str:
    """Write scores against strength as a Markdown page."""
    falling = sum(course.falls for course in sweep.courses.values())
    cells = [
        [kind, *(_number(float(value)) for value in sweep.means[kind]), str(course)]
        for kind, course in sweep.courses.items()
    ]
    failed = f", {len(sweep.failures)} failed" if sweep.failures else ""
    return "\n\n".join(
        [
            f"# {card.name}: score against distortion",
            f"Scorer `{sweep.scorer_id}`; means over {len(sweep.scores)} pictures{failed}.",
            f"The score falls with strength for {falling} of {len(sweep.kinds)} kinds (tolerance {sweep.tolerance:g}).",
            table(_KINDS, cells) + "\n",
        ]
    )


def write_scores(path: Path, measured: Sequence[Measured]) -> None:
    """Write a CSV with one line per image: its MOS, its score or why it has none."""
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(["dataset", "image", "subset", "mos", "score", "failure"])
        for one in measured:
            found = one.evaluation
            for image, score in zip(found.images, found.scores.tolist(), strict=True):
                writer.writerow([one.dataset, image.path, image.subset, repr(image.mos), repr(score), ""])
            for failed, failure in found.failures.items():
                writer.writerow([one.dataset, failed, "", "", "", failure.reason.value])


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write a JSON document. Raises `ValueError` for NaN, which JSON has not."""
    path.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _with_interval(one: Measured, metric: str) -> str:
    value = one.headline(metric)
    if one.sides:
        every = sorted(getattr(side, metric) for side in one.sides)
        return f"{_number(value)} ({_number(every[0])} to {_number(every[-1])})"
    return _figure(value, one.evaluation.intervals[metric])


def _figure(value: float, interval: Interval) -> str:
    return _number(value) + (f" [{_number(interval[0])}, {_number(interval[1])}]" if interval else "")


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def _remarks(measured: Sequence[Measured]) -> list[str]:
    remarks = ["Brackets: 95 % bootstrap interval over images. Mapped: after the four-parameter logistic."]
    if any(one.sides for one in measured):
        remarks.append("Five splits: median over the test sides of five random 80/20 splits (lowest to highest).")
    for one in measured:
        mapping = one.evaluation.overall.mapping
        if mapping and mapping.remark:
            remarks.append(f"{one.dataset}: {mapping.remark}.")
    return remarks


def _subset_rows(measured: Sequence[Measured]) -> list[list[Any]]:
    found = []
    for one in measured:
        for name, subset in one.evaluation.subsets.items():
            figures = subset.figures
            numbers = ["-"] * 5
            if figures:
                rest = (figures.plcc, figures.plcc_mapped, figures.krcc, figures.rmse)
                numbers = [_figure(figures.srcc, subset.interval), *map(_number, rest)]
            found.append([one.dataset, name, subset.n, subset.failed, *numbers])
    return found


def table(columns: Sequence[str], cells: Sequence[Sequence[Any]]) -> str:
    """Write a Markdown table."""
    lines = [columns, ["---"] * len(columns), *cells]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
